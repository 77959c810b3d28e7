"""The single defects of test images, for the metric that needs them (sPRO)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.masks import read_mask
from datasets.types import AnomalyClass, DataError, Saturation
from padim.preprocessing import Preprocessing
from padim.reading.image_file import decode


@dataclass(frozen=True)
class DefectRegion:
    """One defect of one test image: the content of one mask file, in one or several pieces.

    Attributes:
        image: index of the test image.
        mask: bool (crop, crop), not empty.
        saturation: the share of its pixels that suffices for the defect to count as found.
    """

    image: int
    mask: np.ndarray
    saturation: float


def defect_regions(item: AnomalyClass, preprocessing: Preprocessing) -> list[DefectRegion]:
    """Read the mask files of a class again, each as one defect.

    The share that suffices is computed at the size of the mask file, for which the data set defines
    it. Defects without a pixel in the crop are left out.

    Args:
        item: a class that has saturations.
        preprocessing: of its images.

    Raises:
        DataError: a mask cannot be read, or its values are not those of one kind of defect.
    """
    saturations = {one.label: one for one in item.saturations}
    regions = []
    for index, sample in enumerate(item.test):
        how = preprocessing.of(sample.path)
        for path in sample.files[1:]:
            defect = read_mask(path, sample.path)
            if defect.any():
                share = _share(saturations[_label(path, saturations)], int(defect.sum()))
                mask = how.crop_of_mask(defect).numpy()
                regions += [DefectRegion(index, mask, share)] if mask.any() else []
    return regions


def _label(path: Path, known: dict[int, Saturation]) -> int:
    levels, _ = decode(path, lambda part, _: part)
    values = np.unique(levels[levels > 0]).tolist()
    if len(values) != 1 or values[0] not in known:
        raise DataError(
            f"mask {path} holds the values {', '.join(map(str, values[:5]))}; expected one, that "
            "of a defect in defects_config.json"
        )
    return int(values[0])


def _share(saturation: Saturation, area: int) -> float:
    """The share of a defect that suffices, in whole pixels, at least one."""
    if saturation.is_relative:
        return max(int(saturation.threshold * area), 1) / area
    return min(saturation.threshold, area) / area
