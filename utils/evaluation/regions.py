"""Exact metrics of pixels, of defect regions and of single images, from the sort of ``levels``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from skimage.measure import label

from utils.evaluation.levels import CHUNK, Negatives, Positives, corners, steps
from utils.evaluation.metric_names import PIMO_RATES, PRO_LIMIT, STRICT_PRO_LIMIT
from utils.evaluation.metrics import Curve, Ranking, ranking_of, thinned


@dataclass(frozen=True)
class PixelMetrics:
    """The metrics of the anomaly maps of a class.

    Attributes:
        ranking: of all pixels together.
        pro: per-region overlap: the mean share of a defect region found, integrated over the false
            positive rate up to ``PRO_LIMIT`` and divided by it.
        pro_strict: the same up to ``STRICT_PRO_LIMIT``.
        pro_curve: false positive rate and mean share, up to ``PRO_LIMIT``.
        aupimo: see ``_aupimo``; None without good images.
    """

    ranking: Ranking
    pro: float
    pro_strict: float
    pro_curve: Curve
    aupimo: float | None


def measure_pixels(
    maps: torch.Tensor, masks: torch.Tensor, is_good: torch.Tensor
) -> PixelMetrics | None:
    """Measure the maps of a class.

    Args:
        maps: anomaly maps, float (n, height, width).
        masks: bool (n, height, width), on the CPU.
        is_good: bool (n,), on the CPU: the images without a defect.

    Returns:
        The metrics; None if there is no defective or no normal pixel.
    """
    if masks.all() or not masks.any():
        return None
    if maps.device.type == "mps":  # MPS has no float64
        maps = maps.cpu()
    try:
        return _measure_pixels(maps, masks, is_good)
    except torch.OutOfMemoryError:  # the host has more memory
        return _measure_pixels(maps.cpu(), masks, is_good)


def _measure_pixels(maps: torch.Tensor, masks: torch.Tensor, is_good: torch.Tensor) -> PixelMetrics:
    positives = Positives.sort(maps[masks.to(maps.device)])
    good = positives.count(normal_pixels(maps, masks, is_good))
    negatives = good + positives.count(normal_pixels(maps, masks, ~is_good))
    regions = mean_share(positives, *region_weights(masks.numpy()))
    pro, curve = overlap(negatives, regions, PRO_LIMIT)
    return PixelMetrics(
        ranking_of(positives, negatives),
        pro,
        overlap(negatives, regions, STRICT_PRO_LIMIT)[0],
        curve,
        _aupimo(good, mean_share(positives, *_image_weights(masks.numpy()))) if good.n else None,
    )


def normal_pixels(
    maps: torch.Tensor, masks: torch.Tensor, chosen: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The scores of the normal pixels of the chosen images, a few images at a time."""
    n_images = max(1, CHUNK // maps[0].numel())
    for index in chosen.nonzero().flatten().split(n_images):
        yield maps[index.to(maps.device)][~masks[index].to(maps.device)]


def region_weights(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """1 / (area of its region) for every defective pixel, image by image, and the region count.

    A region is an 8-connected component of one image's mask.
    """
    weights, n_regions = [], 0
    for mask in masks[masks.any(axis=(1, 2))]:
        regions, count = label(mask, connectivity=2, return_num=True)
        regions = regions[mask]
        weights.append((1.0 / np.bincount(regions, minlength=count + 1).clip(1))[regions])
        n_regions += count
    return np.concatenate(weights), n_regions


def _image_weights(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """The same as ``region_weights`` with all defective pixels of an image as one region."""
    areas = masks.sum(axis=(1, 2))
    areas = areas[areas > 0]
    return np.repeat(1.0 / areas, areas), len(areas)


def mean_share(positives: Positives, weights: np.ndarray, count: int) -> torch.Tensor:
    """The mean share of ``count`` regions that is found at every level, float64 (K,)."""
    ordered = torch.from_numpy(weights).to(positives.order.device)[positives.order]
    return ordered.cumsum(0)[positives.hits - 1] / count


def overlap(negatives: Negatives, found: torch.Tensor, limit: float) -> tuple[float, Curve]:
    """PRO up to a false positive rate, from the mean share ``found`` (K,) at every level."""
    rate = negatives.rates()
    share = corners(found - steps(found), found)
    inside = int((rate <= limit).sum())  # corners up to the limit
    # The curve crosses the limit on the way to the next corner.
    rate, share = rate[: inside + 1], share[: inside + 1]
    (low, high), (start, end) = rate[-2:].tolist(), share[-2:].tolist()
    rate[-1] = limit
    share[-1] = start + (end - start) * (limit - low) / (high - low)
    return min(1.0, float(torch.trapezoid(share, rate)) / limit), thinned(rate, share)


def _aupimo(good: Negatives, found: torch.Tensor) -> float:
    """Area under the per-image overlap curve (AUPIMO; Bertoldo et al. 2024, arXiv 2401.01984).

    The mean over defective images of the share of an image's defective pixels found, integrated
    over the logarithm of the shared false positive rate: the mean over good images of the share
    of their pixels flagged. All maps have one size, so that it is the share of all their pixels.

    Args:
        good: counts of the pixels of good images.
        found: mean share (K,).
    """
    low, high = (math.log(rate) for rate in PIMO_RATES)
    rate = good.rates().log().cpu().numpy()
    share = corners(found - steps(found), found).cpu().numpy()
    return min(1.0, float(area(rate, share, low, high)) / (high - low))  # it rounds above 1


def area(x: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """The area under curves of straight lines between two abscissae.

    Args:
        x: rising along the last axis; may begin at minus infinity.
        y: of the same shape.
        low, high: the abscissae; ``x`` reaches ``high``.
    """
    x0, x1, y0, rise = x[..., :-1], x[..., 1:], y[..., :-1], np.diff(y)
    with np.errstate(invalid="ignore"):  # from minus infinity to minus infinity
        width = x1 - x0
    is_sloped = (width > 0) & (width < np.inf)
    slope = np.divide(rise, width, out=np.zeros_like(rise), where=is_sloped)
    start, end = x0.clip(low, high), x1.clip(low, high)
    middle = np.where(is_sloped, (start + end) / 2 - x0, 0.0)
    return ((y0 + slope * middle) * (end - start)).sum(axis=-1)
