"""Ground truth: mask files to binary masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from padim.image_file import LOSSY, decode


def read_mask(path: Path) -> np.ndarray:
    """A mask file as bool (height, width): true wherever it is not black.

    A lossy file has noise around its edges: there it is true from the middle grey up.

    Raises:
        ImageError: the file cannot be read.
    """
    level = 0

    def colours_or_labels(image: Image.Image) -> Image.Image:
        nonlocal level
        level = 127 if image.format in LOSSY else 0
        # A palette's index 1 may be black and alpha is no defect; the labels 1, 2, ... of a grey
        # image are kept as they are, for all of them mean a defect.
        return image.convert("RGB") if image.mode in ("P", "PA", "RGBA", "LA") else image

    pixels = decode(path, colours_or_labels)
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    return pixels > level
