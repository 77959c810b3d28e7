"""Exact metrics and curves, all of them from one sort of the scores of the positives.

A curve is straight between two scores of positives, so its corners describe it completely. The
positives are sorted once, highest first. The negatives are only counted: for each positive, how
many score higher and how many score the same. These counts give every corner of the ROC, PR and
PRO curves and every metric, in little more memory than the few positives take. Counts are int64,
sums are float64.

The computation runs on the device of the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from skimage.measure import label

PRO_LIMIT = 0.3  # false positive rate up to which PRO is integrated (Bergmann et al. 2020)
CURVE_POINTS = 400  # of a drawn curve, per axis
CHUNK = 2**22  # scores whose place among the positives is looked up at once


@dataclass(frozen=True)
class Curve:
    """Points to draw, from (0, 0) on. They are thinned; metrics are computed from all points."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """How well scores rank positives above negatives.

    Attributes:
        auroc: area under the ROC curve.
        average_precision: step-wise area under the precision-recall curve.
        best_f1: the highest F1 of all thresholds. An oracle number: its threshold is chosen on the
            labels.
        threshold: scores above it give ``best_f1``.
        roc: false positive rate and true positive rate.
    """

    auroc: float
    average_precision: float
    best_f1: float
    threshold: float
    roc: Curve


@dataclass(frozen=True)
class RegionOverlap:
    """Per-region overlap (PRO): the mean share of a defect region found, up to ``PRO_LIMIT``.

    Attributes:
        pro: area under the curve up to the limit, divided by the limit.
        curve: false positive rate and mean overlap.
    """

    pro: float
    curve: Curve


def rank(scores: torch.Tensor, labels: torch.Tensor) -> Ranking | None:
    """Rank scores against labels.

    Args:
        scores: any shape, higher is more anomalous.
        labels: bool, the same shape.

    Returns:
        The ranking; None if all labels are equal, because no ranking is defined then.
    """
    levels, _ = _levels(scores.flatten(), labels.flatten().to(scores.device))
    return None if levels is None else _ranking(levels)


def rank_pixels(
    maps: torch.Tensor, masks: torch.Tensor
) -> tuple[Ranking | None, RegionOverlap | None]:
    """Rank all pixels of a class together, and measure the overlap of its defect regions.

    Args:
        maps: anomaly maps, float (n, height, width).
        masks: bool (n, height, width), on the CPU.

    Returns:
        Both None if there is no defective or no normal pixel.
    """
    if maps.device.type == "mps":  # MPS has no float64
        maps = maps.cpu()
    try:
        return _rank_pixels(maps, masks)
    except torch.OutOfMemoryError:  # the host has more memory
        return _rank_pixels(maps.cpu(), masks)


def _rank_pixels(
    maps: torch.Tensor, masks: torch.Tensor
) -> tuple[Ranking | None, RegionOverlap | None]:
    levels, order = _levels(maps.flatten(), masks.flatten().to(maps.device))
    if levels is None:
        return None, None
    weights, n_regions = region_weights(masks.numpy())
    found = torch.from_numpy(weights).to(maps.device)[order].cumsum(0)[levels.hits - 1]
    return _ranking(levels), _overlap(levels, found / n_regions)


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


def misranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """For every image, the share of the other kind that it is ranked wrongly against.

    A defective image is ranked wrongly against good ones that score higher, a good image against
    defective ones that score lower. A tie counts half. The mean over either kind is 1 - AUROC.

    Args:
        scores: float (n,).
        labels: 1 or True if defective (n,).

    Returns:
        float64 (n,), 0 to 1; None if one kind is missing.
    """
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        return None
    good, defective = np.sort(scores[~labels]), np.sort(scores[labels])
    wrong = np.empty(len(scores))
    wrong[labels] = 1 - _share_below(good, scores[labels])
    wrong[~labels] = _share_below(defective, scores[~labels])
    return wrong


def _share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of the ordered numbers below each of the values; equal ones count half."""
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return (below + not_above) / (2 * len(ordered))


@dataclass(frozen=True)
class _Levels:
    """What is flagged at and above each of the K distinct scores of positives, the levels.

    Attributes:
        scores: those scores, highest first.
        hits: positives that score at least as high, int64.
        false: negatives that score at least as high, int64.
        tied: negatives with exactly that score, int64.
        n_positive: number of positives.
        n_negative: number of negatives.
    """

    scores: torch.Tensor
    hits: torch.Tensor
    false: torch.Tensor
    tied: torch.Tensor
    n_positive: int
    n_negative: int

    def corners(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """The two corners of a curve at every level, between its first and its last point."""
        ends = after.new_zeros(1), after[-1:]
        return torch.cat((ends[0], torch.stack((before, after), dim=1).flatten(), ends[1]))

    def false_positive_rates(self) -> torch.Tensor:
        """Of every corner: from 0 to 1."""
        counts = self.corners(self.false - self.tied, self.false).double()
        counts[-1] = self.n_negative
        return counts.div_(self.n_negative)


def _levels(
    scores: torch.Tensor, labels: torch.Tensor
) -> tuple[_Levels | None, torch.Tensor | None]:
    """The levels of scores (n,) with labels (n,), and the order of the positives, highest first.

    Both None if one kind is missing.
    """
    ordered, order = scores[labels].sort(descending=True)
    n_positive, n_negative = len(ordered), len(scores) - len(ordered)
    if n_positive == 0 or n_negative == 0:
        return None, None
    values, counts = ordered.unique_consecutive(return_counts=True)
    rising = values.flip(0)
    n_levels = len(values)
    above = torch.zeros(n_levels + 1, dtype=torch.int64, device=scores.device)
    tied = torch.zeros_like(above)
    for chunk, is_positive in zip(scores.split(CHUNK), labels.split(CHUNK), strict=True):
        negatives = chunk[~is_positive]
        reached = torch.searchsorted(rising, negatives, right=True, out_int32=True)
        above += torch.bincount(reached, minlength=n_levels + 1)  # exactly that many levels
        ties = reached[negatives == rising[(reached - 1).clamp_(min=0)]]
        tied += torch.bincount(ties, minlength=n_levels + 1)
    # A negative that reaches the k lowest levels is flagged at each of them.
    false = above[1:].flip(0).cumsum(0)
    levels = _Levels(values, counts.cumsum(0), false, tied[1:].flip(0), n_positive, n_negative)
    return levels, order


def _ranking(levels: _Levels) -> Ranking:
    n_positive, n_negative = levels.n_positive, levels.n_negative
    gains = _steps(levels.hits)
    # Twice the number of pairs in the right order; a tie is half a pair.
    doubled = gains * (2 * (n_negative - levels.false) + levels.tied)
    auroc = int(doubled.sum()) / (2 * n_positive * n_negative)
    flagged = (levels.hits + levels.false).double()
    average_precision = float((levels.hits / flagged * gains).sum() / n_positive)
    f1 = 2 * levels.hits / (flagged + n_positive)
    best = int(f1.argmax())
    hits = levels.corners(levels.hits - gains, levels.hits).double()
    roc = _thinned(levels.false_positive_rates(), hits.div_(n_positive))
    # Levels count the scores at and above them; the decision rule is above.
    threshold = torch.nextafter(levels.scores[best], levels.scores.new_tensor(-math.inf))
    return Ranking(auroc, average_precision, float(f1[best]), float(threshold), roc)


def _overlap(levels: _Levels, found: torch.Tensor) -> RegionOverlap:
    """PRO from the mean share of the regions that is ``found`` (K,) at every level."""
    rate = levels.false_positive_rates()
    share = levels.corners(found - _steps(found), found)
    inside = int((rate <= PRO_LIMIT).sum())  # corners up to the limit
    # The curve crosses the limit on the way to the next corner.
    rate, share = rate[: inside + 1], share[: inside + 1]
    (low, high), (start, end) = rate[-2:].tolist(), share[-2:].tolist()
    rate[-1] = PRO_LIMIT
    share[-1] = start + (end - start) * (PRO_LIMIT - low) / (high - low)
    area = float(torch.trapezoid(share, rate))
    return RegionOverlap(area / PRO_LIMIT, _thinned(rate, share))


def _steps(counts: torch.Tensor) -> torch.Tensor:
    """How much a cumulative count grows at each point."""
    return counts.diff(prepend=counts.new_zeros(1))


def _thinned(x: torch.Tensor, y: torch.Tensor) -> Curve:
    """The points of a rising curve that are nearest to an even grid on either axis."""
    grid = torch.linspace(0.0, 1.0, CURVE_POINTS, dtype=x.dtype, device=x.device)
    ends = torch.tensor([len(x) - 1], device=x.device)
    kept = (torch.searchsorted(axis, grid * axis[-1]) for axis in (x, y))
    index = torch.cat((*kept, ends)).clamp(max=len(x) - 1).unique()
    return Curve(x[index].cpu().numpy(), y[index].cpu().numpy())
