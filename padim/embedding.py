"""Feature maps to patch embeddings (paper, sections III-A and III-B).

The embedding of a position is the concatenation of the feature maps there, the coarser ones
repeated up to the grid of the largest. The reduction is linear in the channels. Therefore it is
applied to each feature map before the repetition, and dropped channels are never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np
import torch
from torch import nn

from padim.reduction import Reduction


class PatchEmbedding(nn.Module):
    """From the feature maps of all layers to embeddings of d channels.

    Args:
        channels: number of channels of each feature map, C in total.
        reduction: which channels are kept, or how they are projected.
        positions: ids of the positions in the region of interest, int64 (P,); None for all.

    Attributes:
        ids: channel ids, int64 (d,), from 0 to C - 1, or None.
        projection: float32 (C, d), or None.
    """

    ids: torch.Tensor | None
    projection: torch.Tensor | None
    positions: torch.Tensor | None

    def __init__(
        self,
        channels: Sequence[int],
        reduction: Reduction,
        positions: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.register_buffer("ids", reduction.ids)
        self.register_buffer("projection", reduction.projection)
        self.register_buffer("positions", positions, persistent=False)
        self._ids_per_layer = _count_ids(self.channels, reduction.ids)

    @property
    def dim(self) -> int:
        """d, the channels kept."""
        if self.ids is not None:
            return len(self.ids)
        assert self.projection is not None
        return self.projection.shape[1]

    def values(self) -> np.ndarray:
        """The ids or the values of the projection, which identify the draw."""
        tensor = self.projection if self.ids is None else self.ids
        assert tensor is not None
        return tensor.cpu().numpy()

    def patches(self, feature_maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """As ``forward``, but (B, P, d), and within the region of interest only."""
        positions = self.positions
        if positions is None:
            return self(feature_maps).flatten(1, 2)
        return self._embedded(feature_maps, lambda part, grid: _picked(part, grid, positions))

    def n_positions(self, feature_maps: Sequence[torch.Tensor]) -> int:
        """P, the number of positions in the region of interest."""
        if self.positions is not None:
            return len(self.positions)
        return max(feature_map.shape[-2:].numel() for feature_map in feature_maps)

    def forward(self, feature_maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Embed a batch.

        Args:
            feature_maps: (B, C_l, H_l, W_l) of each layer.

        Returns:
            Patch embeddings, float32 (B, H, W, d), on the grid of the largest feature map.
        """
        return self._embedded(feature_maps, _repeat)

    def _embedded(
        self,
        feature_maps: Sequence[torch.Tensor],
        on_grid: Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor],
    ) -> torch.Tensor:
        """Reduce each feature map, put it on the largest grid, and combine the layers."""
        sizes = [tuple(feature_map.shape[-2:]) for feature_map in feature_maps]
        grid = max(sizes, key=lambda size: size[0] * size[1])
        if self.projection is None:
            return torch.cat([on_grid(part, grid) for part in self._kept(feature_maps)], dim=-1)
        projections = self.projection.split(self.channels)
        parts = (
            on_grid(feature_map.permute(0, 2, 3, 1) @ projection, grid)
            for feature_map, projection in zip(feature_maps, projections, strict=True)
        )
        return reduce(torch.add, parts)

    def _kept(self, feature_maps: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The kept channels (B, H_l, W_l, d_l) of each feature map that has any."""
        assert self.ids is not None
        first = 0
        for feature_map, ids in zip(feature_maps, self.ids.split(self._ids_per_layer), strict=True):
            if len(ids):
                yield feature_map.permute(0, 2, 3, 1)[..., ids - first]
            first += feature_map.shape[1]


def _count_ids(channels: Sequence[int], ids: torch.Tensor | None) -> list[int]:
    """How many of the sorted ids belong to each layer; empty for a projection."""
    if ids is None:
        return []
    ends = torch.tensor(channels).cumsum(0)
    return torch.searchsorted(ids.cpu(), ends).diff(prepend=torch.tensor([0])).tolist()


def _repeat(part: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """Repeat a map (B, h, w, c), channels last, up to the grid (nearest): (B, H, W, c)."""
    if part.shape[1:3] == grid:
        return part
    repeated = nn.functional.interpolate(part.permute(0, 3, 1, 2), size=grid, mode="nearest")
    return repeated.permute(0, 2, 3, 1)


def _picked(part: torch.Tensor, grid: tuple[int, ...], positions: torch.Tensor) -> torch.Tensor:
    """The values of ``_repeat`` at some positions, (B, P, c), without computing the others."""
    sources = torch.arange(part.shape[1] * part.shape[2], device=part.device, dtype=torch.float32)
    repeated = _repeat(sources.view(1, part.shape[1], part.shape[2], 1), grid)
    return part.flatten(1, 2).index_select(1, repeated.flatten()[positions].long())
