"""PNG files give the same pixels or the same error with libspng as with Pillow alone."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datasets.masks import read_mask
from padim.errors import PaDiMError
from padim.reading import plain_png
from padim.reading.image_file import read_header, read_image
from padim.reading.image_metadata import PNG_START

ROOT = Path(__file__).parents[2]
N_FILES = int(os.environ.get("IMAGE_FILES", "180")) * 3
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]  # fmt: skip
TEXT = b"key\0text"
BESIDE = [
    (b"gAMA", struct.pack(">I", 45455)), (b"pHYs", bytes(9)), (b"tEXt", TEXT), (b"tEXt", b"broken"),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>"), (b"iTXt", b"k\0\1\0\0\0zz"),
    (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))), (b"zTXt", b"k\0\0zz"), (b"iCCP", b"x\0\0zz"),
    (b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"), (b"eXIf", b"\xff" * 9),
    (b"tRNS", bytes(6)), (b"tRNS", bytes(2)), (b"PLTE", bytes(range(30))), (b"acTL", bytes(8)),
    (b"fcTL", bytes(26)), (b"fdAT", bytes(9)), (b"IDAT", b""), (b"tIME", bytes(7)),
    (b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 2, 0, 0, 0)), (b"ABCD", b"x"), (b"prIv", b"x"),
    (b"\xff\0zz", b""), (b"sRGB", b""), (b"cHRM", b"1"), (b"IEND", b""), (b"bKGD", bytes(6)),
]  # fmt: skip


def chunk(kind: bytes, data: bytes, change: int = 0) -> bytes:
    summary = zlib.crc32(kind + data) ^ change
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", summary)


def rows_of(width: int, height: int, bits: int, draw: random.Random, n_filters: int) -> bytes:
    """Drawn rows, each with a drawn filter: what is drawn are the filtered bytes."""
    n_bytes = (width * bits + 7) // 8
    return b"".join(
        bytes((draw.randrange(n_filters),))
        + (
            draw.randbytes(n_bytes)
            if draw.random() < 0.5
            else bytes((draw.randrange(256),)) * n_bytes
        )
        for _ in range(height if width else 0)
    )


def draw_png(draw: random.Random, is_odd: bool) -> bytes:
    """A PNG file of any kind; if odd, with something unusual or wrong in its structure."""
    colours = draw.choice([0, 2, 6, 0, 2, 6, 3, 4])
    depth = draw.choice([8, 8, 8, *DEPTHS[colours]])
    width, height = draw.choice([draw.randint(1, 40), 300]), draw.randint(1, 30)
    interlace = int(is_odd and draw.random() < 0.2)
    sizes = [(width, height)]
    if interlace:
        sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in PASSES]
    n_filters = 6 if is_odd and draw.random() < 0.1 else 5
    bits = SAMPLES[colours] * depth
    rows = b"".join(rows_of(*size, bits, draw, n_filters) for size in sizes)
    changes = [draw.random() < 0.12 if is_odd else False for _ in range(8)]
    rows = rows[: draw.randrange(len(rows))] if changes[0] else rows
    rows += draw.randbytes(draw.choice([1, 300])) if changes[1] else b""
    packer = zlib.compressobj(draw.choice([0, 1, 9]), zlib.DEFLATED, draw.choice([9, 15]))
    stream = packer.compress(rows) + packer.flush()
    if changes[2]:  # its checksum
        stream = stream[:-4] + draw.randbytes(4)
    if changes[3]:
        stream = stream[: -draw.randint(1, 9)]
    if changes[4]:
        stream += draw.randbytes(draw.choice([1, 30]))
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlace)
    cuts = sorted(draw.randrange(len(stream) + 1) for _ in range(draw.choice([0, 0, 1, 3])))
    places = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    wrong = 1 if changes[5] else 0  # the checksum of the pixels' chunks
    chunks = [chunk(b"IHDR", head)]
    chunks += [chunk(b"PLTE", draw.randbytes(3 * draw.randint(1, 256)))] * (colours == 3)
    chunks += [chunk(b"IDAT", stream[a:b], wrong) for a, b in places] + [chunk(b"IEND", b"")]
    for _ in range(draw.choice([0, 1, 2]) if is_odd else 0):
        at, beside = draw.randrange(1, len(chunks) + 1), draw.choice(BESIDE)
        chunks.insert(at, chunk(*beside, draw.random() < 0.1))
    return SIGNATURE + b"".join(chunks) + (draw.randbytes(20) if changes[6] else b"")


def damaged(content: bytes, draw: random.Random) -> bytes:
    data, how = bytearray(content), draw.randrange(4)
    at = draw.randrange(len(data))
    if how == 0:
        data[at] ^= 1 << draw.randrange(8)
    elif how == 1:
        del data[at:]
    elif how == 2:
        del data[at : at + draw.randint(1, 20)]
    else:
        data[at:at] = draw.randbytes(draw.randint(1, 9))
    return bytes(data)


def outcomes(path: Path) -> list[object]:
    """What each reader gives: the pixels, or the error."""
    found: list[object] = []
    for read in (read_image, read_mask, read_header):
        try:
            result = read(path)
        except PaDiMError as error:
            found.append((type(error), str(error)))
        else:
            is_array = isinstance(result, np.ndarray)
            found.append((result.shape, result.tobytes()) if is_array else result)
    return found


def test_every_drawn_file_gives_the_same_as_with_pillow_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = pytest.importorskip("imagecodecs").spng_decode
    draw, decoded = random.Random(0), []
    monkeypatch.setattr(plain_png, "_loader", lambda: lambda data: decoded.append(1) or load(data))
    names = []
    for number in range(N_FILES):
        content = draw_png(draw, is_odd=number % 3 > 0)
        content = damaged(content, draw) if number % 3 == 2 else content
        names.append(tmp_path / f"{number}.png")
        names[-1].write_bytes(content)
    found = [outcomes(path) for path in names]
    monkeypatch.setattr(plain_png, "_loader", lambda: None)
    for path, fast in zip(names, found, strict=True):
        assert outcomes(path) == fast, path.name
    n_refused = sum(isinstance(fast[0][0], type) for fast in found)
    assert N_FILES // 5 < n_refused < N_FILES // 2
    assert len(decoded) > N_FILES // 2  # of two decoding readers


@pytest.mark.parametrize("colours", SAMPLES)
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_is_plain_does_not_come_from_pillow(tmp_path: Path, colours: int, place: str) -> None:
    pytest.importorskip("imagecodecs")
    rows = rows_of(40, 30, 8 * SAMPLES[colours], random.Random(1), 5)
    head = struct.pack(">IIBBBBB", 40, 30, 8, colours, 0, 0, 0)
    pixels, text = chunk(b"IDAT", zlib.compress(rows)), chunk(b"tEXt", TEXT)
    middle = text + pixels if place == "before" else pixels + text
    path = tmp_path / "image.png"
    path.write_bytes(SIGNATURE + chunk(b"IHDR", head) + middle + chunk(b"IEND", b""))
    with path.open("rb") as file:
        file.seek(7)
        found = plain_png.decode_plain_png(file)
        assert file.tell() == 7
    assert (found is not None) == (colours in (0, 2, 6))


def test_a_file_is_read_without_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(draw_png(random.Random(0), is_odd=False))
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from padim.reading.image_file import read_image\n"
        "from padim.reading.plain_png import _loader; assert _loader() is None\n"
        "print(read_image(Path(sys.argv[1])).sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{read_image(path).sum()}\n", "")


def test_threads_decode_at_the_same_time(tmp_path: Path) -> None:
    draw, paths = random.Random(2), []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(draw_png(draw, is_odd=False))
    expected = [read_image(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(read_image, paths), expected, strict=True):
            np.testing.assert_array_equal(found, alone)


def test_nothing_is_decoded_that_says_it_is_too_large() -> None:
    sizes = struct.pack(">IIBBBBB", 2**16, 2**16, 8, 2, 0, 0, 0)
    header = SIGNATURE + chunk(b"IHDR", sizes)
    assert len(header) == PNG_START
    assert plain_png._shape(header) is None
