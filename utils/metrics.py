"""Exact metrics and curves, all of them from one sort of the scores.

Scores are ordered once, highest first. Cumulative sums of false positives, true positives and, for
PRO, of 1 / (area of the pixel's defect region) then give every point of the ROC, PR and PRO curves;
of equal scores only the last point is a point of a curve. Sums are int64 and float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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


def rank(scores: np.ndarray, labels: np.ndarray) -> Ranking | None:
    """Rank scores against labels.

    Args:
        scores: any shape, higher is more anomalous.
        labels: bool or 0/1, the same shape.

    Returns:
        The ranking; None where the labels are all equal, for which none of it is defined.
    """
    order = _descending(scores)
    return _rank_sorted(scores.ravel()[order], labels.ravel()[order])


def rank_pixels(maps: np.ndarray, masks: np.ndarray) -> tuple[Ranking | None, RegionOverlap | None]:
    """Rank all pixels of a class together, and measure the overlap of its defect regions.

    Args:
        maps: anomaly maps (n, height, width).
        masks: bool (n, height, width).

    Returns:
        Both None where there is no defective or no normal pixel.
    """
    order = _descending(maps)
    scores, labels = maps.ravel()[order], masks.ravel()[order]
    ranking = _rank_sorted(scores, labels)
    if ranking is None:
        return None, None
    weights, n_regions = region_weights(masks)
    weights = weights.ravel()[order]
    del order  # one of these arrays is 8 bytes a pixel, of which a class may have millions
    return ranking, _overlap_sorted(scores, labels, weights, n_regions)


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
    below = scores[:, None] < scores[None, :]
    wrong = np.where(labels[:, None], below, below.T) + 0.5 * (scores[:, None] == scores[None, :])
    others = labels[:, None] != labels[None, :]
    return (wrong * others).sum(axis=1) / others.sum(axis=1)


def _descending(scores: np.ndarray) -> np.ndarray:
    return np.argsort(scores.ravel())[::-1]


def _rank_sorted(scores: np.ndarray, labels: np.ndarray) -> Ranking | None:
    labels = labels.astype(bool)
    n_positive = int(np.count_nonzero(labels))
    n_negative = len(labels) - n_positive
    if n_positive == 0 or n_negative == 0:
        return None
    last = _last_of_ties(scores)
    true_positives = np.cumsum(labels, dtype=np.int64)[last]
    called = last + 1

    gains = np.diff(true_positives, prepend=0)
    average_precision = float(np.sum(gains * (true_positives / called)) / n_positive)
    f1 = 2 * true_positives / (called + n_positive)
    best = int(np.argmax(f1))
    best_f1, threshold = float(f1[best]), float(scores[last[best]])
    del f1, last

    false_positives = np.subtract(called, true_positives, out=called)
    # Trapezoids: width the new false positives, twice the mean height the two true positive counts.
    doubled = 2 * true_positives - gains
    doubled *= np.diff(false_positives, prepend=0)
    auroc = int(doubled.sum()) / (2 * n_positive * n_negative)
    del doubled, gains
    roc = _thinned(false_positives / n_negative, true_positives / n_positive)
    return Ranking(auroc, average_precision, best_f1, threshold, roc)


def _overlap_sorted(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, n_regions: int
) -> RegionOverlap:
    last = _last_of_ties(scores)
    false_positives = np.cumsum(~labels.astype(bool), dtype=np.int64)[last]
    rate = np.concatenate(([0.0], false_positives / false_positives[-1]))
    overlap = np.concatenate(([0.0], np.cumsum(weights)[last] / n_regions))
    inside = int(np.searchsorted(rate, PRO_LIMIT, side="right"))
    at_limit = np.interp(PRO_LIMIT, rate[inside - 1 : inside + 1], overlap[inside - 1 : inside + 1])
    rate = np.append(rate[:inside], PRO_LIMIT)
    overlap = np.append(overlap[:inside], at_limit)
    area = float(np.sum(np.diff(rate) * (overlap[1:] + overlap[:-1])) / 2)
    return RegionOverlap(area / PRO_LIMIT, _thinned(rate, overlap))


def _last_of_ties(scores: np.ndarray) -> np.ndarray:
    """Indices after which the score changes, and the last one."""
    return np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)


def _thinned(x: np.ndarray, y: np.ndarray) -> Curve:
    """The points of a rising curve nearest to an even grid on either axis, from the origin on."""
    grid = np.linspace(0.0, 1.0, CURVE_POINTS)
    kept = np.concatenate((np.searchsorted(x, grid * x[-1]), np.searchsorted(y, grid * y[-1])))
    index = np.unique(np.append(np.clip(kept, 0, len(x) - 1), len(x) - 1))
    x, y = x[index], y[index]
    if x[0] > 0 or y[0] > 0:
        x, y = np.insert(x, 0, 0.0), np.insert(y, 0, 0.0)
    return Curve(x, y)
