"""Image files to arrays of pixels.

Pillow decodes: torchvision's PNG decoder is a third faster, but some damaged files make it crash
the whole process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from padim.errors import ImageError

# A rotated photograph is stored sideways and says so in this tag; 5 to 8 swap width and height.
_TRANSPOSED = (5, 6, 7, 8)
LOSSY = ("JPEG", "MPO")
# Only these decoders are ever tried: a file's content, not its name, chooses one, and others start
# programs (PostScript) or have seen less care.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 2**30 // 12  # 256 MiB when decoded, in every worker; above it Pillow warns of a bomb


def read_image(path: Path) -> np.ndarray:
    """Any image file as 8-bit RGB, (height, width, 3), upright.

    Grey and palette images are converted, an alpha channel is dropped, and 16-bit values are scaled
    from 0..65535 to 0..255 (not clipped).

    Raises:
        ImageError: the file cannot be read, or holds values that are neither 8 nor 16 bit.
    """

    return _rgb(_to_8_bit(decode(path, _rgb_or_deep_grey), str(path)))


def pixels_of(picture: Image.Image) -> np.ndarray:
    """A PIL image in memory as ``read_image`` gives its file.

    Raises:
        ImageError: it cannot be decoded, or holds values that are neither 8 nor 16 bit.
    """
    name = str(getattr(picture, "filename", "")) or "in memory"
    try:
        upright = ImageOps.exif_transpose(_rgb_or_deep_grey(picture))
        pixels = np.array(upright)
    except Exception as error:  # Pillow decodes a file when its pixels are first used
        raise ImageError(_unreadable(name, error)) from error
    return _rgb(_to_8_bit(pixels, name))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file when upright, from its header alone.

    Raises:
        ImageError: the file is no image.
    """
    try:
        with _opened(path) as image:
            width, height = image.size
            may_be_turned = image.format in (*LOSSY, "TIFF")
            tags = image.getexif() if may_be_turned else {}
            is_transposed = tags.get(ExifTags.Base.Orientation) in _TRANSPOSED
            return (height, width) if is_transposed else (width, height)
    except UnidentifiedImageError:
        return _exotic_size(path)
    except ImageError:
        raise
    except Exception as error:  # as in _decode
        raise ImageError(_unreadable(path, error)) from error


def _rgb_or_deep_grey(image: Image.Image) -> Image.Image:
    is_deep = image.mode.startswith("I") or image.mode == "F"
    return image if is_deep or image.mode in ("RGB", "L") else image.convert("RGB")


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def decode(path: Path, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Decode a file, turn it upright and convert it: (height, width) or (height, width, 3)."""
    try:
        with _opened(path) as image:
            image.load()
            # On a turned image Pillow forgets the format, which tells lossy masks: convert first.
            converted = convert(image)
            ImageOps.exif_transpose(converted, in_place=True)
            return np.array(converted)
    except UnidentifiedImageError:
        return _read_exotic(path)
    except ImageError:
        raise
    except Exception as error:  # on a damaged file Pillow raises almost any exception
        raise ImageError(_unreadable(path, error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image that is of a size to be read; Pillow's warnings are not printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            _check_size(path, *image.size)
            yield image


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"image {path} has {width} x {height} pixels; at most {MAX_PIXELS} are read"
        )


def _exotic_size(path: Path) -> tuple[int, int]:
    """``image_size`` of a file that Pillow does not know."""
    _expect_tiff(path)
    from tifffile import TiffFile  # slow to import

    try:
        with TiffFile(path) as file:
            page: Any = file.pages[0]
            return page.imagewidth, page.imagelength
    except Exception as error:  # as in _read_exotic
        raise ImageError(_unreadable(path, error)) from error


def _expect_tiff(path: Path) -> None:
    if path.stat().st_size == 0:
        raise ImageError(f"image {path} is empty (0 bytes)")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ImageError(f"{path} is not an image, or its first bytes are damaged")


def _read_exotic(path: Path) -> np.ndarray:
    """A file that Pillow cannot decode, such as TIFF with 16 bits per colour, by tifffile."""
    _check_size(path, *_exotic_size(path))
    import tifffile  # slow to import, and hardly ever needed

    try:
        pixels = np.asarray(tifffile.imread(path))
    except Exception as error:  # tifffile raises its own errors and many of Python's
        raise ImageError(_unreadable(path, error)) from error
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4) and pixels.shape[0] in (3, 4):
        pixels = np.moveaxis(pixels, 0, 2)  # stored plane by plane
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(f"image {path} has shape {pixels.shape}; expected one grey or RGB image")
    if pixels.ndim == 3:
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]
    return np.ascontiguousarray(pixels)


def _to_8_bit(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    is_integer = np.issubdtype(pixels.dtype, np.integer)
    if not is_integer or pixels.min() < 0 or pixels.max() > 65535:
        raise ImageError(
            f"image {name} holds {pixels.dtype} values; expected whole numbers from 0 to 65535: "
            "save it with 8 or 16 bits"
        )
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _unreadable(path: Path | str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"image {path} cannot be read ({reason}); replace it or take it out of the folder"
