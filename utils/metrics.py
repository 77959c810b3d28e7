"""Exact metrics and curves, all of them from one sort of the scores.

Scores are ordered once, highest first. Cumulative sums of false positives, true positives and, for
PRO, of 1 / (area of the pixel's defect region) then give every point of the ROC, PR and PRO curves;
of equal scores only the last point is a point of a curve. Sums are int64 and float64.

The work is done where the scores are, so on a GPU when the maps have not left it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from skimage.measure import label

PRO_LIMIT = 0.3  # the false positive rate up to which PRO is integrated
CURVE_POINTS = 400  # kept of a curve, per axis, for drawing


@dataclass(frozen=True)
class Curve:
    """Points to draw, from (0, 0) on: thinned, while every number is computed from all of them."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """How well scores rank positives above negatives.

    Attributes:
        auroc: area under the ROC curve.
        average_precision: step-wise area under the precision-recall curve.
        best_f1: the highest F1 of any threshold, an oracle number, for the threshold is chosen on
            the labels themselves.
        threshold: the score at and above which that F1 is had.
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
        The ranking; None where the labels are all equal, for which none of it is defined.
    """
    ordered, order = _descending(scores)
    return _rank_ordered(_last_of_ties(ordered), ordered, _in_order(labels, order))


def rank_pixels(
    maps: torch.Tensor, masks: torch.Tensor
) -> tuple[Ranking | None, RegionOverlap | None]:
    """Rank all pixels of a class together, and measure the overlap of its defect regions.

    Args:
        maps: anomaly maps, float (n, height, width).
        masks: bool (n, height, width), on the CPU.

    Returns:
        Both None where there is no defective or no normal pixel.
    """
    if maps.device.type == "mps":  # which has no float64
        maps = maps.cpu()
    try:
        return _rank_pixels(maps, masks)
    except torch.OutOfMemoryError:  # some 60 bytes a pixel; the machine's memory has the room
        return _rank_pixels(maps.cpu(), masks)


def _rank_pixels(
    maps: torch.Tensor, masks: torch.Tensor
) -> tuple[Ranking | None, RegionOverlap | None]:
    scores, order = _descending(maps)
    labels = _in_order(masks, order)
    last = _last_of_ties(scores)
    ranking = _rank_ordered(last, scores, labels)
    if ranking is None:
        return None, None
    del scores
    weights, n_regions = region_weights(masks.numpy())
    weights = _in_order(torch.from_numpy(weights), order)
    del order
    return ranking, _overlap_ordered(last, labels, weights, n_regions)


def region_weights(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """1 / (area of its region) for every defective pixel, 0 elsewhere; and the number of regions.

    A region is an 8-connected component of one image's mask.
    """
    weights = np.zeros(masks.shape, dtype=np.float64)
    n_regions = 0
    for index in np.flatnonzero(masks.any(axis=(1, 2))):
        regions, count = label(masks[index], connectivity=2, return_num=True)
        areas = np.bincount(regions.ravel())
        areas[0] = 0
        weights[index] = np.divide(1.0, areas, out=np.zeros(len(areas)), where=areas > 0)[regions]
        n_regions += count
    return weights, n_regions


def misranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """For every image, the share of the other kind that it is ranked wrongly against; ties half.

    For a defective image: of the good ones, those scoring as high. For a good image: of the
    defective ones, those scoring as low. The mean over either kind is 1 - AUROC. None where one
    kind is missing.
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
    """Of the ordered numbers, the share below each of the values; equal ones count half."""
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return (below + not_above) / (2 * len(ordered))


def _rank_ordered(last: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> Ranking | None:
    n_positive = int(labels.count_nonzero())
    n_negative = len(labels) - n_positive
    if n_positive == 0 or n_negative == 0:
        return None
    true_positives = labels.cumsum(0, dtype=last.dtype).index_select(0, last)
    called = last + 1
    gains = _steps(true_positives)
    # In place from here on: a class may have hundreds of millions of pixels.
    precision = true_positives.double().div_(called)
    average_precision = float(precision.mul_(gains).sum() / n_positive)
    f1 = true_positives.double().mul_(2).div_(called + n_positive)
    best = int(f1.argmax())
    best_f1, threshold = float(f1[best]), float(scores[last[best]])
    del precision, f1

    false_positives = called.sub_(true_positives)
    # Trapezoids: width the new false positives, twice the mean height the two true positive counts.
    doubled = true_positives.double().mul_(2).sub_(gains).mul_(_steps(false_positives))
    auroc = float(doubled.sum()) / (2 * n_positive * n_negative)
    del doubled, gains
    roc = _thinned(false_positives.double() / n_negative, true_positives.double() / n_positive)
    return Ranking(auroc, average_precision, best_f1, threshold, roc)


def _overlap_ordered(
    last: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, n_regions: int
) -> RegionOverlap:
    false_positives = labels.logical_not().cumsum(0, dtype=last.dtype).index_select(0, last)
    n_negative = int(false_positives[-1])
    inside = int((false_positives <= PRO_LIMIT * n_negative).sum())  # points up to the limit
    # The curve starts at the origin, and crosses the limit on the way to its next point.
    points = slice(0, inside + 1)
    origin = weights.new_zeros(1)
    rate = torch.cat((origin, false_positives[points].double().div_(n_negative)))
    overlap = torch.cat((origin, weights.cumsum(0).index_select(0, last[points]).div_(n_regions)))
    (low, high), (start, end) = rate[-2:].tolist(), overlap[-2:].tolist()
    rate[-1] = PRO_LIMIT
    overlap[-1] = start + (end - start) * (PRO_LIMIT - low) / (high - low)
    area = float(torch.trapezoid(overlap, rate))
    return RegionOverlap(area / PRO_LIMIT, _thinned(rate, overlap))


def _descending(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores, highest first, and where each was: in half the memory where 32 bits suffice."""
    ordered, order = scores.flatten().sort(descending=True)
    return ordered, order.to(torch.int32) if len(order) < 2**31 else order


def _in_order(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return values.flatten().to(order.device).index_select(0, order)


def _last_of_ties(ordered: torch.Tensor) -> torch.Tensor:
    """Indices after which the score changes, and the last one."""
    changes = (ordered[1:] != ordered[:-1]).nonzero().flatten()
    last = torch.cat((changes, changes.new_tensor([len(ordered) - 1])))
    return last.to(torch.int32) if len(ordered) < 2**31 else last


def _steps(counts: torch.Tensor) -> torch.Tensor:
    """How much a cumulative count grows at each point."""
    return counts.diff(prepend=counts.new_zeros(1))


def _thinned(x: torch.Tensor, y: torch.Tensor) -> Curve:
    """The points of a rising curve nearest to an even grid on either axis, from the origin on."""
    grid = torch.linspace(0.0, 1.0, CURVE_POINTS, dtype=x.dtype, device=x.device)
    ends = torch.tensor([len(x) - 1], device=x.device)
    kept = (torch.searchsorted(axis, grid * axis[-1]) for axis in (x, y))
    index = torch.cat((*kept, ends)).clamp(max=len(x) - 1).unique()
    x, y = x[index].cpu().numpy(), y[index].cpu().numpy()
    if x[0] > 0 or y[0] > 0:
        x, y = np.insert(x, 0, 0.0), np.insert(y, 0, 0.0)
    return Curve(x, y)
