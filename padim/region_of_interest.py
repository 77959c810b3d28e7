"""The region of interest: the part of the images that is learned and scored.

A mask is white inside the region. It is resized and cropped like an image. A position of the grid
is inside if any of its pixels is white, so every white pixel has a distance of its own. Positions
outside have no Gaussian.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from padim.errors import ImageError, ModelError
from padim.reading.images import OneImage, list_images

# Levels up to BLACK count as black, levels from WHITE on as white: lossy files have noise.
BLACK, WHITE = 16, 239
MAX_GREY = 0.05  # fraction of the pixels in between, as at smooth edges
MAX_STRETCH = 1.02  # allowed factor between the aspect ratios of mask and image


class RegionOfInterest(nn.Module):
    """The pixels and positions that a model looks at.

    Args:
        mask: bool (crop, crop), true where the model looks.
        grid: (H, W) of the positions.

    Attributes:
        positions: ids of the positions inside, int64 (P,), of H * W.

    Raises:
        ModelError: the mask is empty.

    Example:
        >>> mask = torch.zeros(8, 8, dtype=torch.bool)
        >>> mask[:4, 1:3] = True
        >>> RegionOfInterest(mask, (4, 4)).positions
        tensor([0, 1, 4, 5])
    """

    mask: torch.Tensor
    positions: torch.Tensor

    def __init__(self, mask: torch.Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        if not mask.any():
            raise ModelError("region: it has no white pixel within the crop", "region")
        self.register_buffer("mask", mask)
        is_inside = nn.functional.adaptive_max_pool2d(mask[None].float(), grid)
        self.register_buffer("positions", is_inside.flatten().nonzero()[:, 0], persistent=False)

    @property
    def share(self) -> float:
        """The share of the crop that is looked at."""
        return float(self.mask.float().mean())


def packed(mask: torch.Tensor) -> torch.Tensor:
    """A mask bool (crop, crop) as uint8, 8 pixels a byte, row by row; the last bits are 0."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def unpacked(bits: torch.Tensor, crop: int) -> torch.Tensor:
    """The inverse of ``packed``."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=crop**2)).bool().view(crop, crop)


def read_region(region: OneImage) -> np.ndarray:
    """A mask as bool (height, width), upright, true where it is white.

    Args:
        region: an image file, or an image in memory; in memory also bool (h, w).

    Raises:
        ModelError: it cannot be read, is not black and white, or is all black.
    """
    if isinstance(region, torch.Tensor) and region.dim() == 2:
        region = region.detach().cpu().numpy()
    if isinstance(region, np.ndarray) and region.dtype == bool:
        region = np.where(region, np.uint8(255), np.uint8(0))
    name = f"region {region}" if isinstance(region, (str, Path)) else "region"
    try:
        if isinstance(region, (str, Path)) and not Path(region).is_file():
            what = "is no file" if Path(region).exists() else "does not exist"
            raise ModelError(f"{name} {what}; expected a mask, white where to look", "region")
        sources = list_images(region)
        if len(sources) != 1:
            raise ModelError(f"{name}: {len(sources)} images; expected one mask", "region")
        pixels = sources[0].read()
    except ImageError as error:
        raise ModelError(f"region: {error}", "region") from error
    if pixels.max() == 1:  # some tools write masks of 0 and 1
        pixels = pixels * np.uint8(255)
    is_black, is_white = pixels.max(axis=2) <= BLACK, pixels.min(axis=2) >= WHITE
    grey = 1 - float((is_black | is_white).mean())
    if grey > MAX_GREY:
        raise ModelError(
            f"{name}: {100 * grey:.0f} % of its pixels are neither black nor white; expected a "
            "mask, white where to look and black elsewhere",
            "region",
        )
    mask = pixels.min(axis=2) > 127
    if not mask.any():
        raise ModelError(f"{name} is all black; expected white where to look", "region")
    return mask


def check_shape(
    mask: np.ndarray, size: tuple[int, int], image: str, region: str = "region"
) -> None:
    """Check that a mask has the aspect ratio of an image; the sizes may differ.

    Args:
        mask: (height, width).
        size: width and height of the image.
        image: its name.
        region: the mask's name.

    Raises:
        ModelError: the aspect ratios differ.
    """
    height, width = mask.shape
    stretch = width * size[1] / (height * size[0])
    if not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        raise ModelError(
            f"{region} is {width}x{height}, but {image} is {size[0]}x{size[1]}; expected the same "
            "ratio of width and height",
            "region",
        )


def map_weight(rows: torch.Tensor, columns: torch.Tensor, region: RegionOfInterest) -> torch.Tensor:
    """The factor (crop, crop), float32, that corrects maps whose distances outside are 0.

    A map value is a weighted sum of distances. Near the border, the weights of positions outside
    are lost. The factor scales the others up to the full sum, as in normalised convolution
    (Knutsson and Westin, 1993). The sums are of absolute weights: so no map value can be higher
    than one without a region. The factor is 0 outside, and 1 if all weights are inside.

    Args:
        rows, columns: those of ``AnomalyMap``, (crop, H) and (W, crop).
        region: where the model looks.
    """
    rows, columns = rows.double().abs(), columns.double().abs()
    inside = torch.zeros(rows.shape[1] * columns.shape[0], dtype=torch.float64)
    inside[region.positions.cpu()] = 1
    found = rows @ inside.view(rows.shape[1], -1) @ columns
    every = rows.sum(dim=1)[:, None] * columns.sum(dim=0)
    return torch.where(region.mask.cpu(), every / found, 0).float()
