"""Exact metrics and curves, all from one sort of the scores of the positives.

``levels`` sorts and counts. Here every number is one sum over the levels: AUROC, average
precision, the best F1 and the recall of images or pixels. ``regions`` has the metrics of defect
regions and defective images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from utils.evaluation.levels import CHUNK, Negatives, Positives, corners, steps

CURVE_POINTS = 400  # of a drawn curve, per axis
ROUNDING = 1e-9  # of a rate times a count


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
        recalls: the highest recall at each of the false positive rates asked for.
    """

    auroc: float
    average_precision: float
    best_f1: float
    threshold: float
    roc: Curve
    recalls: tuple[float, ...] = ()


def rank(
    scores: torch.Tensor, labels: torch.Tensor, rates: tuple[float, ...] = ()
) -> Ranking | None:
    """Rank scores against labels.

    Args:
        scores: any shape, higher is more anomalous.
        labels: bool, the same shape.
        rates: false positive rates for ``recalls``.

    Returns:
        The ranking; None if all labels are equal, because no ranking is defined then.
    """
    labels = labels.to(scores.device)
    if labels.all() or not labels.any():
        return None
    positives = Positives.sort(scores[labels])
    return ranking_of(positives, positives.count(scores[~labels].split(CHUNK)), rates)


def ranking_of(
    positives: Positives, negatives: Negatives, rates: tuple[float, ...] = ()
) -> Ranking:
    """The ranking that the counts at the levels give."""
    n_positive, n_negative = len(positives.order), negatives.n
    gains = steps(positives.hits)
    # Twice the number of pairs in the right order; a tie is half a pair.
    doubled = gains * (2 * (n_negative - negatives.false) + negatives.tied)
    auroc = int(doubled.sum()) / (2 * n_positive * n_negative)
    flagged = (positives.hits + negatives.false).double()
    average_precision = float((positives.hits / flagged * gains).sum() / n_positive)
    f1 = 2 * positives.hits / (flagged + n_positive)
    best = int(f1.argmax())
    hits = corners(positives.hits - gains, positives.hits).double()
    roc = thinned(negatives.rates(), hits.div_(n_positive))
    # Levels count the scores at and above them; the decision rule is above.
    threshold = torch.nextafter(positives.scores[best], positives.scores.new_tensor(-math.inf))
    recalls = tuple(_recall(positives, negatives, rate) for rate in rates)
    return Ranking(auroc, average_precision, float(f1[best]), float(threshold), roc, recalls)


def _recall(positives: Positives, negatives: Negatives, rate: float) -> float:
    """The highest recall of all thresholds with at most this false positive rate."""
    allowed = positives.hits[negatives.false <= rate * negatives.n + ROUNDING]
    return int(allowed[-1]) / len(positives.order) if len(allowed) else 0.0


def thinned(x: torch.Tensor, y: torch.Tensor) -> Curve:
    """The points of a rising curve that are nearest to an even grid on either axis."""
    grid = torch.linspace(0.0, 1.0, CURVE_POINTS, dtype=x.dtype, device=x.device)
    ends = torch.tensor([len(x) - 1], device=x.device)
    kept = (torch.searchsorted(axis, grid * axis[-1]) for axis in (x, y))
    index = torch.cat((*kept, ends)).clamp(max=len(x) - 1).unique()
    return Curve(x[index].cpu().numpy(), y[index].cpu().numpy())


def misranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """For every image, the share of the other kind against which it is ranked wrongly.

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
