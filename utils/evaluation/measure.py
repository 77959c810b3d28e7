"""The measuring of a class: from the scores of its test images to its record."""

from __future__ import annotations

import numpy as np
import torch

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from datasets.types import AnomalyClass
from padim.calibration import Calibration, is_above
from utils.evaluation.class_record import (
    ClassRecord,
    CurvePoints,
    ImageRecord,
    ImageThreshold,
    Threshold,
)
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.metrics import Curve, Ranking, RegionOverlap, misranked, rank, rank_pixels

PAPER_ORDER = TEXTURES + OBJECTS


def measure_class(
    item: AnomalyClass, scored: ClassScores, calibration: Calibration | None, rate: float
) -> ClassRecord:
    """The record of a class, without its figures, time and digest.

    Args:
        item: the class.
        scored: its test images.
        calibration: of the model; None if it has none.
        rate: false positive rate of the thresholds.
    """
    labels = _labels(item)
    ranking, pixels, overlap = _rankings(item, scored)
    threshold = _image_threshold(calibration, rate)
    shares = _flagged_shares(threshold, scored.scores, labels)
    return ClassRecord(
        class_name=item.name,
        order=(*PAPER_ORDER, item.name).index(item.name),
        metrics=metrics(ranking, pixels, overlap) | shares,
        n_train=len(item.train),
        n_test=len(item.test),
        seconds=None,
        notes=_notes(item, labels, pixels) + _calibration_notes(calibration, rate, len(item.train)),
        threshold=choose_threshold(calibration, rate, ranking, pixels),
        image_threshold=threshold,
        curves={
            "image_roc": _points(ranking.roc) if ranking else None,
            "pixel_roc": _points(pixels.roc) if pixels else None,
            "pro": _points(overlap.curve) if overlap else None,
        },
        images=_image_records(item, scored, labels, calibration, threshold),
        data_digest=None,
    )


def measure_numbers(item: AnomalyClass, scored: ClassScores) -> dict[str, float | None]:
    """The metrics of a class alone, for those who need no record."""
    return metrics(*_rankings(item, scored))


def _labels(item: AnomalyClass) -> np.ndarray:
    return np.array([sample.is_defective for sample in item.test])


def _rankings(
    item: AnomalyClass, scored: ClassScores
) -> tuple[Ranking | None, Ranking | None, RegionOverlap | None]:
    """The rankings of images and of pixels, and the overlap of regions."""
    ranking = rank(torch.from_numpy(scored.scores), torch.from_numpy(_labels(item)))
    if not item.has_masks:
        return ranking, None, None
    pixels, overlap = rank_pixels(scored.maps, torch.from_numpy(scored.masks))
    return ranking, pixels, overlap


def metrics(
    ranking: Ranking | None, pixels: Ranking | None, overlap: RegionOverlap | None
) -> dict[str, float | None]:
    """The metrics by name, of images, pixels and regions; None for a metric that does not exist."""
    return {
        **_ranking_metrics("image", ranking),
        **_ranking_metrics("pixel", pixels),
        "pro": overlap.pro if overlap else None,
    }


def _ranking_metrics(level: str, ranking: Ranking | None) -> dict[str, float | None]:
    return {
        f"{level}_auroc": ranking.auroc if ranking else None,
        f"{level}_ap": ranking.average_precision if ranking else None,
        f"{level}_f1": ranking.best_f1 if ranking else None,
    }


def _image_threshold(calibration: Calibration | None, rate: float) -> ImageThreshold | None:
    """The threshold of the image scores, at a rate that so many training images can promise."""
    if calibration is None:
        return None
    used = max(rate, calibration.finest_rate)
    return ImageThreshold(calibration.image_threshold(used), used, rate)


def _flagged_shares(
    threshold: ImageThreshold | None, scores: np.ndarray, labels: np.ndarray
) -> dict[str, float | None]:
    """The shares of the good and of the defective test images that are flagged as defective."""
    shares: dict[str, float | None] = {"false_alarms": None, "detections": None}
    if threshold is None:
        return shares
    flagged = is_above(scores, threshold.value)
    for name, chosen in (("false_alarms", ~labels), ("detections", labels)):
        n_flagged, n_chosen = int(flagged[chosen].sum()), int(chosen.sum())
        shares[name] = n_flagged / n_chosen if n_chosen else None
    return shares


def choose_threshold(
    calibration: Calibration | None,
    rate: float,
    ranking: Ranking | None = None,
    pixels: Ranking | None = None,
) -> Threshold:
    """The threshold of the predicted masks.

    A model of two training images has no calibration. Then only the labels of the test set are
    left to choose a threshold by.
    """
    if calibration is not None:
        name = f"{100 * rate:g} % of normal pixels"
        return Threshold(calibration.pixel_threshold(rate), name)
    if pixels:
        return Threshold(pixels.threshold, "oracle: best pixel F1")
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


def _notes(item: AnomalyClass, labels: np.ndarray, pixels: Ranking | None) -> tuple[str, ...]:
    if labels.all() or not labels.any():
        kind = "defective" if labels.all() else "good"
        return (f"all test images are {kind}: there is no metric that ranks the two kinds",)
    if not item.has_masks:
        return ("no ground truth masks: image-level numbers only",)
    if pixels is None:
        return ("all masks are black, or all white, within the crop: image-level numbers only",)
    return ()


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
