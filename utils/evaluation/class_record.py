"""A class evaluated: its test images scored and measured, as one record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from datasets.loading.labelled import Batch
from datasets.types import AnomalyClass
from padim.calibration import Calibration
from padim.model import PaDiM
from padim.parallel.process_group import Team
from utils.evaluation.metrics import Curve, Ranking, RegionOverlap, misranked, rank, rank_pixels


@dataclass(frozen=True)
class ClassScores:
    """The test images of a class as they were seen, and what the model gave.

    Attributes:
        images: uint8 (n, crop, crop, 3).
        masks: bool (n, crop, crop).
        maps: float32 (n, crop, crop), where the model gave them.
        scores: float32 (n,).
    """

    images: np.ndarray
    masks: np.ndarray
    maps: torch.Tensor
    scores: np.ndarray

    @classmethod
    def of_none(cls, crop: int) -> ClassScores:
        """Of a process whose share of the images is empty."""
        return cls(
            np.empty((0, crop, crop, 3), np.uint8),
            np.empty((0, crop, crop), bool),
            torch.empty(0, crop, crop),
            np.empty(0, np.float32),
        )

    def collected(self, n_images: int, team: Team) -> ClassScores | None:
        """Those of all processes, each of which has its share of ``n_images``.

        Returns:
            All of them, in the memory of the first process; None to the others.
        """
        if team.size == 1:
            return self
        found = [
            team.collected(part, n_images)
            for part in (
                torch.from_numpy(self.images),
                torch.from_numpy(self.masks.view(np.uint8)),
                self.maps,
                torch.from_numpy(self.scores),
            )
        ]
        if not team.is_first:
            return None
        images, masks, maps, scores = found
        return ClassScores(
            images.numpy(), masks.numpy().view(bool), maps.to(self.maps.device), scores.numpy()
        )


def score_class(
    model: PaDiM, batches: Iterable[Batch], taps: Iterable[list[torch.Tensor]] | None = None
) -> ClassScores:
    """Score the test images of a class, and keep what figures need of them.

    Args:
        model: fitted to the class.
        batches: its test images.
        taps: of these, where the backbone has seen them already.
    """
    seen: list[Batch] = []

    def images() -> Iterator[torch.Tensor]:
        for batch in batches:
            seen.append(batch)
            yield batch.images

    if taps is None:
        taps = model.tap_batches(images())
    else:
        seen += batches
    found = list(model.score_batches(taps))  # nothing waits for the device here
    if not found:
        return ClassScores.of_none(model.config.crop)
    return ClassScores(
        np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in seen]),
        np.concatenate([batch.masks.numpy() for batch in seen]),
        torch.cat([maps for maps, _ in found]),
        torch.cat([scores for _, scores in found]).cpu().numpy(),
    )


def list_images(
    item: AnomalyClass, scored: ClassScores, calibration: Calibration | None
) -> list[dict]:
    """Every test image with its score, its p-value and how wrongly it is ranked."""
    labels = np.array([sample.is_defective for sample in item.test])
    wrong = misranked(scored.scores, labels)
    p_values = None
    if calibration is not None:
        p_values = calibration.p_values(torch.from_numpy(scored.scores)).tolist()
    return [
        {
            "path": item.path_of(sample),
            "defect": sample.defect,
            "label": int(sample.is_defective),
            "score": float(score),
            "p_value": None if p_values is None else p_values[index],
            "misranked": None if wrong is None else float(wrong[index]),
            "figure": None,
        }
        for index, (sample, score) in enumerate(zip(item.test, scored.scores, strict=True))
    ]


def measure_class(
    item: AnomalyClass,
    scored: ClassScores,
    images: list[dict],
    calibration: Calibration | None,
    rate: float,
) -> dict:
    """The record of a class: metrics, curves, and every test image with its score.

    Args:
        item: the class.
        scored: its test images.
        images: the same as ``list_images`` has them.
        calibration: what unseen normal images score; None where it is not known.
        rate: of false alarms, that thresholds are chosen for.
    """
    labels = np.array([sample.is_defective for sample in item.test])
    ranking = rank(torch.from_numpy(scored.scores), torch.from_numpy(labels))
    pixels, overlap = None, None
    if item.has_masks:
        pixels, overlap = rank_pixels(scored.maps, torch.from_numpy(scored.masks))
    known = TEXTURES + OBJECTS
    return {
        "class": item.name,
        "order": known.index(item.name) if item.name in known else len(known),
        "metrics": metrics(ranking, pixels, overlap) | _called(calibration, rate, images),
        "totals": {"n_train": len(item.train), "n_test": len(item.test), "seconds": None},
        "notes": [
            *_notes(item, labels, pixels is not None),
            *_calibration_notes(calibration, rate),
        ],
        "threshold": choose_threshold(calibration, rate, ranking, pixels),
        "curves": {
            "image_roc": _points(ranking and ranking.roc),
            "pixel_roc": _points(pixels and pixels.roc),
            "pro": _points(overlap and overlap.curve),
        },
        "n_good": int((~labels).sum()),
        "n_defective": int(labels.sum()),
        "images": images,
    }


def metrics(
    ranking: Ranking | None, pixels: Ranking | None, overlap: RegionOverlap | None
) -> dict[str, float | None]:
    """The numbers by name: of images, of pixels and of regions; None for what does not exist."""
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


def _called(
    calibration: Calibration | None, rate: float, images: list[dict]
) -> dict[str, float | None]:
    """The shares of good and of defective test images that are called defective."""
    shares: dict[str, float | None] = {"false_alarms": None, "detections": None}
    if calibration is None:
        return shares
    limit = max(rate, calibration.finest_rate)
    for name, label in (("false_alarms", 0), ("detections", 1)):
        called = [image["p_value"] <= limit for image in images if image["label"] == label]
        shares[name] = sum(called) / len(called) if called else None
    return shares


def choose_threshold(
    calibration: Calibration | None,
    rate: float,
    ranking: Ranking | None = None,
    pixels: Ranking | None = None,
) -> dict[str, float | str | None]:
    """The threshold of the predicted masks, ``value``, and how it was found, ``name``.

    With two training images none can be left out; then only the test set's own labels are left.
    """
    if calibration is not None:
        value, name = calibration.pixel_threshold(rate), f"{100 * rate:g} % of normal pixels"
    elif pixels:
        value, name = pixels.threshold, "oracle: best pixel F1"
    elif ranking:
        value, name = ranking.threshold, "oracle: best image F1"
    else:
        value, name = None, "none, for want of labels"
    return {"value": value, "name": name}


def _notes(item: AnomalyClass, labels: np.ndarray, has_pixels: bool) -> list[str]:
    if labels.all() or not labels.any():
        kind = "defective" if labels.all() else "good"
        return [f"all test images are {kind}: no number that ranks the two kinds exists"]
    if not item.has_masks:
        return ["no ground truth masks: image-level numbers only"]
    if not has_pixels:
        return ["within the crop all masks are black, or all white: image-level numbers only"]
    return []


def _calibration_notes(calibration: Calibration | None, rate: float) -> list[str]:
    if calibration is None:
        return ["of two training images none can be left out: no threshold without the test set"]
    if rate < calibration.finest_rate:
        return [
            f"{len(calibration.image_scores)} training images: thresholds are for "
            f"{100 * calibration.finest_rate:.2g} % false alarms, the fewest that so many promise"
        ]
    return []


def _points(curve: Curve | None) -> list[list[float]] | None:
    return None if curve is None else [curve.x.tolist(), curve.y.tolist()]
