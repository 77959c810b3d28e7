"""What a model says of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from padim.regions import Region, RegionFinder, check_min_area


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result for one image.

    Attributes:
        path: the image's file; None for an image in memory.
        score: image score, the maximum of the anomaly map.
        p_value: conformal p-value, low if the image is unlikely to be normal; None for a model of
            two images, which cannot be calibrated.
        is_defective: whether ``score`` > ``threshold``; None without calibration.
        threshold: the image threshold at the false positive rate asked for; None likewise.
        anomaly_map: float32 (crop, crop), smoothed Mahalanobis distances (not squared) at every
            pixel of the crop, on the device of the model.
        size: width and height in pixels of the image, upright.
    """

    path: Path | None
    score: float
    p_value: float | None
    is_defective: bool | None
    threshold: float | None
    anomaly_map: torch.Tensor
    size: tuple[int, int]
    _finder: RegionFinder | None = field(repr=False)

    def regions(self, min_area: int = 1) -> tuple[Region, ...] | None:
        """Where the defect is: connected regions above the pixel threshold, highest peak first.

        The pixel threshold is at the false positive rate asked for: of the pixels of normal images
        that share is above it, so that normal images have regions too.

        Args:
            min_area: smallest area in pixels of the anomaly map; smaller regions are left out.

        Returns:
            The regions, in pixels of the image as it was given; None without calibration.

        Raises:
            ModelError: ``min_area`` is not a whole number from 1 up.
        """
        check_min_area(min_area)
        if self._finder is None:
            return None
        return self._finder.find(self.anomaly_map.cpu().numpy(), self.size, min_area)
