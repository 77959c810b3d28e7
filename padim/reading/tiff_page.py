"""The first page of a TIFF file that Pillow cannot decode, read by tifffile.

Examples are 16 bits per colour stored plane by plane, and 64-bit numbers. Other pages are not read.
The size of the page is checked before its pixels are read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from padim.config import MAX_BITS
from padim.errors import ImageError
from padim.reading.image_metadata import UPRIGHT, Header

MAX_BYTES = 2**28  # of a page when decoded
_ORIENTATION = 274
_PLAIN, _DEFLATE = (1,), (8, 32946)  # compressions; tifffile knows others, without a bound
_WHITE_IS_ZERO = 0
_CONVERTED = (5, 6, 8)  # CMYK, YCbCr, CIELab


def is_tiff(start: bytes) -> bool:
    """Whether a file with these first bytes is TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def white_is_zero(pixels: np.ndarray) -> np.ndarray:
    """Invert levels in which 0 is white.

    Raises:
        ValueError: the levels have no largest one.
    """
    if pixels.dtype.kind != "u":
        raise ValueError(f"in {pixels.dtype} values white cannot be zero")
    return np.iinfo(pixels.dtype).max - pixels


class TiffPage:
    """The first page of a TIFF file.

    Args:
        path: the file.

    Attributes:
        header: its properties.
        turn: the orientation of its chunks.

    Raises:
        ImageError: the page is not a grey or colour image, or too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._file() as file:
            page = self._first(file)
            found = page.tags.valueof(_ORIENTATION, 1)
            self.turn = found if found in range(1, 9) else UPRIGHT
            size = int(page.imagewidth), int(page.imagelength)
            bits = 8 if page.dtype == np.uint8 else MAX_BITS
            self.header = Header(size, self.turn, bits, is_lossy=False)

    def chunks(self, has_alpha: bool) -> Iterator[np.ndarray]:
        """The levels as stored, in one chunk: (height, width), or (height, width, channels).

        Args:
            has_alpha: whether to keep the alpha channel, as the last of 2 or 4.
        """
        with self._file() as file:
            page = self._first(file)
            if page.compression in _DEFLATE:
                _check_inflated(file.filehandle, page)
            levels = np.asarray(page.asarray(maxworkers=1))
        if page.planarconfig == 2 and levels.ndim == 3:
            levels = np.moveaxis(levels, 0, 2)
        if page.photometric == _WHITE_IS_ZERO:
            levels = white_is_zero(levels)
        n_colours = page.samplesperpixel if has_alpha else 1 if page.samplesperpixel == 2 else 3
        yield levels[:, :, :n_colours] if levels.ndim == 3 and n_colours > 1 else _grey(levels)

    def _file(self) -> Any:
        import tifffile  # slow to import, and hardly ever needed

        return tifffile.TiffFile(self.path)

    def _first(self, file: Any) -> Any:
        page = file.pages[0]
        width, height, samples = page.imagewidth, page.imagelength, page.samplesperpixel
        if page.dtype is None or page.imagedepth != 1 or samples not in (1, 2, 3, 4):
            raise ImageError(
                f"image {self.path} has {samples} channels of {page.bitspersample} bits; "
                "expected one grey or RGB image of 8 or 16 bits: save it as PNG"
            )
        if page.photometric in _CONVERTED or page.compression not in (*_PLAIN, *_DEFLATE):
            raise ImageError(
                f"image {self.path} is a TIFF file in colours or a compression that are not read "
                f"({page.photometric.name}, {page.compression.name}); save it as PNG"
            )
        area = max(width * height, page.tilewidth * page.tilelength if page.is_tiled else 0)
        if area * samples * page.dtype.itemsize > MAX_BYTES:
            raise ImageError(
                f"image {self.path} has {width} x {height} pixels of {samples} channels; "
                f"at most {MAX_BYTES // 2**20} MiB are read: make it smaller"
            )
        return page


def _grey(levels: np.ndarray) -> np.ndarray:
    return levels[:, :, 0] if levels.ndim == 3 else levels


def _check_inflated(file: Any, page: Any) -> None:
    """Check how far strips inflate: a few bytes can become a thousand times their size."""
    if sum(page.databytecounts) > MAX_BYTES or len(page.dataoffsets) > MAX_BYTES // 2**10:
        raise ValueError("its strips are too many or too large")
    most = MAX_BYTES + 2**20
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        inflate, left, size = zlib.decompressobj(), file.read(count), 0
        while left and not inflate.eof:
            size += len(inflate.decompress(left, 2**20))
            left = inflate.unconsumed_tail
            if size > most:
                raise ValueError("a strip holds more than the largest image")
