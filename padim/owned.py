"""Gaussians too large for one process to hold them all: each scores the positions it owns.

The embeddings of a batch travel to the owners of their positions, and the distances back: for every
image P d numbers instead of the P d^2, once, of the factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from padim.errors import ModelError
from padim.gaussian import GaussianFit, PatchGaussian
from padim.team import Team


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
        asked = self.team.exchanged([[embeddings[:, share]] for share in shares])
        answers = [[self.own(given)] for (given,) in asked]
        return torch.cat([answer for (answer,) in self.team.exchanged(answers)], dim=1)


def finish_together(
    learners: Sequence[GaussianFit], positions: int, team: Team
) -> tuple[PatchGaussian | OwnedGaussian, torch.Tensor | None]:
    """The Gaussians of what all processes have learned, factorised by position ranges.

    Args:
        learners: of this process, one for the positions that each process owns.
        positions: P, of all of them.
        team: the processes.

    Returns:
        The Gaussians of all positions, or where one process has not the room for them, of those
        this one owns; and the leave-one-out distances (n, P), as in ``GaussianFit``.

    Raises:
        ModelError: as ``GaussianFit.finish``, or there are more processes than positions.
    """
    if team.size == 1:
        gaussian = learners[0].finish()
        return gaussian, learners[0].left_out
    if team.size > positions:
        raise ModelError(f"{team.size} processes for {positions} positions; start fewer")
    mine = GaussianFit(learners[0].n_images, learners[0].epsilon, leaves_out=learners[0].leaves_out)
    for learned in team.exchanged([learner.learned() for learner in learners]):
        mine.absorb(learned)  # in the order of the images
    own, left_out = mine.finish(), mine.left_out
    if left_out is not None:
        left_out = team.joined(left_out.T, positions).T
    if not team.agrees(own.factor[0].nbytes * positions <= team.room()):
        return OwnedGaussian(own, positions, team), left_out
    mean, factor = team.joined(own.mean, positions), team.joined(own.factor, positions)
    return PatchGaussian(mean, factor, own.is_low_rank, own.epsilon), left_out
