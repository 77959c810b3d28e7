"""Image files to arrays of pixels.

Pillow decodes all files except plain PNG (``plain_png``). Only five formats are tried, whatever the
name of the file. Sizes are checked before memory is allocated: reading takes less than 1 GB,
whatever the file contains. Damaged metadata do not prevent the pixels from being read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Protocol, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from padim.config import MAX_BITS
from padim.errors import ImageError
from padim.reading.image_metadata import UPRIGHT, Header, turned, without_metadata
from padim.reading.pillow_image import FORMATS, MAX_PIXELS, PillowImage, TooLargeError, check_webp
from padim.reading.quiet import quiet
from padim.reading.tiff_page import TiffPage, is_tiff

# Converts some rows of an image, (rows, width) or (rows, width, channels).
Convert = Callable[[np.ndarray, Header], np.ndarray]
Result = TypeVar("Result")


class Source(Protocol):
    """An image that can be decoded: ``PillowImage`` or ``TiffPage``."""

    header: Header

    @property
    def turn(self) -> int: ...

    def chunks(self, has_alpha: bool) -> Iterable[np.ndarray]: ...


def read_image(path: Path, bits: int = MAX_BITS) -> np.ndarray:
    """Any image file as 8-bit RGB, (height, width, 3), upright.

    Grey and palette images are converted, and an alpha channel is dropped. Values of 16 bits are
    scaled from 0..2^bits - 1 to 0..255, not clipped.

    Args:
        path: the file.
        bits: number of bits that a 16-bit file uses: a camera may use 10 or 12.

    Raises:
        ImageError: the file cannot be read, or its values have more bits or another type.
    """
    return _rgb(decode(path, _to_8_bit(str(path), bits))[0])


def pixels_of(picture: Image.Image, bits: int = MAX_BITS) -> np.ndarray:
    """A PIL image in memory as ``read_image`` gives its file.

    Raises:
        ImageError: it cannot be decoded, or its values have more bits or another type.
    """
    name = str(getattr(picture, "filename", "")) or "in memory"
    try:
        with quiet():
            return _rgb(_gathered(PillowImage(picture, None), _to_8_bit(name, bits), False))
    except (ImageError, MemoryError):
        raise
    except TooLargeError as error:
        raise ImageError(f"image {name} {error}") from error
    except Exception as error:  # Pillow decodes a file when its pixels are first used
        raise ImageError(_unreadable(name, error)) from error


def read_header(path: Path) -> Header:
    """Read the header of an image file; the pixels are not decoded.

    Raises:
        ImageError: the file is not an image, or too large.
    """
    return _with_source(path, lambda source: source.header)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file when upright, from its header alone.

    Raises:
        ImageError: as ``read_header``.
    """
    return read_header(path).upright_size


def decode(path: Path, convert: Convert, has_alpha: bool = False) -> tuple[np.ndarray, Header]:
    """Decode an image file upright with ``convert``; returns the pixels and the header.

    Args:
        path: the file.
        convert: called with some rows at a time, of grey or 3 channels; 8-bit or as stored.
        has_alpha: whether to keep an alpha channel, if there is one, as the last of 2 or 4.

    Raises:
        ImageError: the file cannot be read.
    """
    return _with_source(path, lambda image: (_gathered(image, convert, has_alpha), image.header))


def _with_source(path: Path, use: Callable[[Source], Result]) -> Result:
    def use_pixels(source: Source) -> Result:
        if 0 in source.header.size:
            raise ImageError(f"image {path} has no pixels; replace it or take it out of the folder")
        return use(source)

    try:
        with quiet(), path.open("rb") as file:
            return _use(path, file, use_pixels)
    except (ImageError, MemoryError):
        raise
    except TooLargeError as error:
        raise ImageError(f"image {path} {error}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"image {path} is too large ({error}); at most {MAX_PIXELS} pixels are read"
        ) from error
    except UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise ImageError(f"image {path} is empty (0 bytes)") from error
        raise ImageError(
            f"{path} is not an image ({', '.join(FORMATS)}), or its first bytes are damaged"
        ) from error
    except Exception as error:  # on a damaged file Pillow raises almost any exception
        raise ImageError(_unreadable(path, error)) from error


def _use(path: Path, file: IO[bytes], use: Callable[[Source], Result]) -> Result:
    """Open an image, and again without its metadata if they cause an error."""
    start = file.read(32)
    if start[8:12] == b"WEBP":
        check_webp(start, path.stat().st_size)
    try:
        return _open(file, use)
    except (ImageError, TooLargeError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        if isinstance(error, UnidentifiedImageError) and is_tiff(start):
            return use(TiffPage(path))
        bare = without_metadata(file)
        if bare is None:
            raise
        try:
            return _open(BytesIO(bare[0]), use, bare[1])
        except Exception:
            raise error from None


def _open(file: IO[bytes], use: Callable[[Source], Result], exif: bytes = b"") -> Result:
    file.seek(0)
    # Given a path, Pillow maps an uncompressed file, with a wrong width if the image is rotated.
    with Image.open(file, formats=FORMATS) as image:
        if exif:
            image.info["exif"] = exif
        return use(PillowImage(image, file))


def _gathered(source: Source, convert: Convert, has_alpha: bool) -> np.ndarray:
    """The converted rows of an image, upright."""
    header, pixels, row = source.header, np.empty(0), 0
    n_rows = (header.upright_size if source.turn == UPRIGHT else header.size)[1]
    for levels in source.chunks(has_alpha):
        part = convert(levels, header)
        if len(part) == n_rows and part.flags.c_contiguous and part.flags.writeable:
            pixels = part  # all rows, in memory of their own
            break
        if row == 0:
            pixels = np.empty((n_rows, *part.shape[1:]), part.dtype)
        pixels[row : row + len(part)] = part
        row += len(part)
    return pixels if source.turn == UPRIGHT else turned(pixels, source.turn)


def _to_8_bit(name: str, bits: int) -> Convert:
    def convert(levels: np.ndarray, header: Header) -> np.ndarray:
        if levels.dtype == np.uint8:
            return levels
        low, high = levels.min(), levels.max()
        if levels.dtype.kind not in "ui":
            raise ImageError(
                f"image {name} holds floating-point values, from {low:g} to {high:g}; expected "
                "whole numbers: save it with 8 or 16 bits"
            )
        if low < 0 or high > 65535:
            raise ImageError(
                f"image {name} holds values from {low} to {high}; expected 0 to 65535: "
                "save it with 8 or 16 bits"
            )
        top = 2 ** min(bits, header.bits) - 1
        if high > top:
            raise ImageError(
                f"bits {bits} hold values up to {top}, but image {name} has {high}", "bits"
            )
        return ((levels.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)

    return convert


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _unreadable(path: Path | str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"image {path} cannot be read ({reason}); replace it or take it out of the folder"
