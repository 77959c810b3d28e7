"""Channel reduction: draws, projections, and the embedding of the paper built the plain way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from padim import reference
from padim.config import PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.errors import ModelError
from padim.reduction import Reduction, draw_reduction, learn_components

CHANNELS = (4, 6, 8)


def drawn(kind: str, dim: int | None, seed: int = 0, channels=CHANNELS) -> PatchEmbedding:
    config = PaDiMConfig(kind, dim, seed)
    return PatchEmbedding(channels, draw_reduction(config, sum(channels)))


def draw_feature_maps(batch: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = zip(CHANNELS, (8, 4, 2), strict=True)
    return [torch.randn(batch, c, side, side, generator=generator) for c, side in sizes]


def concatenated(feature_maps: list[torch.Tensor]) -> np.ndarray:
    """(B, H, W, C): deeper maps repeated to the largest, all channels, as the paper says."""
    whole = []
    for one in feature_maps:
        times = 8 // one.shape[-1]
        whole.append(one.numpy().repeat(times, axis=2).repeat(times, axis=3))
    return np.concatenate(whole, axis=1).transpose(0, 2, 3, 1)


def test_no_reduction_is_the_concatenation() -> None:
    feature_maps = draw_feature_maps()
    ours = drawn("none", None)(feature_maps)
    np.testing.assert_array_equal(ours, concatenated(feature_maps))


def test_random_picks_the_same_channels_for_a_seed() -> None:
    feature_maps = draw_feature_maps()
    reduction = drawn("random", 7, seed=3)
    ids = reduction.ids.numpy()
    assert reduction.dim == 7
    assert len(set(ids)) == 7
    assert list(ids) == sorted(ids)
    np.testing.assert_array_equal(reduction(feature_maps), concatenated(feature_maps)[..., ids])
    assert reduction.ids.equal(drawn("random", 7, seed=3).ids)
    assert not reduction.ids.equal(drawn("random", 7, seed=4).ids)


def test_the_draw_of_a_seed_is_fixed_for_good() -> None:
    # Published numbers name a seed; a change of this list would make them another experiment's.
    assert drawn("random", 5, channels=(64, 128, 256)).ids.tolist() == [
        54,
        124,
        230,
        342,
        374,
    ]


def test_a_layer_of_which_no_channel_is_kept() -> None:
    feature_maps = draw_feature_maps()
    reduction = PatchEmbedding(CHANNELS, Reduction(ids=torch.tensor([0, 2, 12, 17])))
    np.testing.assert_array_equal(
        reduction(feature_maps), concatenated(feature_maps)[..., [0, 2, 12, 17]]
    )


def test_only_deep_channels_still_fill_the_largest_grid() -> None:
    assert PatchEmbedding(CHANNELS, Reduction(ids=torch.tensor([15])))(
        draw_feature_maps()
    ).shape == (3, 8, 8, 1)


def test_semi_orthogonal_projects_on_orthonormal_columns() -> None:
    feature_maps = draw_feature_maps()
    reduction = drawn("semi_orthogonal", 5, seed=1)
    projection = reduction.projection.double().numpy()
    np.testing.assert_allclose(projection.T @ projection, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(
        reduction(feature_maps), concatenated(feature_maps) @ projection, atol=1e-5
    )


def test_pca_spans_what_scikit_learn_finds() -> None:
    batches = [draw_feature_maps(3, seed) for seed in range(4)]
    for feature_maps in batches:
        feature_maps[0][:, 1] *= 5  # makes the first directions unique
        feature_maps[2][:, 3] *= 3
    rows = np.concatenate(
        [concatenated(feature_maps).reshape(-1, sum(CHANNELS)) for feature_maps in batches]
    )
    expected = PCA(2, svd_solver="full").fit(rows).components_
    embed = drawn("none", None)
    found = learn_components(map(embed, batches), 2, sum(CHANNELS)).double().numpy().T
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=1)), 1, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 19, None, 2.5])
def test_numbers_of_channels_that_cannot_be(dim: int | None) -> None:
    with pytest.raises(ModelError, match="embedding_dim"):
        drawn("random", dim)


@pytest.mark.parametrize("kind", ["random", "semi_orthogonal"])
def test_the_paper_in_loops_gives_the_same_embeddings(kind: str) -> None:
    feature_maps, embedding = draw_feature_maps(), drawn(kind, 5, seed=2)
    for image in range(3):
        channels_last = [one[image].permute(1, 2, 0).double().numpy() for one in feature_maps]
        ids = range(18) if embedding.ids is None else embedding.ids.tolist()
        expected = reference.patch_embeddings(channels_last, ids)
        if embedding.projection is not None:
            expected = expected @ embedding.projection.double().numpy()
        np.testing.assert_allclose(embedding(feature_maps)[image], expected, atol=1e-5)
