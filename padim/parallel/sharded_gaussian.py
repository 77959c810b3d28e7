"""The Gaussians that several processes learn together; each process owns a range of positions.

If one process cannot hold them all, each scores the positions that it owns: the embeddings of a
batch are sent to the owners, and the distances back. That is P d numbers for every image, instead
of P d^2 for the factors once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import nn

from padim.errors import ModelError
from padim.fitting import GaussianLearner
from padim.gaussian import PatchGaussian
from padim.parallel.process_group import ProcessGroup


class ShardedGaussian(nn.Module):
    """The Gaussians of all positions; this process holds a shard of them.

    Used like a ``PatchGaussian``, by all processes at the same time.

    Args:
        own: the Gaussians of this process's positions.
        positions: P, of all processes.
        group: the processes.
    """

    def __init__(self, own: PatchGaussian, positions: int, group: ProcessGroup) -> None:
        super().__init__()
        self.own = own
        self.positions = positions
        self.group = group

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Mahalanobis distances (B, P) of one batch of embeddings after the other.

        Args:
            batches: (B, P, d) each; the processes may have different numbers and sizes of batches.
        """
        empty = self.own.mean.new_empty(0, self.positions, self.own.mean.shape[1])
        batches = iter(batches)
        while True:
            batch = next(batches, None)
            if self.group.all_true(batch is None):
                return
            distances = self(empty if batch is None else batch)
            if batch is not None:
                yield distances

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Distances (B, P) of embeddings (B, P, d), computed by the owners of the positions."""
        shards = self.group.shards(self.positions)
        asked = self.group.all_to_all(lambda rank: [embeddings[:, shards[rank]]])
        answers = {rank: [self.own(given)] for rank, (given,) in asked}
        parts = {rank: part for rank, (part,) in self.group.all_to_all(answers.__getitem__)}
        return torch.cat([parts[rank] for rank in range(self.group.world_size)], dim=1)

    def gathered(self) -> PatchGaussian | None:
        """All Gaussians, in the memory of rank 0; None in the other processes."""
        mean = self.group.gather(self.own.mean, self.positions)
        factor = self.group.gather(self.own.factor, self.positions)
        if mean is None or factor is None:
            return None
        return PatchGaussian(mean, factor, self.own.is_low_rank, self.own.epsilon)


class ShardedLearner:
    """Learns the Gaussians of all positions from the images of all processes.

    Each process merges and factorises the state of the positions that it owns. The interface is
    that of ``GaussianLearner``.

    Args:
        n_images: N, of all processes together.
        positions: P, of all processes together.
        epsilon: added to the diagonal of every covariance.
        leaves_out: whether leave-one-out distances are computed.
        group: the processes.

    Raises:
        ModelError: more processes than positions.
    """

    def __init__(
        self,
        n_images: int,
        positions: int,
        epsilon: float,
        leaves_out: bool,
        group: ProcessGroup,
    ) -> None:
        if positions < group.world_size:
            raise ModelError(
                f"{group.world_size} processes for {positions} positions of the grid: start fewer"
            )
        self.leave_one_out: torch.Tensor | None = None
        self._positions = positions
        self._group = group
        self._like = partial(GaussianLearner, n_images, epsilon, leaves_out, positions=positions)
        shard = group.shard(n_images)
        self._learners: list[GaussianLearner | None] = [
            self._like(shard=shard) for _ in range(group.world_size)
        ]  # one for the positions of each process

    def update(self, embeddings: torch.Tensor) -> ShardedLearner:
        """Learn from a batch of embeddings (B, P, d) of this process's images.

        Raises:
            ModelError: there are more images than in this process's shard.
        """
        shards = self._group.shards(self._positions)
        for learner, block in zip(self._learners, shards, strict=True):
            assert learner is not None
            learner.update(embeddings[:, block])
        return self

    def finish(self) -> PatchGaussian | ShardedGaussian:
        """Merge and factorise.

        Returns:
            The Gaussians of all positions or, if a process cannot hold them all, this shard.

        Raises:
            ModelError: as ``GaussianLearner.finish``.
        """
        group, positions = self._group, self._positions
        learner = self._like()
        for _rank, state in group.all_to_all(self._give_away):
            learner.merge_state(state)
            del state  # its memory is free before the next one comes
        own = learner.finish()
        if learner.leave_one_out is not None:
            self.leave_one_out = group.all_gather(learner.leave_one_out.T, positions).T
        if not group.all_true(own.factor[0].nbytes * positions <= group.memory_share()):
            return ShardedGaussian(own, positions, group)
        mean, factor = (group.all_gather(part, positions) for part in (own.mean, own.factor))
        return PatchGaussian(mean, factor, own.is_low_rank, own.epsilon)

    def _give_away(self, rank: int) -> list[torch.Tensor]:
        """Release and return the learned state of the positions of a process."""
        learner, self._learners[rank] = self._learners[rank], None
        assert learner is not None
        return learner.state()
