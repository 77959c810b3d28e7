"""Saturated per-region overlap (sPRO; Bergmann et al., *Beyond Dents and Scratches*, 2022).

Only a part of a defect has to be found: a missing pushpin may be anywhere in its compartment. The
share found is divided by the share that suffices, and is at most 1. A region is the content of one
mask file, in one or several pieces; regions may overlap.

As in the evaluation code of MVTec LOCO AD, the curve is computed for each kind of defective images
(logical, structural) together with all good images, integrated up to a false positive rate of 0.05
and divided by it. ``spro`` is the mean over the kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from datasets.loading.defect_regions import DefectRegion
from datasets.types import GOOD
from utils.evaluation.levels import Positives
from utils.evaluation.metric_names import STRICT_PRO_LIMIT
from utils.evaluation.regions import area, mean_share, normal_pixels, overlap


def saturated_overlaps(
    maps: torch.Tensor, masks: torch.Tensor, regions: Sequence[DefectRegion], defects: Sequence[str]
) -> dict[str, float]:
    """The integrated overlap of every kind of defective images that has a region.

    Args:
        maps: anomaly maps, float (n, height, width).
        masks: bool (n, height, width), on the CPU: all regions of an image together.
        regions: of the images.
        defects: the kind of each image, n of them.
    """
    maps = maps.cpu()
    values = {}
    for kind in sorted({defects[region.image] for region in regions}):
        chosen = torch.tensor([defect in (GOOD, kind) for defect in defects])
        own = [region for region in regions if defects[region.image] == kind]
        scores = [maps[region.image][torch.from_numpy(region.mask)] for region in own]
        weights = np.concatenate([_weights(*pair) for pair in zip(scores, own, strict=True)])
        positives = Positives.sort(torch.cat(scores))
        negatives = positives.count(normal_pixels(maps, masks, chosen))
        if negatives.n:
            found = mean_share(positives, weights, len(own))
            values[kind] = overlap(negatives, found, STRICT_PRO_LIMIT)[0]
    return values


def _weights(scores: torch.Tensor, region: DefectRegion) -> np.ndarray:
    """What each pixel of a region adds to the share found, the highest pixels first."""
    n = len(scores)
    shares = np.minimum(np.arange(n + 1) / (region.saturation * n), 1.0)
    weights = np.empty(n)
    weights[scores.argsort(descending=True).numpy()] = np.diff(shares)
    return weights


@dataclass(frozen=True)
class SaturatedTable:
    """Shares of every image at G thresholds, the highest first, for resampling whole images.

    Attributes:
        kinds: by kind of defective images, which images it has, bool (n,).
        n_regions: of every image, float64 (n,).
        found: sum over the regions of an image of the saturated share found, float64 (n, G).
    """

    kinds: Mapping[str, np.ndarray]
    n_regions: np.ndarray
    found: np.ndarray

    @classmethod
    def count(
        cls,
        maps: torch.Tensor,
        regions: Sequence[DefectRegion],
        defects: Sequence[str],
        thresholds: torch.Tensor,
    ) -> SaturatedTable:
        """Count at ``thresholds`` (G,); the other arguments are those of ``saturated_overlaps``."""
        n_regions, found = np.zeros(len(maps)), np.zeros((len(maps), len(thresholds)))
        rising = thresholds.cpu().flip(0)
        for region in regions:
            scores = maps[region.image].cpu()[torch.from_numpy(region.mask)]
            reached = torch.searchsorted(rising, scores, right=True)
            counts = torch.bincount(reached, minlength=len(rising) + 1)[1:].flip(0).cumsum(0)
            share = counts.numpy() / (region.saturation * len(scores))
            found[region.image] += np.minimum(share, 1.0)
            n_regions[region.image] += 1
        kinds = sorted({defects[region.image] for region in regions})
        return cls({kind: np.array(defects) == kind for kind in kinds}, n_regions, found)

    def weighted(self, false: np.ndarray, is_good: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The mean over the kinds in each of B draws, float64 (B,).

        Args:
            false: normal pixels at or above each threshold, float64 (n, G).
            is_good: bool (n,).
            weights: how often each image is drawn, float64 (B, n).
        """
        values = []
        for kind in self.kinds.values():
            chosen = kind | is_good
            rate, found = weights[:, chosen] @ false[chosen], weights[:, kind] @ self.found[kind]
            count = weights[:, kind] @ self.n_regions[kind]
            curves = (rate / rate[:, -1:], found / count[:, None])
            x, y = (np.pad(curve, ((0, 0), (1, 0))) for curve in curves)
            values.append(area(x, y, 0.0, STRICT_PRO_LIMIT) / STRICT_PRO_LIMIT)
        return np.mean(values, axis=0)
