"""Every metric against scikit-learn, or against its definition written the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import measure_pixels, rank, slow_pro
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from padim.calibration import is_above
from utils.evaluation.metrics import misranked
from utils.evaluation.regions import region_weights


def draw(n_images: int = 6, side: int = 20, levels: int | None = None, seed: int = 0) -> tuple:
    """Maps and masks; with ``levels`` few distinct scores, so many ties."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n_images, side, side), bool)
    for image in masks[: n_images // 2]:
        for _ in range(3):
            y, x = rng.integers(0, side - 6, 2)
            image[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    maps = rng.random(masks.shape) + 0.6 * masks * rng.random(masks.shape)
    if levels is not None:
        maps = np.round(maps * levels)
    return maps.astype(np.float32), masks


@pytest.mark.parametrize("levels", [None, 7, 1])
@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics(levels: int | None, seed: int) -> None:
    maps, masks = draw(levels=levels, seed=seed)
    measured = measure_pixels(maps, masks)
    ranking = measured.ranking
    labels, scores = masks.ravel(), maps.ravel()
    assert ranking.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert ranking.average_precision == pytest.approx(expected, abs=1e-12)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert ranking.best_f1 == pytest.approx(f1.max(), abs=1e-12)
    flagged = is_above(scores, ranking.threshold)
    hits = np.sum(flagged & labels)
    assert 2 * hits / (flagged.sum() + labels.sum()) == pytest.approx(f1.max(), abs=1e-12)
    assert np.nextafter(np.float32(ranking.threshold), np.float32(np.inf)) in thresholds
    assert measured.pro == pytest.approx(slow_pro(maps, masks), abs=1e-9)


def test_the_roc_curve_is_scikit_learns() -> None:
    maps, masks = draw()
    curve = measure_pixels(maps, masks).ranking.roc
    rates, hits, _ = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert set(zip(curve.x, curve.y, strict=True)) <= set(zip(rates, hits, strict=True))
    # Thinned, it still encloses the same area to a thousandth.
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(
        roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-3
    )


def test_pro_by_hand() -> None:
    # Two regions of 1 and 3 pixels, ten normal pixels. Scores: the small region first, then one
    # normal pixel (rate 0.1), then the large region, then the rest.
    masks = np.zeros((1, 2, 7), bool)
    masks[0, 0, 0] = masks[0, 0, 3] = masks[0, 0, 4] = masks[0, 0, 5] = True
    maps = np.arange(14, dtype=np.float32).reshape(1, 2, 7) / 100
    maps[0, 0, 0], maps[0, 1, 1], maps[0, 0, 3:6] = 9, 8, 7
    # Overlap 1/2 up to rate 0.1, and 1 from there to 0.3.
    assert measure_pixels(maps, masks).pro == pytest.approx((0.1 * 0.5 + 0.2 * 1) / 0.3)


def test_regions_touching_at_a_corner_are_one() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 3] = True
    weights, count = region_weights(masks)
    assert count == 2
    assert weights.tolist() == [0.5, 0.5, 1]


def test_perfect_reversed_and_constant_scores() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    assert rank(labels * 2.0, labels).auroc == 1
    assert rank(-labels * 2.0, labels).auroc == 0
    constant = rank(np.ones(5), labels)
    assert (constant.auroc, constant.average_precision) == (0.5, 0.6)


@pytest.mark.parametrize("value", [0, 1])
def test_one_kind_alone_has_no_numbers(value: int) -> None:
    assert rank(np.arange(4.0), np.full(4, value)) is None
    assert misranked(np.arange(4.0), np.full(4, value)) is None
    assert measure_pixels(np.zeros((1, 2, 2)), np.full((1, 2, 2), value)) is None


def test_misranked_is_the_complement_of_auroc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(40) < 0.6
    scores = np.round(rng.random(40) + 0.4 * labels, 1)
    wrong = misranked(scores, labels)
    expected = 1 - roc_auc_score(labels, scores)
    assert wrong[labels].mean() == pytest.approx(expected)
    assert wrong[~labels].mean() == pytest.approx(expected)
    by_hand = misranked(np.array([1.0, 3.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(by_hand, [0, 0.75, 0.5, 0.25])
