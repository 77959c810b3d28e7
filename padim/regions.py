"""Defect regions: the connected regions of an anomaly map above the pixel threshold."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import torch

from padim.calibration import is_above
from padim.errors import ModelError

if TYPE_CHECKING:
    from padim.calibration import Calibration
    from padim.preprocessing import Preprocessing


@dataclass(frozen=True)
class Region:
    """A connected region of one image whose pixels are above the pixel threshold.

    Attributes:
        box: left, top, right, bottom in pixels of the original image; right and bottom are
            exclusive. Every pixel that the region touches is inside.
        area: in pixels of the anomaly map.
        peak: the highest value of the anomaly map in the region, a Mahalanobis distance.
        position: x and y of the peak, a pixel of the original image.
        p_value: of the peak; see ``Calibration.pixel_p_values``.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    position: tuple[int, int]
    p_value: float


@dataclass(frozen=True)
class RegionFinder:
    """Finds the regions of anomaly maps.

    Attributes:
        calibration: that of the model.
        threshold: a pixel with a higher map value is defective.
        preprocessing: that of the model.
    """

    calibration: Calibration
    threshold: float
    preprocessing: Preprocessing

    def find(
        self, anomaly_map: np.ndarray, size: tuple[int, int], min_area: int = 1
    ) -> tuple[Region, ...]:
        """The regions of one image, the highest peak first.

        Args:
            anomaly_map: float32 (crop, crop).
            size: width and height of the original image in pixels.
            min_area: smallest area in pixels of the anomaly map; smaller regions are left out.
        """
        from skimage.measure import label, regionprops  # slow to import

        labels = label(is_above(anomaly_map, self.threshold), connectivity=2)
        found = [
            self._region(part.bbox, np.where(part.image, part.image_intensity, -np.inf), size)
            for part in regionprops(labels, intensity_image=anomaly_map)
            if part.area >= min_area
        ]
        return tuple(sorted(found, key=lambda region: (-region.peak, region.box)))

    def _region(
        self, bounds: tuple[int, int, int, int], values: np.ndarray, size: tuple[int, int]
    ) -> Region:
        """A region from its bounds in the map; ``values`` are minus infinity outside it."""
        top, left, bottom, right = bounds
        width, height = size
        original = self.preprocessing.to_original
        y, x = map(int, np.unravel_index(values.argmax(), values.shape))
        peak = float(values[y, x])
        return Region(
            box=(
                *(floor(original(left, width)), floor(original(top, height))),
                *(ceil(original(right, width)), ceil(original(bottom, height))),
            ),
            area=int((values > -np.inf).sum()),
            peak=peak,
            position=(
                floor(original(left + x + 0.5, width)),
                floor(original(top + y + 0.5, height)),
            ),
            p_value=self.calibration.pixel_p_values(torch.tensor([peak])).item(),
        )


def check_min_area(min_area: object) -> None:
    """Check the smallest area of a region.

    Raises:
        ModelError: it is not a whole number from 1 up.
    """
    if isinstance(min_area, bool) or not isinstance(min_area, int) or min_area < 1:
        raise ModelError(f"min_area {min_area!r}: expected a whole number from 1 up", "min_area")
