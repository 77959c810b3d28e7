"""Metadata of image files: read the orientation, and remove damaged metadata.

Metadata that cannot be read never make an image unreadable. An orientation that cannot be read
counts as upright.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = 1
TRANSPOSED = (5, 6, 7, 8)  # width and height change places
INVERSE = {6: 8, 8: 6}  # the other orientations undo themselves
_MOST_BYTES = 2**28  # of a file whose metadata are removed; larger files are not changed
_PNG, _JPEG, _EXIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"Exif\0\0"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
PNG_START = len(_PNG) + 25  # with its first chunk, the size of the image
NO_PIXELS = b"\0\0\0\0IDAT"  # where Pillow stops reading a file that it opens
_MOST_METADATA = 2**24  # bytes of a chunk
_JPEG_TABLES = (0xDB, 0xC0, 0xC1, 0xC2, 0xC4, 0xDD)
_ADOBE = 0xEE  # APP14: which colours the channels are


@dataclass(frozen=True)
class Header:
    """The properties of an image that are known before its pixels are decoded.

    Attributes:
        size: (width, height) as stored.
        orientation: Exif orientation, 1 to 8; 1 is upright.
        bits: per channel, 8 to 16; 16 also for values of more bits or another type.
        is_lossy: whether levels may differ from those that were saved.
    """

    size: tuple[int, int]
    orientation: int
    bits: int
    is_lossy: bool

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the upright image."""
        return turned_size(self.size, self.orientation)


def orientation_of(image: Image.Image) -> int:
    """The Exif orientation, 1 to 8, of an open image of any format."""
    try:
        if image.format == "PNG" and "exif" not in image.info:
            exif = _png_exif(image)
        else:
            exif = image.getexif()
        found = exif.get(ExifTags.Base.Orientation)
    except Exception:  # on damaged Exif data Pillow raises almost any exception
        found = _orientation_in(image.info.get("exif", b""))
    return found if isinstance(found, int) and 1 <= found <= 8 else UPRIGHT


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after ``turned``."""
    return size[::-1] if orientation in TRANSPOSED else size


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Set pixels (height, width, ...), stored with an orientation, upright."""
    if orientation in TRANSPOSED:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def without_metadata(file: IO[bytes]) -> tuple[bytes, bytes] | None:
    """A PNG or JPEG file reduced to its pixels, and its Exif data; None for others."""
    file.seek(0)
    content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        return None
    if content.startswith(_PNG):
        return _bare_png(content)
    return _bare_jpeg(content) if content.startswith(_JPEG) else None


def _orientation_in(exif: bytes) -> int | None:
    """Read this tag from Exif data whose other tags may be damaged."""
    data = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 10:
        return None
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    for at in range(start + 2, min(len(data) - 11, start + 2 + 12 * 1000), 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", data, at)
        if tag == ExifTags.Base.Orientation and kind == 3 and count == 1:
            return value
    return None


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type, the first byte and the end of each chunk."""
    at = len(_PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], at, at + 12 + length
        at += 12 + length


def _bare_png(content: bytes) -> tuple[bytes, bytes]:
    pixels, exif = [_PNG], b""
    for kind, start, end in _png_chunks(content):
        if kind in _PNG_PIXELS:
            pixels.append(content[start:end])
        elif kind == b"eXIf":
            exif = content[start + 8 : end - 4]
    return b"".join(pixels), exif


def _png_exif(image: Image.Image) -> Image.Exif:
    """The Exif data of a PNG file, also those after its pixels.

    Pillow would decode the image to reach them, so it is given a copy without the pixels.
    """
    file = getattr(image, "fp", None)
    if file is None:  # decoded already
        return image.getexif()
    place = file.tell()
    try:
        kept, is_late = _metadata_chunks(file, place)
    finally:
        file.seek(place)
    if not is_late:
        return Image.Image.getexif(image)
    with Image.open(BytesIO(kept + NO_PIXELS), formats=("PNG",)) as bare:
        return Image.Image.getexif(bare)


def _metadata_chunks(file: IO[bytes], place: int) -> tuple[bytes, bool]:
    """The start of a PNG file with all metadata, and whether some are after ``place``."""
    file.seek(0)
    kept, is_late = [file.read(PNG_START)], False
    while len(head := file.read(8)) == 8:
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] in _PNG_METADATA and length <= _MOST_METADATA:
            is_late |= file.tell() > place
            kept.append(head + file.read(length + 4))
        else:
            file.seek(length + 4, 1)
    return b"".join(kept), is_late


def _bare_jpeg(content: bytes) -> tuple[bytes, bytes] | None:
    """Segments up to the scan without APPn and comments; then the rest unchanged."""
    kept, exif, at = [_JPEG], b"", 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDA:
            return b"".join([*kept, content[at:]]), exif
        end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if is_metadata and content[end : end + 1] != b"\xff":  # its length is wrong
            found = _next_table(content, at + 4)
            if found is None:
                return None
            end = found
        segment = content[at:end]
        if not is_metadata or marker == _ADOBE:
            kept.append(segment)
        elif segment[4:].startswith(_EXIF):
            exif = segment[4:]
        at = end
    return None


def _next_table(content: bytes, start: int) -> int | None:
    """The next table of a JPEG file; None if a thumbnail's could be taken for it."""
    places = (content.find(bytes((0xFF, marker)), start) for marker in _JPEG_TABLES)
    found = min((place for place in places if place >= 0), default=None)
    return None if found is None or _JPEG in content[start:found] else found
