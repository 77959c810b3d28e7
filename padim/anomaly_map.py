"""From distances on the grid to an anomaly map of the crop, and its score (section III-C).

The map is upsampled bicubically and smoothed by a Gaussian. Both steps are linear and separable, so
each axis has one matrix A (crop x H) that does both, and a map is A D A'. Outside a region of
interest, D and the map are 0; ``map_weight`` corrects the values at its border.
"""

from __future__ import annotations

import torch
from torch import nn

from padim.region_of_interest import RegionOfInterest, map_weight

ROWS = 1024  # rows of a matrix made at a time, to bound the memory of a large crop
TRUNCATE = 4.0  # the smoothing kernel ends at this many sigmas, as SciPy's does


class AnomalyMap(nn.Module):
    """Upsampling and smoothing of distance grids.

    Args:
        grid: (H, W) of the distances.
        crop: side of the map in pixels, that of the cropped image.
        sigma: standard deviation of the smoothing in pixels; 0 for no smoothing.
        region: where the model looks; None for everywhere.

    Example:
        >>> AnomalyMap((56, 56), 224)(torch.zeros(1, 56 * 56)).shape
        torch.Size([1, 224, 224])
    """

    rows: torch.Tensor
    columns: torch.Tensor
    places: torch.Tensor | None
    weight: torch.Tensor | None

    def __init__(
        self,
        grid: tuple[int, int],
        crop: int,
        sigma: float = 4.0,
        region: RegionOfInterest | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("rows", _upsampled_and_smoothed(grid[0], crop, sigma))
        self.register_buffer("columns", _upsampled_and_smoothed(grid[1], crop, sigma).T)
        places = weight = None
        if region is not None:
            n_inside = len(region.positions)
            places = torch.full((grid[0] * grid[1],), n_inside)  # outside: the padded zero
            places[region.positions.cpu()] = torch.arange(n_inside)
            weight = map_weight(self.rows, self.columns, region)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        """Compute anomaly maps (B, crop, crop) from distances (B, P)."""
        if self.places is None or self.weight is None:
            return self.rows @ distances.unflatten(1, self.grid) @ self.columns
        whole = nn.functional.pad(distances, (0, 1))[:, self.places].unflatten(1, self.grid)
        return self.rows @ whole @ self.columns * self.weight


def image_scores(maps: torch.Tensor) -> torch.Tensor:
    """The score of an image, (B,): the maximum of its map (B, crop, crop)."""
    return maps.flatten(1).amax(dim=1)


def upsampling_matrix(size: int, crop: int) -> torch.Tensor:
    """Bicubic interpolation of ``size`` values to ``crop``, as a float64 (crop, size) matrix.

    The matrix is PyTorch's own interpolation of the identity.
    """
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return nn.functional.interpolate(identity, size=(crop, size), mode="bicubic")[0, 0]


def smoothing_matrix(size: int, sigma: float, rows: slice | None = None) -> torch.Tensor:
    """Gaussian smoothing of ``size`` values, edges mirrored, as a float64 (size, size) matrix.

    The same as ``scipy.ndimage.gaussian_filter1d`` with its defaults.

    Args:
        size: number of values.
        sigma: standard deviation; 0 for no smoothing.
        rows: rows of the matrix to compute; None for all.
    """
    wanted = torch.arange(size)[rows or slice(None)][:, None]
    source = torch.arange(size)
    if sigma == 0:
        return (wanted == source).double()
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    # The signal is mirrored at its edges: d c b a|a b c d|d c. So it has the period 2 * size, and
    # the kernel is folded into one period.
    period = 2 * size
    weights = torch.zeros(period, dtype=torch.float64).index_add_(0, offsets % period, kernel)
    return weights[(source - wanted) % period] + weights[(period - 1 - source - wanted) % period]


def _upsampled_and_smoothed(size: int, crop: int, sigma: float) -> torch.Tensor:
    """Both steps along one axis, float32 (crop, size)."""
    upsampling = upsampling_matrix(size, crop)
    blocks = [slice(start, start + ROWS) for start in range(0, crop, ROWS)]
    return torch.cat([(smoothing_matrix(crop, sigma, b) @ upsampling).float() for b in blocks])
