"""Images that Pillow decodes: checked first, then returned some rows at a time.

Decoding takes up to 12 bytes per pixel (coefficients of a JPEG file, canvases of a WebP file). The
limits keep this below 1 GB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from padim.config import MAX_BITS
from padim.reading.image_metadata import UPRIGHT, Header, orientation_of
from padim.reading.plain_png import decode_plain_png
from padim.reading.tiff_page import white_is_zero

# Only these decoders are tried. The content of a file chooses one, not its name, and others start
# programs (PostScript) or are less tested.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 2**30 // 12  # 256 MiB when decoded, in every worker; above it Pillow warns of a bomb
MAX_WEBP_PIXELS = MAX_PIXELS // 2
MAX_WEBP_BYTES = 2**28  # of a file; Pillow reads it as a whole
_MAX_STRIP_BYTES = 2**29  # of stored pixels, before Pillow converts them
_BAND_PIXELS = 2**22  # converted at a time: a large image is never held in two forms
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES, _PHOTOMETRIC = 256, 257, 258, 277, 262
_TILE_WIDTH, _TILE_HEIGHT, _PLANES = 322, 323, 284
_LOSSY = ("jpeg", "tiff_jpeg", "webp", "jpeg2000")
_COMPUTED = ("CMYK", "YCbCr", "LAB")  # colours that are converted: black need not become 0
_FOREIGN = "B" if sys.byteorder == "little" else "L"


class TooLargeError(Exception):
    """An image is too large to be decoded; the text follows its name in a message."""


class PillowImage:
    """An image that Pillow has opened; ``chunks`` decodes it.

    Args:
        image: the image, not decoded yet unless it is in memory.
        file: what it was opened from; None for an image in memory.

    Attributes:
        header: its properties.

    Raises:
        TooLargeError: it takes too much memory to decode.
        UnidentifiedImageError: Pillow would decode it wrongly.
    """

    def __init__(self, image: Image.Image, file: IO[bytes] | None) -> None:
        self._image, self._file = image, file
        _check_size(image)
        self._raw_mode = _raw_mode(image)
        if file is None:
            _load_unmapped(image)
        size = image.size
        if file is not None and image.format == "TIFF":  # Pillow swaps the sides if rotated
            size = _tag(image, _TIFF_WIDTH), _tag(image, _TIFF_HEIGHT)
        orientation, bits = orientation_of(image), _bits(image, self._raw_mode)
        self.header = Header(size, orientation, bits, self._is_lossy())

    def chunks(self, has_alpha: bool) -> Iterator[np.ndarray]:
        """The levels, some rows at a time: (rows, width), or (rows, width, channels).

        Args:
            has_alpha: whether to keep the alpha channel, as the last of 4.
        """
        low_bytes = _LOW_BYTES.get(self._raw_mode)
        if low_bytes is not None and self._file is not None:
            for levels in self._deep_colours(low_bytes, self._file):
                yield levels if has_alpha else levels[:, :, :3]
            return
        if self._image.format == "PNG" and self._file is not None:
            plain = decode_plain_png(self._file)
            if plain is not None:
                for top, end in _rows(self._image):
                    levels = plain[top:end]
                    yield levels if has_alpha or plain.ndim == 2 else levels[:, :, :3]
                return
        self._image.load()
        mode = _mode(self._image, has_alpha)
        is_inverted = _tag(self._image, _PHOTOMETRIC) == 0 and mode is None
        for part in _bands(self._image):
            levels = np.asarray(part if mode is None else _converted(part, mode))
            yield white_is_zero(levels) if is_inverted else levels

    @property
    def turn(self) -> int:
        """The orientation of the chunks: Pillow sets TIFF upright, and no other format."""
        return UPRIGHT if self._image.format == "TIFF" else self.header.orientation

    def _deep_colours(self, low: _LowBytes, file: IO[bytes]) -> Iterator[np.ndarray]:
        """Pillow decodes only the high bytes, so the file is decoded twice."""
        width, height = self.header.size if self.turn != UPRIGHT else self.header.upright_size
        highs = np.empty((height, width, len(self._image.getbands())), np.uint8)
        row = 0
        for part in _decoded(file):
            highs[row : row + part.height] = np.asarray(part)
            row += part.height
        row = 0
        for part in _decoded(file, low):
            high = highs[row : row + part.height].astype(np.uint16)
            row += part.height
            yield high << 8 | np.asarray(part)[:, :, low.channels]

    def _is_lossy(self) -> bool:
        if self._image.format == "WEBP" and self._file is not None:
            return not _is_lossless_webp(self._file)
        return (
            self._image.format in ("JPEG", "MPO")
            or self._image.mode in _COMPUTED
            or _tag(self._image, _PHOTOMETRIC) in (5, 6, 8)  # libtiff converts them
            or self._image.info.get("compression") in _LOSSY
        )


@dataclass(frozen=True)
class _LowBytes:
    """How to read the low bytes of 16-bit colours.

    Attributes:
        raw_mode: the raw mode that makes Pillow take the other byte.
        channels: the decoded channels that hold these bytes.
    """

    raw_mode: str
    channels: tuple[int, ...]

    def args(self, args: Any) -> Any:
        """The arguments of a decoder with this raw mode."""
        return (self.raw_mode, *args[1:]) if isinstance(args, tuple) else self.raw_mode


_LOW_BYTES = {
    f"{mode};16{order}": _LowBytes(f"{mode};16{other}", channels)
    for mode, channels in (("RGB", (0, 1, 2)), ("RGBA", (0, 1, 2, 3)), ("RGBX", (0, 1, 2)))
    for order, other in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
} | {"LA;16B": _LowBytes("RGBA", (1, 1, 1, 3))}


def _decoded(file: IO[bytes], low: _LowBytes | None = None) -> Iterator[Image.Image]:
    """Open a file again, and yield its rows."""
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        if low is not None:
            image.tile = [tile._replace(args=low.args(tile.args)) for tile in image.tile]
        image.load()
        yield from _bands(image)


def check_webp(start: bytes, n_bytes: int) -> None:
    """Check a WebP file by its first 30 bytes: Pillow allocates canvases on opening.

    Raises:
        TooLargeError: it takes too much memory.
    """
    kind, width, height = start[12:16], 0, 0
    if kind == b"VP8X":
        width = int.from_bytes(start[24:27], "little") + 1
        height = int.from_bytes(start[27:30], "little") + 1
    elif kind == b"VP8L":
        both = int.from_bytes(start[21:25], "little")
        width, height = (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width = int.from_bytes(start[26:28], "little") & 0x3FFF
        height = int.from_bytes(start[28:30], "little") & 0x3FFF
    _check_area(width, height, MAX_WEBP_PIXELS)
    if n_bytes > MAX_WEBP_BYTES:
        raise TooLargeError(f"is a WebP file of {n_bytes} bytes; at most {MAX_WEBP_BYTES} are read")


def _check_size(image: Image.Image) -> None:
    is_wide = image.format in ("JPEG", "MPO") and image.mode == "CMYK"
    is_wide |= _raw_mode(image) in _LOW_BYTES
    _check_area(*image.size, MAX_PIXELS * 3 // 4 if is_wide else MAX_PIXELS)
    if image.format != "TIFF":
        return
    _check_area(_tag(image, _TILE_WIDTH) or 0, _tag(image, _TILE_HEIGHT) or 0, MAX_PIXELS)
    bits = _tag(image, _TIFF_BITS) or (1,)
    if _tag(image, _PLANES) == 2 and max(bits) > 8:
        raise UnidentifiedImageError("Pillow takes every other byte of deep planes")
    samples = max(len(bits), _tag(image, _TIFF_SAMPLES) or 1)
    n_bytes = image.width * image.height * samples * max(bits) // 8
    if n_bytes > _MAX_STRIP_BYTES:
        raise TooLargeError(f"has {n_bytes} bytes of pixels; at most {_MAX_STRIP_BYTES} are read")


def _check_area(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise TooLargeError(
            f"has {width} x {height} pixels; at most {most} are read: make it smaller"
        )


def _load_unmapped(image: Image.Image) -> None:
    """Decode without mapping, which gives an uncompressed rotated image a wrong width."""
    name = getattr(image, "filename", None)
    if image.format != "TIFF" or name is None:
        image.load()
        return
    vars(image)["filename"] = ""
    try:
        image.load()
    finally:
        vars(image)["filename"] = name


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """The image itself if it is small, otherwise some of its rows at a time."""
    for top, end in _rows(image):
        is_all = end - top == image.height
        yield image if is_all else image.crop((0, top, image.width, end))


def _rows(image: Image.Image) -> Iterator[tuple[int, int]]:
    """The first row of each band, and the row after its last one."""
    step = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        yield top, min(top + step, image.height)


def _mode(image: Image.Image, has_alpha: bool) -> str | None:
    """The mode to convert to; None for deep grey, which Pillow cannot convert."""
    if image.mode.startswith("I") or image.mode == "F":
        return None
    if image.mode == "L" or (image.mode == "1" and has_alpha):
        return "L"
    is_transparent = image.mode == "P" and "transparency" in image.info
    is_transparent |= image.mode in ("PA", "RGBA", "LA", "La", "RGBa")
    return "RGBA" if has_alpha and is_transparent else "RGB"


def _converted(part: Image.Image, mode: str) -> Image.Image:
    if part.mode in ("La", "RGBa"):  # premultiplied by alpha: Pillow converts to this mode only
        part = part.convert(part.mode.upper())
    return part if part.mode == mode else part.convert(mode)


def _raw_mode(image: Image.Image) -> str:
    """Pillow's raw mode of the file; empty for formats without one."""
    tiles = getattr(image, "tile", None) or [None]
    args = getattr(tiles[0], "args", None)
    raw_mode = args[0] if isinstance(args, tuple) and args else args
    return raw_mode if isinstance(raw_mode, str) else ""


def _bits(image: Image.Image, raw_mode: str) -> int:
    if image.mode == "I;16" and raw_mode == "I;12":
        return 12
    is_deep = image.mode.startswith("I") or image.mode == "F" or raw_mode in _LOW_BYTES
    return MAX_BITS if is_deep else 8


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def _is_lossless_webp(file: IO[bytes]) -> bool:
    """Whether the first picture is lossless."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8 ", b"VP8L", b"ANMF"):
            return head[:4] == b"VP8L"
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, 1)
    return False
