"""Measure a class: from the scores of its test images to its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from datasets.loading.defect_regions import DefectRegion
from datasets.types import AnomalyClass
from padim.calibration import Calibration, is_above
from utils.evaluation.bootstrap import ScoredSet
from utils.evaluation.class_record import (
    ClassRecord,
    CurvePoints,
    ImageRecord,
    ImageThreshold,
    Threshold,
)
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.decisions import PixelCounts, flagged_shares
from utils.evaluation.draws import pack
from utils.evaluation.metric_names import METRICS, RECALL_RATES
from utils.evaluation.metrics import Curve, Ranking, misranked, rank
from utils.evaluation.pixel_table import PixelTables
from utils.evaluation.regions import PixelMetrics, measure_pixels
from utils.evaluation.saturation import SaturatedTable, saturated_overlaps

PAPER_ORDER = TEXTURES + OBJECTS


def measure_class(
    item: AnomalyClass,
    scored: ClassScores,
    calibration: Calibration | None,
    rate: float,
    regions: Sequence[DefectRegion] = (),
) -> ClassRecord:
    """The record of a class, without its figures, time and checksums.

    Args:
        item: the class.
        scored: its test images.
        calibration: of the model; None if it has none.
        rate: false positive rate of the thresholds.
        regions: its defects one by one, if the data set has saturations.
    """
    ranked = _Ranked.of(item, scored, regions)
    labels, pixels = ranked.labels, ranked.pixels
    image_threshold = _image_threshold(calibration, rate)
    pixel_threshold = None if calibration is None else calibration.pixel_threshold(rate)
    images = _scored_set(item, scored, ranked, image_threshold, pixel_threshold, regions)
    metrics = dict.fromkeys(METRICS) | ranked.metrics() | _decided(images)
    return ClassRecord(
        class_name=item.name,
        order=(*PAPER_ORDER, item.name).index(item.name),
        metrics=metrics,
        draws=_packed_draws(images, metrics) if item.test else {},
        n_train=len(item.train),
        n_test=len(item.test),
        seconds=None,
        notes=(
            *_notes(item, labels, pixels),
            *_overlap_notes(ranked.overlaps),
            *(() if item.test else _training_notes(calibration, rate)),
            *_calibration_notes(calibration, rate, len(item.train)),
        ),
        threshold=choose_threshold(calibration, rate, ranked.images, pixels),
        image_threshold=image_threshold,
        curves={
            "image_roc": _points(ranked.images.roc) if ranked.images else None,
            "pixel_roc": _points(pixels.ranking.roc) if pixels else None,
            "pro": _points(pixels.pro_curve) if pixels else None,
        },
        images=_image_records(item, scored, labels, calibration, image_threshold),
        data_digest=None,
        image_checksum=None,
    )


def _packed_draws(images: ScoredSet, metrics: Mapping[str, float | None]) -> dict[str, str]:
    drawn = images.drawn()
    return {name: pack(drawn[name]) for name in drawn if metrics[name] is not None}


def measure_numbers(item: AnomalyClass, scored: ClassScores) -> dict[str, float | None]:
    """The metrics of a class that need no threshold, without a record."""
    return _Ranked.of(item, scored).metrics()


@dataclass(frozen=True)
class _Ranked:
    """Results that need no threshold; None if a kind of image or pixel is missing."""

    labels: np.ndarray
    images: Ranking | None
    pixels: PixelMetrics | None
    overlaps: Mapping[str, float] = field(default_factory=dict)  # sPRO by kind of defects

    @classmethod
    def of(
        cls, item: AnomalyClass, scored: ClassScores, regions: Sequence[DefectRegion] = ()
    ) -> _Ranked:
        labels = np.array([sample.is_defective for sample in item.test], bool)
        if not item.test:
            return cls(labels, None, None)
        is_defective = torch.from_numpy(labels)
        images = rank(torch.from_numpy(scored.scores), is_defective, tuple(RECALL_RATES.values()))
        pixels, overlaps = None, {}
        masks = torch.from_numpy(scored.masks)
        if item.has_masks:
            pixels = measure_pixels(scored.maps, masks, ~is_defective)
        if pixels is not None:
            overlaps = saturated_overlaps(scored.maps, masks, regions, _defects(item))
        return cls(labels, images, pixels, overlaps)

    def metrics(self) -> dict[str, float | None]:
        """The metrics by name; None for a metric that does not exist."""
        recalls = self.images.recalls if self.images else (None,) * len(RECALL_RATES)
        return {
            **_ranking_metrics("image", self.images),
            **_ranking_metrics("pixel", self.pixels.ranking if self.pixels else None),
            "pro": self.pixels.pro if self.pixels else None,
            **dict(zip(RECALL_RATES, recalls, strict=True)),
            "pro_fpr5": self.pixels.pro_strict if self.pixels else None,
            "aupimo": self.pixels.aupimo if self.pixels else None,
            "spro": float(np.mean([*self.overlaps.values()])) if self.overlaps else None,
        }


def _ranking_metrics(level: str, ranking: Ranking | None) -> dict[str, float | None]:
    return {
        f"{level}_auroc": ranking.auroc if ranking else None,
        f"{level}_ap": ranking.average_precision if ranking else None,
        f"{level}_f1": ranking.best_f1 if ranking else None,
    }


def _image_threshold(calibration: Calibration | None, rate: float) -> ImageThreshold | None:
    """The threshold of the image scores, at a rate possible for this number of images."""
    if calibration is None:
        return None
    used = max(rate, calibration.finest_rate)
    return ImageThreshold(calibration.image_threshold(used), used, rate)


def _scored_set(
    item: AnomalyClass,
    scored: ClassScores,
    ranked: _Ranked,
    image_threshold: ImageThreshold | None,
    pixel_threshold: float | None,
    regions: Sequence[DefectRegion],
) -> ScoredSet:
    """The input of the bootstrap, image by image."""
    is_flagged = tables = counts = saturated = None
    if ranked.pixels is not None:
        masks, is_good = torch.from_numpy(scored.masks), torch.from_numpy(~ranked.labels)
        tables = PixelTables.of_maps(scored.maps, masks, is_good)
    if tables is not None and ranked.overlaps:
        saturated = SaturatedTable.count(scored.maps, regions, _defects(item), tables.thresholds)
    if image_threshold is not None:
        is_flagged = is_above(scored.scores, image_threshold.value)
    if pixel_threshold is not None and ranked.pixels is not None:
        counts = PixelCounts.at(pixel_threshold, scored.maps, scored.masks)
    return ScoredSet(item.name, ranked.labels, scored.scores, is_flagged, tables, counts, saturated)


def _defects(item: AnomalyClass) -> list[str]:
    return [sample.defect for sample in item.test]


def _decided(images: ScoredSet) -> dict[str, float | None]:
    """The metrics of the thresholds that are learned from the training images."""
    once = np.ones((1, len(images.labels)))
    values = {} if images.counts is None else images.counts.metrics(once)
    if images.is_flagged is not None:
        with np.errstate(invalid="ignore"):
            values |= flagged_shares(images.is_flagged, images.labels, once)
    return {name: float(v[0]) if np.isfinite(v[0]) else None for name, v in values.items()}


def choose_threshold(
    calibration: Calibration | None,
    rate: float,
    ranking: Ranking | None = None,
    pixels: PixelMetrics | None = None,
) -> Threshold:
    """The threshold of the predicted masks.

    A model of two training images has no calibration. Then the threshold is chosen by the labels
    of the test set.
    """
    if calibration is not None:
        name = f"{100 * rate:g} % of normal pixels"
        return Threshold(calibration.pixel_threshold(rate), name)
    if pixels:
        return Threshold(pixels.ranking.threshold, "oracle: best pixel F1")
    if ranking:
        return Threshold(ranking.threshold, "oracle: best image F1")
    return Threshold(None, "none: there are no labels to choose it by")


def _image_records(
    item: AnomalyClass,
    scored: ClassScores,
    labels: np.ndarray,
    calibration: Calibration | None,
    threshold: ImageThreshold | None,
) -> tuple[ImageRecord, ...]:
    wrong = misranked(scored.scores, labels)
    p_values = None
    if calibration is not None:
        p_values = calibration.p_values(torch.from_numpy(scored.scores)).tolist()
    return tuple(
        ImageRecord(
            path=item.path_of(sample),
            defect=sample.defect,
            label=int(sample.is_defective),
            score=float(score),
            p_value=None if p_values is None else p_values[index],
            is_defective=None if threshold is None else is_above(float(score), threshold.value),
            misranked=None if wrong is None else float(wrong[index]),
            figure=None,
        )
        for index, (sample, score) in enumerate(zip(item.test, scored.scores, strict=True))
    )


def _notes(item: AnomalyClass, labels: np.ndarray, pixels: PixelMetrics | None) -> tuple[str, ...]:
    if not len(labels):
        return ()
    if labels.all() or not labels.any():
        kind = "defective" if labels.all() else "good"
        return (f"all test images are {kind}: there is no metric that ranks the two kinds",)
    if not item.has_masks:
        return ("no ground truth masks: image-level numbers only",)
    if pixels is None:
        return ("all masks are black, or all white, within the crop: image-level numbers only",)
    return ()


def _overlap_notes(overlaps: Mapping[str, float]) -> tuple[str, ...]:
    """The numbers whose mean is ``spro``."""
    if len(overlaps) < 2:
        return ()
    values = ", ".join(f"{kind} {value:.3f}" for kind, value in overlaps.items())
    return (f"spro is the mean of {values}",)


def _training_notes(calibration: Calibration | None, rate: float) -> tuple[str, ...]:
    """The record of a class without test images."""
    if calibration is None:
        return ("no test images: the model is fitted",)
    scores, threshold = calibration.image_scores, calibration.image_threshold(rate)
    low, high = float(scores.min()), float(scores.max())
    return (
        f"no test images: the model is fitted and calibrated. Training images, each left out of "
        f"its model, score {low:.5g} to {high:.5g}; an image above {threshold:.5g} is defective",
    )


def _calibration_notes(
    calibration: Calibration | None, rate: float, n_train: int
) -> tuple[str, ...]:
    if calibration is None:
        return (
            "two training images are too few to leave one out: no threshold but the test set's",
        )
    if rate < calibration.finest_rate:
        finest = f"{100 * calibration.finest_rate:.2g} %"
        return (
            f"{n_train} training images: thresholds are for a false alarm rate of {finest}, "
            "the lowest that so few can promise",
        )
    return ()


def _points(curve: Curve) -> CurvePoints:
    return curve.x.tolist(), curve.y.tolist()
