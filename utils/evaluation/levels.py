"""The one sort for all metrics: what is flagged at each score of a positive.

A curve is straight between two scores of positives, so its corners describe it completely. The
positives are sorted once, highest first. The negatives are only counted: for each positive, how
many score higher and how many score the same. These counts give every corner of every curve, in
little more memory than the few positives take. Counts are int64, sums are float64.

The computation runs on the device of the scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

CHUNK = 2**22  # scores whose place among the positives is looked up at once


@dataclass(frozen=True)
class Positives:
    """The scores of the positives, sorted.

    Attributes:
        order: positions of the positives (n,), the highest score first.
        scores: the K distinct scores, highest first: the levels.
        hits: positives that score at least as high as a level, int64 (K,).
    """

    order: torch.Tensor
    scores: torch.Tensor
    hits: torch.Tensor

    @classmethod
    def sort(cls, scores: torch.Tensor) -> Positives:
        """Sort at least one score (n,)."""
        ordered, order = scores.sort(descending=True)
        values, counts = ordered.unique_consecutive(return_counts=True)
        return cls(order, values, counts.cumsum(0))

    def count(self, negatives: Iterable[torch.Tensor]) -> Negatives:
        """Count negatives at every level.

        Args:
            negatives: their scores, any number of tensors (m,).
        """
        rising, n_levels = self.scores.flip(0), len(self.scores)
        reached = torch.zeros(n_levels + 1, dtype=torch.int64, device=rising.device)
        tied = torch.zeros_like(reached)
        for chunk in negatives:
            level = torch.searchsorted(rising, chunk, right=True, out_int32=True)
            reached += torch.bincount(level, minlength=n_levels + 1)  # exactly that many levels
            ties = level[chunk == rising[(level - 1).clamp_(min=0)]]
            tied += torch.bincount(ties, minlength=n_levels + 1)
        # A negative that reaches the k lowest levels is flagged at each of them.
        false = reached[1:].flip(0).cumsum(0)
        return Negatives(false, tied[1:].flip(0), int(reached.sum()))


@dataclass(frozen=True)
class Negatives:
    """Counts of negatives at K levels.

    Attributes:
        false: negatives that score at least as high, int64 (K,).
        tied: negatives with exactly that score, int64 (K,).
        n: number of negatives.
    """

    false: torch.Tensor
    tied: torch.Tensor
    n: int

    def __add__(self, other: Negatives) -> Negatives:
        return Negatives(self.false + other.false, self.tied + other.tied, self.n + other.n)

    def rates(self) -> torch.Tensor:
        """The false positive rate of every corner of a curve, from 0 to 1, float64 (2K + 2,)."""
        counts = corners(self.false - self.tied, self.false).double()
        counts[-1] = self.n
        return counts.div_(self.n)


def corners(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """The two corners of a curve at each of K levels, between its first and its last point."""
    ends = after.new_zeros(1), after[-1:]
    return torch.cat((ends[0], torch.stack((before, after), dim=1).flatten(), ends[1]))


def steps(counts: torch.Tensor) -> torch.Tensor:
    """The increase of a cumulative count at each level."""
    return counts.diff(prepend=counts.new_zeros(1))
