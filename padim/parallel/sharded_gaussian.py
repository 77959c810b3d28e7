"""The Gaussians that several processes learn together, each of which owns a range of positions.

Where they are too large for one process to hold them all, each scores the positions it owns: the
embeddings of a batch travel to the owners, and the distances back, for every image P d numbers
instead of the P d^2, once, of the factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from padim.errors import ModelError
from padim.gaussian import GaussianFit, PatchGaussian
from padim.parallel.process_group import Team


@dataclass(frozen=True)
class OwnedGaussian:
    """The Gaussians of all positions, of which this process holds those of its range.

    Used as a ``PatchGaussian`` is; but what it does, all processes do at the same time.

    Attributes:
        own: the Gaussians of the range.
        positions: P, of all ranges.
        team: the processes.
    """

    own: PatchGaussian
    positions: int
    team: Team

    def each(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Mahalanobis distances of one batch of embeddings after the other.

        Args:
            batches: (B, P, d) each; as many and as large as this process has, the others also
                other numbers of them, or none.
        """
        nothing = self.own.mean.new_empty(0, self.positions, self.own.mean.shape[1])
        batches = iter(batches)
        while True:
            batch = next(batches, None)
            if self.team.agrees(batch is None):
                return
            distances = self._distances(nothing if batch is None else batch)
            if batch is not None:
                yield distances

    def whole(self) -> PatchGaussian | None:
        """All Gaussians, in the memory of the first process; None to the others."""
        mean = self.team.collected(self.own.mean, self.positions)
        factor = self.team.collected(self.own.factor, self.positions)
        if mean is None:
            return None
        return PatchGaussian(mean, factor, self.own.is_low_rank, self.own.epsilon)

    def _distances(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Of embeddings (B, P, d), by the owners of their positions: (B, P)."""
        shares = self.team.shares(self.positions)
        asked = self.team.exchanged(lambda rank: [embeddings[:, shares[rank]]])
        answers = {rank: [self.own(given)] for rank, (given,) in asked}
        found = {rank: part for rank, (part,) in self.team.exchanged(answers.get)}
        return torch.cat([found[rank] for rank in range(self.team.size)], dim=1)


class TeamFit:
    """Learns the Gaussians of all positions from what all processes see, each a share of it.

    What a process learns of a range of positions goes to the process that owns these, which merges
    and factorises them.

    Args:
        n_images: N, of all processes together.
        epsilon: added to the diagonal of every covariance.
        leaves_out: whether leave-one-out distances are wanted.
        team: the processes.
    """

    def __init__(self, n_images: int, epsilon: float, leaves_out: bool, team: Team) -> None:
        self._like = partial(GaussianFit, n_images, epsilon, leaves_out)
        self._share = None if team.size == 1 else team.share(n_images)
        self._team = team
        self._learners: list[GaussianFit | None] = []  # one for the range of each process

    def update(self, embeddings: torch.Tensor) -> None:
        """Take in a batch of embeddings (B, P, d) of this process's images.

        Raises:
            ModelError: more images than were announced, or more processes than positions.
        """
        positions = embeddings.shape[1]
        self._prepare(positions)
        for learner, block in zip(self._learners, self._team.shares(positions), strict=True):
            learner.update(embeddings[:, block])

    def finish(self, positions: int) -> tuple[PatchGaussian | OwnedGaussian, torch.Tensor | None]:
        """Factorise, in place of what was learned from.

        Args:
            positions: P, for a process that had no image to learn it from.

        Returns:
            The Gaussians of all positions, or where one process has not the room for them, of those
            this one owns; and the leave-one-out distances (n, P), as in ``GaussianFit``.

        Raises:
            ModelError: as ``GaussianFit.finish``.
        """
        team = self._team
        self._prepare(positions)
        if team.size == 1:
            gaussian = self._learners[0].finish()
            return gaussian, self._learners[0].left_out
        mine = self._like(positions=positions)
        for _rank, learned in team.exchanged(self._given_away):
            mine.absorb(learned)
            del learned  # not to be held while the next ones come
        own, left_out = mine.finish(), mine.left_out
        if left_out is not None:
            left_out = team.joined(left_out.T, positions).T
        if not team.agrees(own.factor[0].nbytes * positions <= team.room()):
            return OwnedGaussian(own, positions, team), left_out
        mean, factor = team.joined(own.mean, positions), team.joined(own.factor, positions)
        return PatchGaussian(mean, factor, own.is_low_rank, own.epsilon), left_out

    def _prepare(self, positions: int) -> None:
        if self._learners:
            return
        if positions < self._team.size:
            raise ModelError(
                f"{self._team.size} processes for {positions} positions of the grid: start fewer"
            )
        shares = self._team.shares(positions)
        self._learners = [self._like(share=self._share, positions=positions) for _ in shares]

    def _given_away(self, rank: int) -> list[torch.Tensor]:
        """What was learned of a process's range; its memory is free once that is sent."""
        learned, self._learners[rank] = self._learners[rank].learned(), None
        return learned
