"""Channel reduction: draws, projections, and the embedding of the paper built the plain way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from padim.embedding import Reduction, draw_reduction, fit_pca
from padim.errors import ModelError

CHANNELS = (4, 6, 8)


def draw_taps(batch: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = zip(CHANNELS, (8, 4, 2), strict=True)
    return [torch.randn(batch, c, side, side, generator=generator) for c, side in sizes]


def concatenated(taps: list[torch.Tensor]) -> np.ndarray:
    """(B, H, W, C): deeper maps repeated to the largest, all channels, as the paper says."""
    whole = []
    for tap in taps:
        times = 8 // tap.shape[-1]
        whole.append(tap.numpy().repeat(times, axis=2).repeat(times, axis=3))
    return np.concatenate(whole, axis=1).transpose(0, 2, 3, 1)


def test_no_reduction_is_the_concatenation() -> None:
    taps = draw_taps()
    ours = draw_reduction("none", CHANNELS, None)(taps)
    np.testing.assert_array_equal(ours, concatenated(taps))


def test_random_picks_the_same_channels_for_a_seed() -> None:
    taps = draw_taps()
    reduction = draw_reduction("random", CHANNELS, 7, seed=3)
    ids = reduction.ids.numpy()
    assert reduction.dim == 7
    assert len(set(ids)) == 7
    assert list(ids) == sorted(ids)
    np.testing.assert_array_equal(reduction(taps), concatenated(taps)[..., ids])
    assert reduction.ids.equal(draw_reduction("random", CHANNELS, 7, seed=3).ids)
    assert not reduction.ids.equal(draw_reduction("random", CHANNELS, 7, seed=4).ids)


def test_the_draw_of_a_seed_is_fixed_for_good() -> None:
    # Published numbers name a seed; a change of this list would make them another experiment's.
    assert draw_reduction("random", (64, 128, 256), 5, seed=0).ids.tolist() == [
        54,
        124,
        230,
        342,
        374,
    ]


def test_a_tap_of_which_no_channel_is_kept() -> None:
    taps = draw_taps()
    reduction = Reduction(CHANNELS, ids=torch.tensor([0, 2, 12, 17]))
    np.testing.assert_array_equal(reduction(taps), concatenated(taps)[..., [0, 2, 12, 17]])


def test_only_deep_channels_still_fill_the_largest_grid() -> None:
    assert Reduction(CHANNELS, ids=torch.tensor([15]))(draw_taps()).shape == (3, 8, 8, 1)


def test_semi_orthogonal_projects_on_orthonormal_columns() -> None:
    taps = draw_taps()
    reduction = draw_reduction("semi_orthogonal", CHANNELS, 5, seed=1)
    projection = reduction.projection.double().numpy()
    np.testing.assert_allclose(projection.T @ projection, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(reduction(taps), concatenated(taps) @ projection, atol=1e-5)


def test_pca_spans_what_scikit_learn_finds() -> None:
    batches = [draw_taps(3, seed) for seed in range(4)]
    for taps in batches:
        taps[0][:, 1] *= 5  # some directions must stand out for the first ones to be unique
        taps[2][:, 3] *= 3
    rows = np.concatenate([concatenated(taps).reshape(-1, sum(CHANNELS)) for taps in batches])
    expected = PCA(2, svd_solver="full").fit(rows).components_
    found = fit_pca(batches, CHANNELS, 2).projection.double().numpy().T
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=1)), 1, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 19, None])
def test_more_channels_than_there_are(dim: int | None) -> None:
    with pytest.raises(ModelError, match="18 channels; give 1 to 18"):
        draw_reduction("random", CHANNELS, dim)
