"""The kinds of images that a model takes: a folder, paths, PIL images, arrays, uint8 tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from padim.config import IMAGE_SUFFIXES, MAX_BITS
from padim.errors import ImageError
from padim.reading.folders import NO_FILE, list_folder
from padim.reading.image_file import pixels_of, read_image

OneImage = str | Path | Image.Image | np.ndarray | torch.Tensor
Images = OneImage | Iterable[OneImage]

EXPECTED = (
    "expected a folder, a path, a PIL image, a uint8 array (h, w, 3) or (N, h, w, 3), a uint8 "
    "tensor (3, h, w) or (N, 3, h, w), or a list of these"
)


@dataclass(frozen=True)
class ImageSource:
    """One image that is not read yet.

    Attributes:
        path: its file; None for an image in memory.
        content: the image in memory; None for a file.
    """

    path: Path | None = None
    content: Image.Image | np.ndarray | None = None

    def read(self, bits: int = MAX_BITS) -> np.ndarray:
        """8-bit RGB, (height, width, 3).

        Args:
            bits: as in ``PaDiMConfig``.

        Raises:
            ImageError: the image cannot be decoded.
        """
        if self.path is not None:
            return read_image(self.path, bits)
        if isinstance(self.content, Image.Image):
            return pixels_of(self.content, bits)
        return np.array(self.content)  # a copy: views may be read-only or run backwards


def list_images(images: Images) -> list[ImageSource]:
    """List images of any kind, in order; the files of a folder sorted, however deep.

    Raises:
        ImageError: an input is missing, a folder has no image, or an image is of the wrong type,
            shape or size.
    """
    if isinstance(images, (str, Path)):
        return list(_from_path(Path(images)))
    if isinstance(images, Image.Image):
        return [ImageSource(content=images)]
    if isinstance(images, torch.Tensor):
        return _from_tensor(images)
    if isinstance(images, np.ndarray):
        return _from_array(images)
    if not isinstance(images, Iterable):
        raise ImageError(f"images are of type {type(images).__name__}; {EXPECTED}")
    return [source for image in images for source in list_images(image)]


def _from_path(path: Path) -> Iterator[ImageSource]:
    if path.is_dir():
        found = list_folder(path)
        broken = [one.path for one in found.skipped if one.reason == NO_FILE]
        if broken:
            raise ImageError(f"{broken[0]} is {NO_FILE}; replace it or take it out of the folder")
        if not found.images:
            raise ImageError(f"no image in {path}; expected files *{', *'.join(IMAGE_SUFFIXES)}")
        yield from map(ImageSource, found.images)
    elif path.exists():
        yield ImageSource(path)
    else:
        raise ImageError(f"{path} does not exist; expected an image or a folder of images")


def _from_tensor(images: torch.Tensor) -> list[ImageSource]:
    if images.dim() not in (3, 4) or images.shape[-3] != 3:
        raise ImageError(f"an image tensor has shape {tuple(images.shape)}; {EXPECTED}")
    if images.dtype != torch.uint8:
        raise ImageError(_wrong_type("tensor", images.dtype))
    return _from_array(images.detach().cpu().movedim(-3, -1).numpy())


def _from_array(images: np.ndarray) -> list[ImageSource]:
    if images.dtype != np.uint8:
        raise ImageError(_wrong_type("array", images.dtype))
    if images.ndim == 2:
        images = np.repeat(images[:, :, None], 3, axis=2)
    if images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise ImageError(f"an image array has shape {images.shape}; {EXPECTED}")
    if 0 in images.shape[-3:]:
        raise ImageError(f"an image has no pixels: shape {images.shape}")
    return [ImageSource(content=image) for image in (images if images.ndim == 4 else [images])]


def _wrong_type(kind: str, found: object) -> str:
    return (
        f"an image {kind} holds {found}; expected uint8 with values 0 to 255 "
        "(for floats in [0, 1]: multiply by 255, round, convert)"
    )
