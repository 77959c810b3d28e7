"""Plain PNG files, decoded by libspng in less than half of Pillow's time.

A file is plain if it is 8-bit grey, RGB or RGBA, not interlaced, without a transparent colour, and
has one frame. Pillow opens and checks every file first; only the pixels are decoded here. Pillow
decodes files that are not plain or that libspng rejects. libspng receives only the header and the
pixels, in one chunk whose end it checks, so both give the same pixels and the same errors.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import IO, Any

import numpy as np
from PIL import Image

from padim.reading.image_metadata import NO_PIXELS, PNG_START

_CHANNELS = {0: 1, 2: 3, 6: 4}  # by the colour type
# Chunks that change no pixel; with any other chunk, a file is not plain.
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME")
_BESIDE = (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", *_TEXTS)
_MOST_BESIDE = 2**20  # bytes
_MOST_BYTES = 2**26  # compressed; there are three copies for a moment
_MOST_LEVELS = 2**27


def decode_plain_png(file: IO[bytes]) -> np.ndarray | None:
    """The pixels of a plain PNG file, uint8 (height, width), or (height, width, 3 or 4).

    Args:
        file: opened by Pillow; its position does not change.

    Returns:
        None if Pillow must decode the file: it is not plain or is damaged, or ``imagecodecs`` is
        missing.
    """
    load = _loader()
    if load is None:
        return None
    place = file.tell()
    try:
        file.seek(0)
        header = file.read(PNG_START)
        shape = _shape(header)
        content = None if shape is None else _plain_content(header, file)
        found = None if content is None else load(content)
        return found if found is not None and found.shape == shape else None
    except Exception:  # Pillow decodes it, or raises the proper error
        return None
    finally:
        file.seek(place)


@cache
def _loader() -> Callable[[bytes], Any] | None:
    try:
        from imagecodecs import spng_decode
    except ImportError:  # no wheel for this platform
        return None
    return spng_decode


def _shape(header: bytes) -> tuple[int, ...] | None:
    """The shape of the pixels from the header; None if they are not plain."""
    width, height, bits, colours, *methods = struct.unpack(">IIBBBBB", header[16:29])
    n_channels = _CHANNELS.get(colours)
    is_plain = header[8:16] == b"\0\0\0\x0dIHDR" and bits == 8 and not any(methods)
    if n_channels is None or not is_plain or width * height * n_channels > _MOST_LEVELS:
        return None
    return (height, width) if n_channels == 1 else (height, width, n_channels)


def _plain_content(header: bytes, file: IO[bytes]) -> bytes | None:
    """The file reduced to its header and one chunk of pixels; None if it is not plain."""
    pixels: list[bytes] = []
    beside: list[bytes] = []
    is_late = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT" and not is_late:
            if sum(map(len, pixels)) + length > _MOST_BYTES:
                return None
            pixels.append(file.read(length))
            file.seek(4, 1)  # Pillow does not look at this checksum either
        elif kind in (_TEXTS if pixels else _BESIDE):
            if sum(map(len, beside)) + length > _MOST_BESIDE:
                return None
            beside.append(head + file.read(length + 4))
            is_late = bool(pixels)
        elif kind == b"IEND" and pixels:
            break
        else:
            return None
    else:
        return None
    if is_late:  # Pillow reads chunks after the pixels too, and must not fail there
        Image.open(BytesIO(b"".join((header, *beside, NO_PIXELS))), formats=("PNG",)).close()
    return b"".join((header, *_chunk(b"IDAT", b"".join(pixels)), *_chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    summary = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", summary)
