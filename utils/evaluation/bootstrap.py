"""The bootstrap: how much the metrics of a class depend on the choice of test images.

The test images are drawn again with replacement, as many good and as many defective ones as there
are, and every metric is computed for each draw (Efron 1979). An image is drawn with all its pixels,
since they are not independent. The draws depend only on the name of the class and the numbers of
its images, so two runs draw the same images.

Metrics of images, and of pixels at one threshold, are exact for every draw. Curves of pixels are
computed at the thresholds of ``PixelTables`` and are straight between them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from utils.evaluation.decisions import PixelCounts, Values, flagged_shares
from utils.evaluation.metric_names import PIMO_RATES, PRO_LIMIT, RECALL_RATES, STRICT_PRO_LIMIT
from utils.evaluation.metrics import ROUNDING
from utils.evaluation.pixel_table import PixelTables
from utils.evaluation.regions import area
from utils.evaluation.saturation import SaturatedTable

N_DRAWS = 2000
BLOCK = 125  # draws computed together: their arrays fit into a processor's cache
SEED = 0


@dataclass(frozen=True)
class ScoredSet:
    """The scores and counts from which the metrics of a class are computed.

    Attributes:
        class_name: the class.
        labels: bool (n,), True for defective images.
        scores: image scores (n,).
        is_flagged: whether an image is above the threshold, bool (n,); None without one.
        pixels: None if there is no ranking of pixels.
        counts: None without a pixel threshold.
        saturated: None unless the data set has saturations and there is a ranking of pixels.
    """

    class_name: str
    labels: np.ndarray
    scores: np.ndarray
    is_flagged: np.ndarray | None
    pixels: PixelTables | None
    counts: PixelCounts | None
    saturated: SaturatedTable | None = None

    def drawn(self) -> Values:
        """Every metric in each of ``N_DRAWS`` draws, float64 (N_DRAWS,)."""
        blocks = [self.weighted(weights) for weights in draw(self.class_name, self.labels)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def weighted(self, weights: np.ndarray) -> Values:
        """Every metric of a few draws.

        Args:
            weights: how often each image is drawn, float64 (B, n).
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            values = _image_metrics(self, weights)
            if self.pixels is not None:
                values |= _pixel_metrics(self.pixels, self.labels, weights)
            if self.pixels is not None and self.counts is not None:
                values |= self.counts.metrics(weights)
            if self.pixels is not None and self.saturated is not None:
                false = self.pixels.curves.false
                values["spro"] = self.saturated.weighted(false, ~self.labels, weights)
        return values


def draw(class_name: str, labels: np.ndarray) -> Iterator[np.ndarray]:
    """How often each image is drawn, float64 (BLOCK, n), ``N_DRAWS`` draws in all."""
    generator = np.random.default_rng((SEED, zlib.crc32(class_name.encode("utf-8", "replace"))))
    kinds = [kind for kind in (np.flatnonzero(~labels), np.flatnonzero(labels)) if len(kind)]
    for _ in range(N_DRAWS // BLOCK):
        weights = np.zeros((BLOCK, len(labels)))
        for kind in kinds:
            drawn = kind[generator.integers(0, len(kind), (BLOCK, len(kind)))]
            np.add.at(weights, (np.arange(BLOCK)[:, None], drawn), 1)
        yield weights


def _image_metrics(images: ScoredSet, weights: np.ndarray) -> Values:
    order = np.argsort(-images.scores, kind="stable")
    is_last = np.append(np.diff(images.scores[order]) != 0, True)  # of those that score the same
    labels, weights = images.labels[order], weights[:, order]
    hits = (weights * labels).cumsum(axis=1)[:, is_last]
    false = (weights * ~labels).cumsum(axis=1)[:, is_last]
    values: Values = {}
    if labels.any() and not labels.all():
        values = _ranking("image", hits, false, _steps(hits) * hits / (hits + false))
        for name, rate in RECALL_RATES.items():
            allowed = false <= rate * false[:, -1:] + ROUNDING
            values[name] = (hits * allowed).max(axis=1) / hits[:, -1]
    if images.is_flagged is not None:
        values |= flagged_shares(images.is_flagged[order], labels, weights)
    return values


def _ranking(level: str, hits: np.ndarray, false: np.ndarray, precise: np.ndarray) -> Values:
    """AUROC, average precision and best F1 from counts (B, G) at falling thresholds.

    Args:
        level: ``image`` or ``pixel``.
        hits: positives at or above.
        false: negatives at or above.
        precise: precision of the positives gained at each threshold, summed over them.
    """
    n_positive, n_negative = hits[:, -1:], false[:, -1:]
    gains = _steps(hits)
    pairs = (gains * (n_negative - false + _steps(false) / 2)).sum(axis=1, keepdims=True)
    return {
        f"{level}_auroc": (pairs / (n_positive * n_negative))[:, 0],
        f"{level}_ap": np.nansum(precise, axis=1) / n_positive[:, 0],
        f"{level}_f1": (2 * hits / (hits + false + n_positive)).max(axis=1),
    }


def _pixel_metrics(tables: PixelTables, labels: np.ndarray, weights: np.ndarray) -> Values:
    table, top = tables.curves, tables.top
    hits, false = weights @ table.hits, weights @ table.false
    precision = np.nan_to_num(hits / (hits + false), nan=1.0)
    former = np.concatenate((precision[:, :1], precision[:, :-1]), axis=1)
    between = np.where(tables.is_step, precision, (former + precision) / 2)
    values = _ranking("pixel", hits, false, _steps(hits) * between)
    rate = _from_zero(false / false[:, -1:])
    found = weights @ table.found
    found = _from_zero(found / found[:, -1:])
    for name, limit in (("pro", PRO_LIMIT), ("pro_fpr5", STRICT_PRO_LIMIT)):
        values[name] = area(rate, found, 0.0, limit) / limit
    if not labels.all():
        n_defective = table.hits[:, -1]
        has_mask = n_defective > 0
        shares = top.hits[has_mask] / n_defective[has_mask, None]
        n_pixels = table.hits[0, -1] + table.false[0, -1]
        values["aupimo"] = _aupimo(
            weights[:, has_mask], shares, weights[:, ~labels], top.false[~labels] / n_pixels
        )
    return values


def _aupimo(
    defective: np.ndarray, shares: np.ndarray, good: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """AUPIMO of some draws.

    Args:
        defective: how often each defective image is drawn (B, n).
        shares: of the pixels of each that are found at every threshold (n, G).
        good: how often each good image is drawn (B, m).
        rates: share of the pixels of each that are flagged (m, G).
    """
    low, high = (math.log(rate) for rate in PIMO_RATES)
    shared = np.log(good @ rates / good.sum(axis=1, keepdims=True))
    start = np.full((len(good), 1), -np.inf)
    shared = np.concatenate((start, shared), axis=1)
    mean = _from_zero(defective @ shares / defective.sum(axis=1, keepdims=True))
    return area(shared, mean, low, high) / (high - low)


def _steps(counts: np.ndarray) -> np.ndarray:
    return np.diff(counts, prepend=0.0)


def _from_zero(values: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros((len(values), 1)), values), axis=1)
