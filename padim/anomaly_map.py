"""Distances on the grid to an anomaly map of the crop's size, and its image score (section III-C).

The map is upsampled bicubically and smoothed by a Gaussian. Both steps are linear and separable, so
each axis has one matrix A (crop x H) that does both, and a map is A D A'.
"""

from __future__ import annotations

import torch
from torch import nn

ROWS = 1024  # of a matrix made at a time, which bounds the memory of a large crop
TRUNCATE = 4.0  # the smoothing kernel ends at this many sigmas, as SciPy's does


class AnomalyMap(nn.Module):
    """Upsampling and smoothing of distance grids.

    Args:
        grid: (H, W) of the distances.
        crop: side of the map in pixels, that of the cropped image.
        sigma: standard deviation of the smoothing in pixels; 0 for no smoothing.

    Example:
        >>> AnomalyMap((56, 56), 224)(torch.zeros(1, 56, 56)).shape
        torch.Size([1, 224, 224])
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, grid: tuple[int, int], crop: int, sigma: float = 4.0) -> None:
        super().__init__()
        self.register_buffer("rows", _upsampled_and_smoothed(grid[0], crop, sigma))
        self.register_buffer("columns", _upsampled_and_smoothed(grid[1], crop, sigma).T)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        """Distances (B, H, W) to anomaly maps (B, crop, crop)."""
        return self.rows @ distances @ self.columns


def image_scores(maps: torch.Tensor) -> torch.Tensor:
    """The score of an image, (B,): the maximum of its map (B, crop, crop)."""
    return maps.flatten(1).amax(dim=1)


def upsampling_matrix(size: int, crop: int) -> torch.Tensor:
    """Bicubic interpolation of ``size`` values to ``crop``, as a float64 (crop, size) matrix.

    The matrix is read off PyTorch's own interpolation of the identity along one axis.
    """
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return nn.functional.interpolate(identity, size=(crop, size), mode="bicubic")[0, 0]


def smoothing_matrix(size: int, sigma: float, rows: slice | None = None) -> torch.Tensor:
    """Gaussian smoothing of ``size`` values, edges mirrored, as a float64 (size, size) matrix.

    The same as ``scipy.ndimage.gaussian_filter1d`` with its defaults.

    Args:
        size: number of values.
        sigma: standard deviation; 0 for no smoothing.
        rows: the rows of the matrix that are wanted; None for all.
    """
    wanted = torch.arange(size)[rows or slice(None)][:, None]
    source = torch.arange(size)
    if sigma == 0:
        return (wanted == source).double()
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    # Beyond an edge the signal is mirrored, the edge's own value twice: d c b a|a b c d|d c. So it
    # has the period 2 size, and the kernel is added up within one period.
    period = 2 * size
    weights = torch.zeros(period, dtype=torch.float64).index_add_(0, offsets % period, kernel)
    return weights[(source - wanted) % period] + weights[(period - 1 - source - wanted) % period]


def _upsampled_and_smoothed(size: int, crop: int, sigma: float) -> torch.Tensor:
    """Both steps along one axis, float32 (crop, size)."""
    upsampling = upsampling_matrix(size, crop)
    blocks = [slice(start, start + ROWS) for start in range(0, crop, ROWS)]
    return torch.cat([(smoothing_matrix(crop, sigma, b) @ upsampling).float() for b in blocks])
