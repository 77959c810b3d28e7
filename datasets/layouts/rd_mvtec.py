"""Rd-MVTec AD (paper, section IV-A): MVTec AD whose images are not aligned.

Every image, of training and test alike, is rotated by a random angle within 10 degrees and cropped
at a random place, and its mask with it. What comes in from outside is black. A version draws these
once for each image, from the version's number and the image's name in the data set, so that it is
the same on every machine.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from padim.preprocessing import Preprocessing

MAX_ANGLE = 10.0  # degrees, to either side
NAME_PARTS = 4  # of a path, that name an image in MVTec's layout: class, split, defect, file


@dataclass(frozen=True)
class RandomPreprocessing(Preprocessing):
    """Resize, rotate, and crop at random.

    Attributes:
        version: another one draws other angles and places.
    """

    version: int = 0

    def of(self, path: Path) -> Preprocessing:
        name = "/".join((str(self.version), *path.parts[-NAME_PARTS:]))
        seed = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4], "big")
        draw = np.random.RandomState(seed)  # whose streams are frozen for good
        angle = draw.uniform(-MAX_ANGLE, MAX_ANGLE)
        top, left = draw.randint(0, self.resize - self.crop + 1, size=2)
        return Placed(self.resize, self.crop, self.bits, float(angle), int(top), int(left))


@dataclass(frozen=True)
class Placed(Preprocessing):
    """Resize, rotate by ``angle`` degrees counter-clockwise, and crop from (``top``, ``left``)."""

    angle: float = 0.0
    top: int = 0
    left: int = 0

    def _cropped(self, pixels: torch.Tensor) -> torch.Tensor:
        is_mask = len(pixels) == 1
        image = Image.fromarray(pixels[0].numpy() if is_mask else pixels.permute(1, 2, 0).numpy())
        how = Image.Resampling.NEAREST if is_mask else Image.Resampling.BICUBIC
        turned = torch.from_numpy(np.array(image.rotate(self.angle, how)))
        turned = turned[None] if is_mask else turned.permute(2, 0, 1)
        rows = slice(self.top, self.top + self.crop)
        return turned[:, rows, self.left : self.left + self.crop]
