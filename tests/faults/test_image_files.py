"""Image files turned, mutated, mislabelled or hostile: pixels, or one line, in little memory.

``IMAGE_FILES`` in the environment, by ``make soak``, sets how many mutations are tried.
"""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from datasets.loading.video import mask_stack, read_frame
from datasets.masks import read_mask
from datasets.types import DataError
from padim.errors import ImageError, PaDiMError
from padim.reading import plain_png
from padim.reading.image_file import image_size, pixels_of, read_header, read_image
from padim.reading.tiff_page import MAX_BYTES

ROOT = Path(__file__).parents[2]
N_MUTATIONS = int(os.environ.get("IMAGE_FILES", "180"))
RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
SMOOTH = np.dstack([np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8) * 3] * 3)
READERS = (read_image, read_mask, image_size)


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a viewer shows them, by Exif's own words for the first row and column."""
    return {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: np.swapaxes(p, 0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(np.swapaxes(p, 0, 1), 2),
        8: np.rot90,
    }[orientation](stored)


MODES = ("1", "L", "P", "RGB", "RGBA", "RGBX", "LA", "CMYK", "YCbCr", "I;16", "I")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_tiff_is_turned_once_in_every_mode(
    tmp_path: Path, compression: str, mode: str, orientation: int
) -> None:
    image = Image.fromarray(RGB).convert("L" if mode.startswith("I") else "RGB")
    image = image.convert({"I;16": "I", "LA": "L"}.get(mode, mode)).convert(mode)
    path = tmp_path / "image.tif"
    image.save(path, exif=exif_with(orientation), compression=compression)
    stored = tmp_path / "stored.tif"
    image.save(stored, compression=compression)
    expected = shown(read_image(stored), orientation)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[1::-1]
    with Image.open(path) as opened:
        np.testing.assert_array_equal(pixels_of(opened), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "late.png", "xmp.png", "a.jpg", "a.webp", "a.tif"])
def test_every_tag_in_every_format(tmp_path: Path, name: str, orientation: int) -> None:
    path, options = tmp_path / name, {"exif": exif_with(orientation)}
    if name == "xmp.png":
        said = PngInfo()
        said.add_itxt("XML:com.adobe.xmp", f'<x tiff:Orientation="{orientation}"/>')
        options = {"pnginfo": said}
    if name.endswith(".webp"):
        options["lossless"] = True
    Image.fromarray(SMOOTH).save(path, **options)
    if name == "late.png":  # behind the pixels, as the format allows
        content = path.read_bytes()
        chunks = list(png_chunks(content))
        chunks.sort(key=lambda chunk: (chunk[4:8] == b"IEND", chunk[4:8] == b"eXIf"))
        path.write_bytes(content[:8] + b"".join(chunks))
    found, expected = read_image(path).astype(int), shown(SMOOTH, orientation)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= (12 if name.endswith("jpg") else 0)
    assert image_size(path) == expected.shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_that_pillow_does_not_know_is_turned(tmp_path: Path, orientation: int) -> None:
    path, deep = tmp_path / "deep.tif", np.moveaxis(RGB.astype(np.uint16) * 257, 2, 0)
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, deep, photometric="rgb", planarconfig="separate", extratags=tags)
    np.testing.assert_array_equal(read_image(path), shown(RGB, orientation))
    assert image_size(path) == shown(RGB, orientation).shape[1::-1]


def test_an_mpo_file_is_turned_and_its_other_frames_left(tmp_path: Path) -> None:
    path, second = tmp_path / "two.jpg", Image.new("RGB", (9, 9))
    Image.fromarray(SMOOTH).save(
        path, format="MPO", save_all=True, append_images=[second], exif=exif_with(6)
    )
    assert read_image(path).shape == (40, 30, 3)
    assert image_size(path) == (30, 40)
    assert read_header(path).is_lossy


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
@pytest.mark.parametrize("bits", [10, 16])
def test_deep_png_of_every_kind_keeps_its_low_bytes(
    tmp_path: Path, colour_type: int, bits: int
) -> None:
    n_channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.random.default_rng(1).integers(0, 2**bits, (30, 40, n_channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(png(40, 30, 16, colour_type, rows))
    colours = values[:, :, :3] if n_channels > 2 else np.repeat(values[:, :, :1], 3, axis=2)
    top = 2**bits - 1
    expected = (colours.astype(np.uint32) * 255 + top // 2) // top
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", bits), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_tiff_colours_keep_their_low_bytes(
    tmp_path: Path, compression: str | None, order: str
) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (30, 40, 3), dtype=np.uint16)
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, values, photometric="rgb", byteorder=order, compression=compression)
    expected = (values.astype(np.uint32) * 255 + 2047) // 4095
    np.testing.assert_array_equal(read_image(path, 12), expected)


# Metadata that is damaged or too large, around pixels that are not.


def png_chunks(content: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(content):
        end = at + 12 + struct.unpack_from(">I", content, at)[0]
        yield content[at:end]
        at = end


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def saved(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMOOTH).save(file, **options)
    return file.getvalue()


BOMB = zlib.compress(bytes(2**22))
TURNED = exif_with(6).tobytes()
BAD_TAG = (  # upright is tag 6; the tag behind it claims 4 GB
    b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    + struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFFF0)
    + b"\0\0\0\0"
)
PNG_METADATA = {
    "broken_exif": chunk(b"eXIf", b"\xff" * 30),
    "empty_exif": chunk(b"eXIf", b""),
    "text": chunk(b"zTXt", b"key\0\0" + BOMB),
    "long_text": chunk(b"tEXt", b"key\0" + b"x" * 2**21),
    "international": chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB),
    "profile": chunk(b"iCCP", b"name\0\0" + BOMB),
    "broken_profile": chunk(b"iCCP", b"name"),
    "raw_profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n\n\nzz")),
    "physical": chunk(b"pHYs", b"\0"),
    "gamma": chunk(b"gAMA", b""),
    "checksum": chunk(b"tEXt", b"key\0text")[:-1] + b"\xaa",
    "animation": chunk(b"acTL", b"\0\0"),
}


@pytest.mark.parametrize("name", PNG_METADATA)
@pytest.mark.parametrize("place", [1, -1])
def test_png_pixels_are_read_whatever_is_said_beside(tmp_path: Path, name: str, place: int) -> None:
    content = saved(format="PNG")
    chunks = list(png_chunks(content))
    chunks.insert(place if place > 0 else len(chunks) - 1, PNG_METADATA[name])
    (tmp_path / "image.png").write_bytes(content[:8] + b"".join(chunks))
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), SMOOTH)
    assert image_size(tmp_path / "image.png") == (40, 30)


def segment(marker: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2 if length is None else length) + data


JPEG_METADATA = {
    "bad_tag": segment(0xE1, BAD_TAG),
    "noise": segment(0xE1, b"Exif\0\0" + b"\xff" * 40),
    "short": segment(0xE1, b"Exif\0\0II*\0"),
    "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff\xff\xff\xff"),
    "frames": segment(0xE2, b"MPF\0" + b"\xff" * 40),
    "profile": segment(0xE2, b"ICC_PROFILE\0\x09\x01xxxx"),
    "jfif": segment(0xE0, b"JFIF\0"),
    "adobe": segment(0xEC, b"Adobe"),
    "too_long": segment(0xE5, b"x" * 20, 60),
    "too_short": segment(0xE5, b"x" * 20, 4),
    "of_no_length": segment(0xE5, b"x" * 20, 0),
}


@pytest.mark.parametrize("name", JPEG_METADATA)
def test_jpeg_pixels_are_read_whatever_is_said_beside(tmp_path: Path, name: str) -> None:
    content = saved(format="JPEG", quality=95)
    (tmp_path / "image.jpg").write_bytes(content[:2] + JPEG_METADATA[name] + content[2:])
    expected = shown(SMOOTH, 6 if name == "bad_tag" else 1).astype(int)
    found = read_image(tmp_path / "image.jpg")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 12
    assert image_size(tmp_path / "image.jpg") == expected.shape[1::-1]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_turned_image_with_another_bad_tag_is_turned(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"image.{kind.lower()}"
    exif = exif_with(6)
    exif[0x9286] = "a comment of a wrong type"
    options = {"lossless": True} if kind == "WEBP" else {}
    payload = exif if kind == "TIFF" else BAD_TAG
    path.write_bytes(saved(format=kind, exif=payload, **options))
    np.testing.assert_array_equal(read_image(path), shown(SMOOTH, 6))
    assert image_size(path) == (30, 40)


# Content that is no image of the five formats.

OTHERS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
    "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "GIF": saved(format="GIF"),
    "PPM": saved(format="PPM"),
    "JPEG2000": saved(format="JPEG2000"),
    "AVIF": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(99),
    "ICO": saved(format="ICO"),
    "PSD": b"8BPS\0\1" + bytes(99),
    "HDF": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "FITS": b"SIMPLE  =                    T" + bytes(2880),
    "PLAYLIST": b"#EXTM3U\n#EXTINF:1,\nother.mp4\n",
    "ZIP": b"PK\3\4" + bytes(60),
    "EMPTY": b"",
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_content_of_another_kind_is_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"{kind}.{suffix}"
    path.write_bytes(OTHERS[kind])
    for read in READERS:
        with pytest.raises(ImageError, match=rf"{path.name} is (not an image|empty)"):
            read(path)


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind != "EMPTY"])
def test_a_video_and_its_masks_are_of_their_format_alone(tmp_path: Path, kind: str) -> None:
    video, masks = tmp_path / "01_001.avi", tmp_path / "01_001.npy"
    for path in (video, masks):
        path.write_bytes(OTHERS[kind])
    pytest.importorskip("av")
    with pytest.raises(DataError, match="cannot be read"):
        read_frame(video, 0)
    with pytest.raises(DataError, match="cannot be read"):
        mask_stack(masks)


# Files that ask for more memory than they may.


def ifd(tags: dict[int, int], at: int = 0) -> bytes:
    """A TIFF directory of long values, and where the next one is."""
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", at)


def tiff(tags: dict[int, int], data: bytes, n_pages: int = 1) -> bytes:
    """A TIFF file whose pages share one strip."""
    tags = {258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2**31, 279: len(data)} | tags
    start, size = 8 + len(data), len(ifd(tags))
    pages = (ifd(tags, start + size * (i + 1) * (i + 1 < n_pages)) for i in range(n_pages))
    return b"II*\0" + struct.pack("<I", start) + data + b"".join(pages)


def inflating(n_bytes: int) -> bytes:
    packer, block = zlib.compressobj(1), bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(n_bytes >> 20)) + packer.flush()


@cache
def hostile() -> dict[str, bytes]:
    side = {256: 2000, 257: 2000}
    small, deep = {256: 10, 257: 10}, {258: 16, 277: 2, 259: 8}
    page, bomb = inflating(2000 * 2000 * 4), inflating(MAX_BYTES + 2**25)
    return {
        "pages.tif": tiff(side | {259: 8}, page, 300),
        "pages_of_another_make.tif": tiff(side | deep, page, 300),
        "strip.tif": tiff(small | {259: 8}, bomb),
        "strip_of_another_make.tif": tiff(small | deep, bomb),
        "tile.tif": tiff(small | {322: 2**16, 323: 2**16, 324: 8, 325: 99}, bytes(99)),
        "wide.tif": tiff({256: 2**31, 257: 2**31}, b"x"),
        "wide_of_another_make.tif": tiff({256: 2**20, 257: 2**20} | deep, b"x"),
        "circle.tif": tiff(small, bytes(100))[:-4] + struct.pack("<I", 108),
        "wide.png": png(2**31 - 1, 2**31 - 1, 8, 2, b""),
        "large.png": png(4000, 4000, 8, 2, bytes(4000 * 12001)),
        "large_without_pixels.png": png(6600, 6600, 8, 2, b""),
        "wide.webp": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(20),
        "wide.bmp": b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 2**30, -(2**30), 1, 24, 0),
        "text.png": PNG_METADATA["text"].join((png(9, 9, 8, 0, bytes(90))[:33], b"")) * 50,
    }


MEASURE = """
import resource, sys
from pathlib import Path
from datasets.masks import read_mask
from padim.errors import ImageError
from padim.reading.image_file import image_size, read_image
import tifffile  # which padim imports when it first needs it

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (image_size, read_image, read_mask):
        try:
            read(path)
        except ImageError as error:
            assert path.name in str(error)
    assert peak() - before < 400, (path.name, peak() - before)
print("all read")
"""


def test_hostile_files_take_little_memory_and_say_nothing(tmp_path: Path) -> None:
    for name, content in hostile().items():
        (tmp_path / name).write_bytes(content)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "always"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("all read\n", "")


def test_what_is_larger_than_the_limits_is_said(tmp_path: Path) -> None:
    for name in ("wide.tif", "wide_of_another_make.tif", "tile.tif", "wide.webp"):
        (tmp_path / name).write_bytes(hostile()[name])
        for read in READERS:
            with pytest.raises(ImageError, match=r"at most .* read"):
                read(tmp_path / name)


# Mutations of whole files.


def originals() -> list[tuple[str, bytes]]:
    deep = io.BytesIO()
    tifffile.imwrite(deep, np.moveaxis(RGB.astype(np.uint16), 2, 0), photometric="rgb")
    kinds = [
        ("png", {"format": "PNG", "exif": TURNED}),
        ("jpg", {"format": "JPEG", "exif": TURNED, "progressive": True}),
        ("webp", {"format": "WEBP", "exif": TURNED}),
        ("bmp", {"format": "BMP"}),
        ("tif", {"format": "TIFF", "exif": TURNED}),
        ("tif", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("tif", {"format": "TIFF", "compression": "jpeg"}),
        ("tif", {"format": "TIFF", "compression": "tiff_adobe_deflate"}),
    ]
    return [(suffix, saved(**options)) for suffix, options in kinds] + [("tif", deep.getvalue())]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A file in which structures are changed: numbers, places, lengths."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(min(len(data), draw.choice([32, 300, len(data)])))
        how = draw.randrange(5)
        if how == 0:
            data[at] = draw.randrange(256)
        elif how == 1:
            value = draw.choice([0, 1, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, draw.randrange(2**32)])
            data[at : at + 4] = struct.pack(draw.choice("<>") + "I", value)
        elif how == 2:
            del data[at : at + draw.randint(1, 20)]
        elif how == 3:
            data[at:at] = data[draw.randrange(len(data)) :][: draw.randint(1, 40)]
        else:
            del data[at:]
        if len(data) < 4:
            break
    return bytes(data)


@pytest.mark.parametrize("has_libspng", [True, False])
def test_a_mutated_file_is_read_or_refused_with_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_libspng: bool,
) -> None:
    if not has_libspng:
        monkeypatch.setattr(plain_png, "_loader", lambda: None)
    draw, files = random.Random(0), originals()
    n_read = 0
    for number in range(N_MUTATIONS):
        suffix, content = files[number % len(files)]
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(mutated(content, draw))
        for read in READERS:
            try:
                found = read(path)
                n_read += 1
            except PaDiMError as error:
                assert path.name in str(error) and "\n" not in str(error), number
            else:
                assert read is image_size or found.size, number
    assert 0 < n_read < N_MUTATIONS * len(READERS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tag", ["ImageLength", "ImageWidth"])
def test_an_image_without_pixels_is_refused(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "empty.tif"
    pixels = np.full((4, 6, 3), 9, np.uint16)
    tifffile.imwrite(path, pixels, planarconfig="separate", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[tag].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 2] = bytes(2)
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="empty.tif has no pixels"):
            read(path)
