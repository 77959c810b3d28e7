"""Images to uint8 crops, masks to binary crops (paper, section IV-B).

An image is resized to a square, bicubic with antialiasing, and its centre is cropped. A mask is
treated likewise, with nearest interpolation. PyTorch's uint8 resize takes a third of Pillow's time,
and differs from it by at most one grey level in 0.1 % of the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from padim.config import MAX_BITS, PaDiMConfig
from padim.reading.image_file import read_image


@dataclass(frozen=True)
class Preprocessing:
    """Resize to ``resize`` x ``resize`` pixels, then crop the centre ``crop`` x ``crop``.

    Attributes:
        resize, crop: sides in pixels.
        bits: as in ``PaDiMConfig``.
    """

    resize: int = 256
    crop: int = 224
    bits: int = MAX_BITS

    @classmethod
    def of_config(cls, config: PaDiMConfig) -> Preprocessing:
        """The preprocessing of a model."""
        return cls(config.resize, config.crop, config.bits)

    def of(self, path: Path) -> Preprocessing:
        """The preprocessing of one image and its mask. Subclasses may vary it by the path."""
        return self

    def image(self, path: Path) -> torch.Tensor:
        """The crop of an image file, uint8 (3, crop, crop).

        Raises:
            ImageError: the file cannot be read as an image.
        """
        return self.of(path).crop_of(read_image(path, self.bits))

    def crop_of(self, pixels: np.ndarray) -> torch.Tensor:
        """The crop of an image as ``read_image`` gives it, uint8 (3, crop, crop)."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        size = (self.resize, self.resize)
        resized = torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True)
        return self._cropped(resized[0]).contiguous()

    def crop_of_mask(self, defective: np.ndarray) -> torch.Tensor:
        """The crop, bool (crop, crop), of a mask, bool (height, width)."""
        defect = torch.from_numpy(defective)[None, None].to(torch.uint8)
        # "nearest-exact" samples at pixel centres, as the image's resize does: no half-pixel shift.
        size = (self.resize, self.resize)
        resized = torch.nn.functional.interpolate(defect, size, mode="nearest-exact")
        return self._cropped(resized[0]).bool()[0]

    def to_original(self, at: float, side: int) -> float:
        """Convert a coordinate of the crop to one of the original image, along one axis.

        Args:
            at: coordinate in the crop; pixel i extends from i to i + 1.
            side: size of the original image in pixels.
        """
        return ((self.resize - self.crop) // 2 + at) * side / self.resize

    def _cropped(self, pixels: torch.Tensor) -> torch.Tensor:
        """The crop of a resized image (3, resize, resize) or mask (1, resize, resize)."""
        start = (self.resize - self.crop) // 2
        return pixels[..., start : start + self.crop, start : start + self.crop]
