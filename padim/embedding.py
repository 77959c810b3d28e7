"""Taps to patch embeddings, with the channels reduced on the way (paper, section III-A and III-B).

The embedding of a position is the concatenation of the taps there, the deeper and coarser ones
repeated up to the grid of the largest. Every reduction of it is linear in the channels, so it is
applied to each tap at its own resolution before the repetition: what is dropped is never built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from padim.errors import ModelError
from padim.parallel.process_group import ALONE, Team


class Reduction(nn.Module):
    """From all channels of the taps to the d that are kept: some of them, or projections of all.

    Args:
        channels: channels of each tap, C in all.
        ids: sorted channel ids, int64 (d,), where channels are picked.
        projection: float32 (C, d), where they are projected. One of the two is None.
    """

    def __init__(
        self,
        channels: Sequence[int],
        ids: torch.Tensor | None = None,
        projection: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.register_buffer("ids", ids)
        self.register_buffer("projection", projection)
        if projection is None:
            ends = torch.tensor(self.channels).cumsum(0)
            counts = torch.searchsorted(ids, ends).diff(prepend=torch.tensor([0]))
            self._ids_per_tap = counts.tolist()

    @property
    def dim(self) -> int:
        """d, the channels kept."""
        return len(self.ids) if self.projection is None else self.projection.shape[1]

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Patch embeddings of a batch.

        Args:
            taps: a (B, C_l, H_l, W_l) map for each tap.

        Returns:
            float32 (B, H, W, d) on the grid of the largest tap.
        """
        grid = max((tap.shape[-2:] for tap in taps), key=lambda size: size[0] * size[1])
        if self.projection is None:
            return torch.cat([_repeat(part, grid) for part in self._picked(taps)], dim=-1)
        projections = self.projection.split(self.channels)
        return sum(
            _repeat(tap.permute(0, 2, 3, 1) @ projection, grid)
            for tap, projection in zip(taps, projections, strict=True)
        )

    def _picked(self, taps: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The channels kept of each tap, (B, H_l, W_l, d_l), where there are any."""
        first = 0
        for tap, ids in zip(taps, self.ids.split(self._ids_per_tap), strict=True):
            if len(ids):
                yield tap.permute(0, 2, 3, 1)[..., ids - first]
            first += tap.shape[1]

    def checksum_source(self) -> np.ndarray:
        """What tells one draw from another: the ids, or the projection's values."""
        return (self.ids if self.projection is None else self.projection).cpu().numpy()


def draw_reduction(
    kind: str, channels: Sequence[int], dim: int | None, seed: int = 0
) -> Reduction | None:
    """The reduction of a run, drawn once from ``seed``; None for ``pca``, which has to be fitted.

    ``random`` picks d channels (the paper's Rd), ``semi_orthogonal`` projects on the Q of a
    Gaussian C x d matrix (Kim et al., arXiv 2105.14737), ``none`` keeps all C.

    Raises:
        ModelError: more channels asked for than there are.
    """
    total = sum(channels)
    if kind == "none":
        return Reduction(channels, ids=torch.arange(total))
    if dim is None or not 1 <= dim <= total:
        raise ModelError(
            f"--embedding_dim {dim}: the chosen layers have {total} channels; give 1 to {total}"
        )
    # RandomState's streams are frozen for good, which no other generator at hand promises: the same
    # seed gives the same channels in ten years.
    draw = np.random.RandomState(seed)
    if kind == "random":
        return Reduction(channels, ids=torch.from_numpy(np.sort(draw.permutation(total)[:dim])))
    if kind == "semi_orthogonal":
        q, r = np.linalg.qr(draw.standard_normal((total, dim)))
        q *= np.sign(np.diag(r))  # makes the factorisation, and so the projection, unique
        return Reduction(channels, projection=torch.from_numpy(q).to(torch.float32))
    return None


def fit_pca(
    taps: Iterable[Sequence[torch.Tensor]],
    channels: Sequence[int],
    dim: int,
    team: Team = ALONE,
) -> Reduction:
    """The projection on the ``dim`` first principal components of all patch embeddings.

    The components are those of the pooled covariance over images and positions. The mean is not
    taken off: a shift common to all embeddings changes no Mahalanobis distance.

    Args:
        taps: batches of taps of the training images.
        channels: channels of each tap.
        dim: components kept.
        team: the processes that do this together, each with its share of the images.
    """
    total = sum(channels)
    every = Reduction(channels, ids=torch.arange(total))
    count, first = 0, None
    mean = torch.zeros(total, dtype=torch.float64)
    scatter = torch.zeros(total, total, dtype=torch.float64)
    for batch in taps:
        rows = every.to(batch[0].device)(batch).reshape(-1, total)
        if first is None:
            first = rows.mean(dim=0)  # a shift near the mean keeps float32 products exact enough
        rows = rows - first
        count += len(rows)
        mean = mean + rows.sum(dim=0).cpu().double()
        scatter = scatter + (rows.T @ rows).cpu().double()
    if team.size > 1:
        count, mean, scatter = _added(count, first, mean, scatter, team)
    covariance = scatter / count - torch.outer(mean, mean) / count**2
    components = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :dim]
    components = team.told(components)  # one sign for all
    device = None if first is None else first.device
    return Reduction(channels, projection=components.to(device, torch.float32).contiguous())


def _added(
    count: int, shift: torch.Tensor | None, mean: torch.Tensor, scatter: torch.Tensor, team: Team
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """The sums of all processes, about zero instead of a shift of each one's own."""
    if shift is not None:
        shift = shift.cpu().double()
        cross = torch.outer(mean, shift)
        scatter = scatter + cross + cross.T + count * torch.outer(shift, shift)
        mean = mean + count * shift
    counts, mean, scatter = team.added((torch.tensor([count]), mean, scatter))
    return int(counts), mean.cpu(), scatter.cpu()


def _repeat(part: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Repeat a map (B, h, w, c), channels last, up to the grid (nearest): (B, H, W, c)."""
    if part.shape[1:3] == grid:
        return part
    repeated = nn.functional.interpolate(part.permute(0, 3, 1, 2), size=grid, mode="nearest")
    return repeated.permute(0, 2, 3, 1)
