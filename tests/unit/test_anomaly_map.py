"""Upsampling and smoothing, against PyTorch's interpolation and SciPy's filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from padim.anomaly_map import AnomalyMap, image_scores


@pytest.mark.parametrize(
    ("grid", "crop", "sigma"),
    [((56, 56), 224, 4.0), ((14, 14), 56, 0), ((7, 9), 30, 2.5), ((4, 4), 9, 6.0), ((1, 1), 4, 4)],
)
def test_a_map_is_upsampled_then_smoothed(grid: tuple, crop: int, sigma: float) -> None:
    distances = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0)) * 30
    upsampled = torch.nn.functional.interpolate(
        distances[None].double(), size=(crop, crop), mode="bicubic"
    )[0].numpy()
    expected = [gaussian_filter(one, sigma) if sigma else one for one in upsampled]
    ours = AnomalyMap(grid, crop, sigma)(distances.flatten(1))
    assert ours.shape == (2, crop, crop)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_image_score_is_the_maximum() -> None:
    maps = torch.zeros(2, 5, 5)
    maps[0, 3, 1], maps[1, 0, 0] = 7.0, -1.0
    assert image_scores(maps).tolist() == [7.0, 0.0]
