"""The decision on an image: its score against a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from datasets.loading.unlabelled import FoundImage
from padim.calibration import Calibration, is_above
from padim.preprocessing import Preprocessing
from padim.regions import Region, RegionFinder


@dataclass(frozen=True)
class Judgement:
    """The judgement of an image.

    Attributes:
        name: its path within its input.
        score: image score, a Mahalanobis distance.
        p_value: conformal p-value of the score; None for a model without calibration.
        is_defective: the decision; None for a model without calibration.
        size: width and height in pixels; (0, 0) if they are not known.
        regions: above the pixel threshold; None for a model without calibration.
    """

    name: str
    score: float
    p_value: float | None = None
    is_defective: bool | None = None
    size: tuple[int, int] = (0, 0)
    regions: tuple[Region, ...] | None = None

    @property
    def decision(self) -> str:
        """``defective``, ``normal`` or, without a decision, nothing."""
        return {True: "defective", False: "normal", None: ""}[self.is_defective]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds at a false positive rate.

    Attributes:
        requested_rate: the rate asked for; the pixel threshold is at this rate.
        rate: the rate of the image threshold, which is higher if the model was fitted on too few
            images for the requested rate.
        image: an image with a higher score is defective.
        pixel: a pixel with a higher map value is defective.
    """

    requested_rate: float
    rate: float
    image: float
    pixel: float

    @classmethod
    def at(cls, calibration: Calibration, requested_rate: float) -> Thresholds:
        """The thresholds that a calibration gives at a rate."""
        rate = max(requested_rate, calibration.finest_rate)
        image = calibration.image_threshold(rate)
        return cls(requested_rate, rate, image, calibration.pixel_threshold(requested_rate))


class Judge:
    """Decides on images with a model's calibration.

    Args:
        calibration: the model's; None if it has none.
        requested_rate: false positive rate asked for.
        embedding_dim: channels of the embeddings, d.
        preprocessing: of the model.
        min_area: smallest area of a region, in pixels of the map.

    Attributes:
        thresholds: None without calibration.
        unit: the map value that becomes 1 in maps and overlays: the pixel threshold or, if there
            is none or it is 0, the root of d, close to the distances of normal patches.
    """

    def __init__(
        self,
        calibration: Calibration | None,
        requested_rate: float,
        embedding_dim: int,
        preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 - frozen
        min_area: int = 1,
    ) -> None:
        self._calibration, self._min_area = calibration, min_area
        self.thresholds = (
            None if calibration is None else Thresholds.at(calibration, requested_rate)
        )
        pixel = self.thresholds.pixel if self.thresholds else 0.0
        self.unit = pixel if pixel > 0 else embedding_dim**0.5
        self._finder = (
            None if calibration is None else RegionFinder(calibration, pixel, preprocessing)
        )

    def judge(self, found: Sequence[FoundImage], scores: torch.Tensor) -> list[Judgement]:
        """Judge images by their scores (B,): above the threshold an image is defective."""
        pairs = list(zip(found, scores.tolist(), strict=True))
        if self._calibration is None or self.thresholds is None:
            return [Judgement(image.name, score) for image, score in pairs]
        p_values = self._calibration.p_values(scores).tolist()
        return [
            Judgement(image.name, score, p_value, is_above(score, self.thresholds.image))
            for (image, score), p_value in zip(pairs, p_values, strict=True)
        ]

    def regions(self, crop_map: np.ndarray, size: tuple[int, int]) -> tuple[Region, ...] | None:
        """The regions of an image; as ``RegionFinder.find``. Several threads may call it."""
        if self._finder is None:
            return None
        return self._finder.find(crop_map, size, self._min_area)

    def doubts(self) -> list[str]:
        """Warnings about the decisions."""
        if self._calibration is None or self.thresholds is None:
            return ["NO DECISIONS: the model was fitted on 2 images, too few to find a threshold"]
        if self.thresholds.rate > self.thresholds.requested_rate:
            n_images = len(self._calibration.image_scores)
            return [
                f"--false_alarm_rate {self.thresholds.requested_rate:g} is finer than {n_images} "
                f"training images can promise; images are judged at {self.thresholds.rate:.3g}"
            ]
        return []
