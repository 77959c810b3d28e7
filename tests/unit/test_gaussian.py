"""The Gaussians and their distances, against NumPy in float64."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from padim import fitting, gaussian, reference, scatter
from padim.errors import ModelError
from padim.fitting import GaussianLearner
from padim.parallel import blocks

EPSILON = 0.01


def draw(n_images: int, positions: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Embeddings with correlated channels and a mean far from zero, as real ones have."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(positions, dim, dim)) / np.sqrt(dim)
    values = np.einsum("npd,pde->npe", rng.normal(size=(n_images, positions, dim)), mixing)
    return torch.from_numpy(values + 3 * np.random.default_rng(99).normal(size=(positions, dim)))


def squared_distances(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Equations 1 and 2, position by position, by the reference."""
    result = np.empty(test.shape[:2])
    for p in range(train.shape[1]):
        mean = reference.mean(train[:, p])
        covariance = reference.covariance(train[:, p], EPSILON)
        result[:, p] = [reference.mahalanobis(x, mean, covariance) ** 2 for x in test[:, p]]
    return result


def fit(train: torch.Tensor, batch_size: int) -> gaussian.PatchGaussian:
    learner = GaussianLearner(len(train), EPSILON)
    for batch in train.float().split(batch_size):
        learner.update(batch)
    return learner.finish()


@pytest.mark.parametrize(
    ("n_images", "dim", "is_low_rank"),
    [(12, 40, True), (40, 40, True), (41, 40, False), (200, 40, False), (2, 5, True)],
)
def test_distances_are_those_of_float64(n_images: int, dim: int, is_low_rank: bool) -> None:
    train, test = draw(n_images, 7, dim), draw(9, 7, dim, seed=1) + 0.5
    model = fit(train, batch_size=5)
    assert model.is_low_rank == is_low_rank
    assert model.factor.shape == (7, n_images if is_low_rank else dim, dim)
    squared = model(test.float()).double().square().numpy()
    np.testing.assert_allclose(squared, squared_distances(train.numpy(), test.numpy()), rtol=1e-3)


def test_distances_are_square_rooted_by_hand() -> None:
    # One channel: mean 2, variance 2 + 0.01, so 5 lies 3 / sqrt(2.01) away.
    train = torch.tensor([[[1.0]], [[3.0]]])
    model = fit(train, batch_size=2)
    expected = [[3 / 2.01**0.5], [0.0]]
    np.testing.assert_allclose(model(torch.tensor([[[5.0]], [[2.0]]])), expected, atol=2e-3)


@pytest.mark.parametrize("dim", [6, 30])
def test_blocks_of_positions_change_nothing(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    train, test = draw(10, 23, dim), draw(4, 23, dim, seed=1).float()
    whole = fit(train, batch_size=4)(test)
    monkeypatch.setattr(blocks, "CPU_BYTES", 4000)
    torch.testing.assert_close(fit(train, batch_size=4)(test), whole)


def test_many_batches_equal_one() -> None:
    train, test = draw(60, 5, 20), draw(4, 5, 20, seed=1).float()
    torch.testing.assert_close(fit(train, 7)(test), fit(train, 60)(test), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [3, 30])
def test_constant_channels_give_numbers(dim: int) -> None:
    train = torch.ones(10, 4, dim, dtype=torch.float64)
    distances = fit(train, 10)(torch.full((2, 4, dim), 1.5))
    np.testing.assert_allclose(distances, (dim * 0.25 / EPSILON) ** 0.5, rtol=1e-5)


def test_huge_variances_are_factorised_in_float64() -> None:
    train = draw(30, 3, 10) * 1e5
    distances = fit(train, 30)(train.float())
    assert torch.isfinite(distances).all()
    # Each training image has m^2 near d on average, whatever the scale of the channels.
    assert distances.square().mean().item() == pytest.approx(10 * 29 / 30, rel=0.02)


def test_one_image_and_too_few_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 2"):
        GaussianLearner(1)
    learner = GaussianLearner(5).update(torch.zeros(3, 2, 2))
    with pytest.raises(ModelError, match="3 training images came, 5"):
        learner.finish()


def refitted(train: np.ndarray) -> np.ndarray:
    """The squared distance of every image to the Gaussian of all others, refitted each time."""
    found = [
        squared_distances(np.delete(train, i, axis=0), train[i : i + 1]) for i in range(len(train))
    ]
    return np.concatenate(found)


@pytest.mark.parametrize(("n_images", "dim"), [(12, 40), (40, 40), (41, 40), (60, 8), (3, 5)])
def test_leaving_one_out_is_refitting(n_images: int, dim: int) -> None:
    train = draw(n_images, 4, dim)
    expected = refitted(train.numpy())
    exact = GaussianLearner(n_images, EPSILON).update(train)
    exact.finish()
    np.testing.assert_allclose(exact.leave_one_out.square(), expected, rtol=1e-6)
    learner = GaussianLearner(n_images, EPSILON).update(train.float())
    learner.finish()
    np.testing.assert_allclose(learner.leave_one_out.double().square(), expected, rtol=1e-3)


def test_of_many_images_some_are_left_out_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    train = draw(50, 4, 6)
    monkeypatch.setattr(fitting, "KEPT_BYTES", 16 * 4 * 6 * 8)  # of 16 images
    learner = GaussianLearner(50, EPSILON)
    for batch in train.split(7):
        learner.update(batch)
    learner.finish()
    expected = refitted(train.numpy())
    at = [
        int(np.flatnonzero(np.isclose(expected[:, 0], x))[0])
        for x in learner.leave_one_out[:, 0] ** 2
    ]
    np.testing.assert_allclose(learner.leave_one_out.square(), expected[at], rtol=1e-6)
    assert len(at) == 16
    assert set(np.diff(at)) == {3, 4}


@pytest.mark.parametrize("dim", [1, 5])
def test_with_two_images_none_can_be_left_out(dim: int) -> None:
    learner = GaussianLearner(2).update(torch.zeros(2, 3, dim))
    assert torch.isfinite(learner.finish().factor).all()
    assert learner.leave_one_out is None


@pytest.mark.parametrize(("n_images", "dim"), [(30, 40), (60, 20)])
@pytest.mark.parametrize("shares", [(1, 0, 2), (0, 1, 1), (3, 5, 2)])
def test_merged_learners_are_one(n_images: int, dim: int, shares: tuple[int, ...]) -> None:
    # Far from zero and each part around its own mean: sums of products would lose their digits.
    train = draw(n_images, 6, dim) + 1000
    counts = [n_images * share // sum(shares) for share in shares]
    counts[-1] = n_images - sum(counts[:-1])
    parts = train.split(counts)
    ends = np.cumsum([0, *counts]).tolist()
    learners = [
        GaussianLearner(n_images, EPSILON, shard=shard and slice(*shard))
        for shard in (None, *pairwise(ends[1:]))
    ]
    for learner, part in zip(learners, parts, strict=True):
        for batch in part.split(4) if len(part) else ():
            learner.update(batch)
    merged = learners[0].merge(learners[1]).merge(learners[2])
    whole = GaussianLearner(n_images, EPSILON).update(train)
    test = draw(5, 6, dim, seed=1) + 1000
    torch.testing.assert_close(merged.finish()(test), whole.finish()(test), rtol=1e-9, atol=0)
    torch.testing.assert_close(merged.leave_one_out, whole.leave_one_out, rtol=1e-9, atol=0)


def test_merged_learners_need_shares_of_their_own() -> None:
    train = draw(40, 3, 6)
    first, again = (GaussianLearner(40, EPSILON).update(train[:20]) for _ in range(2))
    with pytest.raises(ModelError, match="images 0 to 19 came twice"):
        first.merge(again)
    other = GaussianLearner(40, EPSILON, shard=slice(20, 40)).update(train[20:])
    whole = GaussianLearner(40, EPSILON).merge(other)  # before its own images come
    with pytest.raises(ModelError, match="not all from 0 to 39"):
        whole.state()
    expected = GaussianLearner(40, EPSILON).update(train).finish()
    found = whole.update(train[:20])
    with pytest.raises(ModelError, match="images 20 to 20 came twice"):
        found.update(train[20:21])
    torch.testing.assert_close(found.finish()(train), expected(train), rtol=1e-9, atol=0)


class ShortOfMemory(TorchDispatchMode):
    """Refuses, once, one of the operations that ask for memory: the one of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left, self.refused = number, None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [value.alias_info for value in func._schema.returns]
        name = str(func.overloadpacket)
        if self.left >= 0 and (aliases == [None] or name == "aten.baddbmm_"):  # for its workspace
            self.left -= 1
            if self.left < 0:
                self.refused = name
                raise torch.OutOfMemoryError("drawn for this test")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("n_kept", [10, 6, 2])
def test_memory_that_runs_out_amid_a_block_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, n_kept: int
) -> None:
    """Wherever it runs out: each operation in turn is refused once in large blocks."""
    train, test = draw(10, 23, 4), draw(4, 23, 4, seed=1).float()
    monkeypatch.setattr(fitting, "KEPT_BYTES", n_kept * 23 * 4 * 4)
    expected = fit(train, batch_size=5)(test)
    refused = set()

    def for_each_block(work, *how) -> None:
        def watched(block: slice) -> None:
            with short if block.stop - block.start > 1 else nullcontext():
                work(block)

        blocks.for_each_block(watched, *how)

    monkeypatch.setattr(gaussian, "for_each_block", for_each_block)
    monkeypatch.setattr(fitting, "for_each_block", for_each_block)
    monkeypatch.setattr(scatter, "for_each_block", for_each_block)
    while None not in refused:
        short = ShortOfMemory(len(refused))
        torch.testing.assert_close(fit(train, batch_size=5)(test), expected)
        refused.add(short.refused and f"{len(refused)} {short.refused}")
    names = {name.split()[1] for name in refused - {None}}
    assert {"aten.sub", "aten.sum", "aten.bmm"} <= names
    assert ("aten.baddbmm_" in names) == (n_kept < 10)


@pytest.mark.parametrize("dim", [6, 30])
def test_out_of_memory_means_smaller_blocks(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    train, test = draw(10, 23, dim), draw(4, 23, dim, seed=1).float()
    whole = fit(train, batch_size=4)
    sizes = []

    def tight(work, total: int, bytes_each: int, device: torch.device) -> None:
        def limited(block: slice) -> None:
            sizes.append(block.stop - block.start)
            work(block) if sizes[-1] <= 4 else exhausted()

        blocks.for_each_block(limited, total, bytes_each, device)

    def exhausted() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")  # as PyTorch on a CPU

    monkeypatch.setattr(gaussian, "for_each_block", tight)
    monkeypatch.setattr(fitting, "for_each_block", tight)
    torch.testing.assert_close(fit(train, batch_size=4)(test), whole(test))
    assert sizes[:4] == [23, 11, 5, 2]

    with pytest.raises(ModelError, match="memory of cpu does not suffice"):
        blocks.for_each_block(lambda _block: exhausted(), 5, 1, torch.device("cpu"))
