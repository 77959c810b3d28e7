"""Drift against scipy's beta-binomial and against drawn scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from padim.calibration import Calibration, is_above
from utils.evaluation.drift import Drift


@pytest.mark.parametrize("n_images", [1, 20, 500, 20000])
@pytest.mark.parametrize(("rate", "n_training"), [(0.01, 209), (0.05, 60), (0.1, 9), (1.0, 5)])
def test_the_p_value_is_scipys(n_images: int, rate: float, n_training: int) -> None:
    m = min(int(rate * (n_training + 1) + 1e-9), n_training)
    for k in sorted({0, 1, n_images // 50, n_images // 10, n_images}):
        chances = stats.betabinom(n_images, m, n_training + 1 - m).pmf(range(k, n_images + 1))
        expected = chances.sum()  # scipy's own tail is 1 minus the rest, without small values
        given = Drift(k, n_images, rate, n_training).p_value
        assert given == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("n_images", [20, 300, 3000])
def test_images_of_the_same_source_are_seldom_reported(n_images: int) -> None:
    """The share of draws with a p-value of at most alpha is at most alpha, however many images."""
    rng = np.random.default_rng(n_images)
    p_values = []
    for _ in range(400):
        training, new = rng.random(100), rng.random(n_images)
        calibration = Calibration(torch.from_numpy(training), torch.zeros(601))
        flagged = int(is_above(new, calibration.image_threshold(0.05)).sum())
        p_values.append(Drift(flagged, n_images, 0.05, 100).p_value)
    for alpha in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p_values) <= alpha) <= alpha + 3 * np.sqrt(alpha / 400)


def test_it_is_said_if_too_many_are_flagged() -> None:
    assert Drift(1, 20, 0.05, 209).line("these images") is None
    assert Drift(0, 0, 0.05, 209).line("these images") is None
    line = Drift(6, 20, 0.05, 209).line("these images")
    assert line == "30 % of these images (6 of 20) are flagged where 5 % were promised"
