"""Running sums of products, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim import fitting, scatter
from padim.fitting import GaussianLearner
from padim.scatter import MIN_GROUP, Scatter


def embeddings(n_images: int, positions: int, dim: int) -> torch.Tensor:
    values = np.random.default_rng(n_images).normal(3, 1, (n_images, positions, dim))
    return torch.from_numpy(values).float()


@pytest.mark.parametrize("dim", [1, 3, 40, 300])
@pytest.mark.parametrize("n_images", [1, MIN_GROUP, 2 * MIN_GROUP + 5])
def test_covariances_are_those_of_float64(n_images: int, dim: int) -> None:
    values = embeddings(n_images + 1, 3, dim)
    shift = values[0] + 0.5
    sums = Scatter(shift)
    for batch in values.split(7):
        sums.add(batch)
    sums.sums()
    mean = values.mean(dim=0) - shift
    found = sums.covariance(slice(1, 3), mean[1:], len(values)).numpy()
    for position in (1, 2):
        expected = np.cov(values[:, position].double().numpy().T).reshape(dim, dim)
        lower = np.tril_indices(dim)
        np.testing.assert_allclose(found[position - 1][lower], expected[lower], atol=2e-5)


def test_sums_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    values = embeddings(3 * MIN_GROUP, 5, 8)
    whole, parts = Scatter(values[0]), Scatter(values[0])
    whole.add(values)
    for batch in values.split(9):
        parts.add(batch)
    assert torch.equal(whole.sums(), parts.sums())
    assert torch.equal(parts.sums(), parts.sums())  # none is added twice


@pytest.mark.parametrize("shares", [(40, 60), (3, 97), (100, 0)])
def test_merged_sums_go_on(shares: tuple[int, int]) -> None:
    values = embeddings(110, 4, 20)
    ours, theirs, rest = values.split([*shares, 10])
    first = Scatter(values[0])
    first.add(ours)
    if len(theirs):
        second = Scatter(theirs[0])
        second.add(theirs)
        total, difference = (theirs - theirs[0]).sum(dim=0), theirs[0] - values[0]
        first.merge(second.sums(), total, difference, len(theirs))
    first.add(rest)
    whole = Scatter(values[0])
    whole.add(values)
    torch.testing.assert_close(first.sums(), whole.sums(), rtol=1e-5, atol=1e-3)


def test_groups_of_any_size_give_the_same_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    values = embeddings(150, 4, 12)
    monkeypatch.setattr(fitting, "KEPT_BYTES", 50 * 4 * 12 * 4)
    found = []
    for size in (1, 7, MIN_GROUP, 400):
        monkeypatch.setattr(scatter, "MIN_GROUP", size)
        learner = GaussianLearner(len(values))
        for batch in values.split(8):
            learner.update(batch)
        found.append((learner.finish()(values[:9] + 1), learner.leave_one_out))
    for distances, left_out in found[1:]:
        torch.testing.assert_close(distances, found[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(left_out, found[0][1], rtol=1e-4, atol=1e-5)
