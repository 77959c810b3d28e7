"""Drift against scipy's beta-binomial and against drawn scores."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from padim.calibration import Calibration, is_above
from utils.evaluation.drift import Drift


@pytest.mark.parametrize("n_images", [1, 20, 500, 20000])
@pytest.mark.parametrize(("rate", "n_training"), [(0.01, 209), (0.05, 60), (0.1, 9), (1.0, 5)])
def test_the_p_values_are_scipys(n_images: int, rate: float, n_training: int) -> None:
    m = min(int(rate * (n_training + 1) + 1e-9), n_training)
    upper = (n_training + 1 - m) // 2
    for k in sorted({0, 1, n_images // 50, n_images // 10, n_images}):
        given = Drift(k, 0, n_images, rate, n_training).flagged_p_value
        assert given == pytest.approx(tail(k, n_images, m, n_training + 1 - m), abs=1e-12, rel=1e-6)
        given = Drift(1, k, n_images + 1, rate, n_training).upper_p_value
        expected = tail(k, n_images, upper, n_training + 1 - m - upper) if upper else 1
        assert given == pytest.approx(expected, abs=1e-12, rel=1e-6)


def tail(k: int, n_images: int, a: int, b: int) -> float:
    """scipy's own is 1 minus the rest, without small values."""
    return stats.betabinom(n_images, a, b).pmf(range(k, n_images + 1)).sum()


def drift_of(training: np.ndarray, new: np.ndarray, rate: float) -> Drift:
    calibration = Calibration(torch.from_numpy(training), torch.zeros(601))
    p_values = calibration.p_values(torch.from_numpy(new)).tolist()
    found = Drift.of(Counter(p_values), rate, len(training))
    threshold = calibration.image_threshold(rate)
    assert found.n_flagged == is_above(new, threshold).sum()
    below = np.sort(training[~is_above(training, threshold)])
    median = below[(len(below) - 1) // 2]
    assert found.n_upper == (~is_above(new, threshold) & (new > median)).sum()
    return found


@pytest.mark.parametrize("n_images", [20, 300, 3000])
def test_images_of_the_same_source_are_seldom_reported(n_images: int) -> None:
    """The share of draws with a p-value of at most alpha is at most alpha, however many images."""
    rng = np.random.default_rng(n_images)
    found = [drift_of(rng.random(100), rng.random(n_images), 0.05) for _ in range(400)]
    for p_values in (
        [drift.p_value for drift in found],
        [drift.flagged_p_value for drift in found],
        [drift.upper_p_value for drift in found],
    ):
        for alpha in (0.01, 0.05, 0.2):
            share = np.mean(np.array(p_values) <= alpha)
            assert share <= alpha + 3 * np.sqrt(alpha / 400)


def test_a_shift_below_the_threshold_is_seen_and_defects_above_it_do_not_hide_it() -> None:
    rng = np.random.default_rng(0)
    training, shifted = rng.normal(size=209), rng.uniform(0.5, 2, size=20)
    defects = np.full(100, 9.0)
    alone = drift_of(training, shifted, 0.01)
    assert alone.n_flagged == 0 and alone.p_value < 1e-3
    among = drift_of(training, np.concatenate([shifted, defects]), 0.01)
    assert among.upper_p_value == alone.upper_p_value
    # Defects that are found are no reason to say that the others are unlike the training images.
    fair = drift_of(training, np.concatenate([rng.normal(size=20).clip(max=2), defects]), 0.01)
    assert fair.upper_p_value > 0.05


def test_it_is_said_if_too_many_are_flagged() -> None:
    assert Drift(1, 9, 20, 0.05, 209).line("these images") is None
    assert Drift(0, 0, 0, 0.05, 209).line("these images") is None
    line = Drift(6, 7, 20, 0.05, 209).line("these images")
    assert line == "30 % of these images (6 of 20) are flagged where 5 % were promised"
    assert Drift(0, 19, 20, 0.05, 209).line("these images") == (
        "of these images, 20 are called normal, and 19 of these score above the median of the "
        "training images, where half were expected"
    )
