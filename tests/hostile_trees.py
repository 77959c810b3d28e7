"""Data sets as no one should have them: drawn from a seed, each with a few things wrong."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers import draw_class, draw_image
from PIL import Image

Change = Callable[[Path, np.random.Generator], None]
NAMES = (
    *("two words", "new\nline", "tab\tbell\x07", "-rf", "--help", "caf\u00e9 \u732b \U0001f980"),
    *("<script>alert(1)", '"><img src=x onerror=alert(1)>', "'><script>", "a&amp;b"),
    *("=cmd|'calc'!A0", "@SUM(1)", "a,b;c", 'quo"te', "per%cent%s", "$(touch x)", "`id`"),
    *("{{data}}", "\u202egnp", "x" * 190, "y" * 240, "trailing.", " leading", "\\", "CON", "..x"),
    *("$a_b^c$", "_hid", "textures", "all", os.fsdecode(b"not\xffutf8"), "*", "?", "~"),
)
ENDINGS = (".jpg", ".tif", ".bmp", ".gif", ".txt", "")


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())


def pick(items: list[Path], draw: np.random.Generator) -> Path | None:
    return items[draw.integers(len(items))] if items else None


def remove_a_folder(root: Path, draw: np.random.Generator) -> None:
    if folder := pick(folders(root), draw):
        shutil.rmtree(folder)


def empty_a_folder(root: Path, draw: np.random.Generator) -> None:
    if folder := pick(folders(root), draw):
        for path in files(folder):
            path.unlink()


def remove_a_file(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        path.unlink()


def cut_a_file(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        content = path.read_bytes()
        path.write_bytes(content[: draw.integers(len(content) + 1)])


def zero_a_file(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        path.write_bytes(b"")


def flip_bytes(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        content = bytearray(path.read_bytes())
        for at in draw.integers(max(1, len(content)), size=8):
            if content:
                content[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(bytes(content))


def garbage(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        path.write_bytes(draw.bytes(int(draw.integers(1, 3000))))


def a_bomb(root: Path, draw: np.random.Generator) -> None:
    """A small PNG file that says it has billions of pixels."""
    if path := pick(files(root), draw):
        side = int(draw.choice([20_000, 60_000, 2**31 - 1]))
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        data = b"IDAT" + zlib.compress(b"\0" * 1000)
        chunks = (
            struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
            for c in (header, data, b"IEND")
        )
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def a_folder_for_a_file(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        path.unlink()
        path.mkdir()


def a_file_for_a_folder(root: Path, draw: np.random.Generator) -> None:
    if folder := pick(folders(root), draw):
        shutil.rmtree(folder)
        folder.write_text("no folder")


def a_link(root: Path, draw: np.random.Generator) -> None:
    """To nowhere, to itself, in a circle, to a device, or to something of the same kind."""
    place = pick([root, *folders(root)], draw)
    name = str(draw.choice(["link", "link.png", "000.png", "good", "train", "test"]))
    target = (
        *("nowhere", name, "..", ".", str(root), "/dev/zero", "/dev/null", "/", "/proc/self/mem"),
        *(str(path) for path in files(root)[:2]),
    )
    if not os.path.lexists(place / name):
        (place / name).symlink_to(target[draw.integers(len(target))])


def a_pipe(root: Path, draw: np.random.Generator) -> None:
    """Which would be waited on for ever."""
    if (folder := pick(folders(root), draw)) and not (folder / "pipe.png").exists():
        os.mkfifo(folder / "pipe.png")


def a_strange_name(root: Path, draw: np.random.Generator) -> None:
    """Of a class, a defect or an image."""
    path = pick([path for path in root.rglob("*") if not path.is_symlink()], draw)
    if path is None:
        return
    new = path.with_name(NAMES[draw.integers(len(NAMES))] + path.suffix)
    if not os.path.lexists(new):
        path.rename(new)


def another_defect(root: Path, draw: np.random.Generator) -> None:
    """A folder of test images with a strange name, and with or without masks."""
    if folder := pick([path for path in folders(root) if path.name == "test"], draw):
        place = folder / NAMES[draw.integers(len(NAMES))]
        place.mkdir(exist_ok=True)
        draw_image(int(draw.integers(1000))).save(place / "000.png")


def upper_case(root: Path, draw: np.random.Generator) -> None:
    for path in files(root):
        if draw.random() < 0.5:
            path.rename(path.with_suffix(path.suffix.upper()))


def another_ending(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        path.rename(path.with_suffix(ENDINGS[draw.integers(len(ENDINGS))]))


def another_mode(root: Path, draw: np.random.Generator) -> None:
    """Grey, one bit, palette, alpha, 16 bits, floats, inks; as another kind of file."""
    if path := pick(files(root), draw):
        try:
            image = Image.open(path)
            image.load()
        except Exception:
            return
        kind = str(draw.choice(["L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "F", "GIF", "NAN"]))
        if kind == "I;16":
            made = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif kind == "NAN":
            made = Image.fromarray(np.full((48, 48), np.nan, np.float32))
        else:
            made = image.convert("P" if kind == "GIF" else kind)
        endings = {"CMYK": "JPEG", "F": "TIFF", "NAN": "TIFF", "GIF": "GIF"}
        made.save(path, format=endings.get(kind, "PNG"))


def another_size(root: Path, draw: np.random.Generator) -> None:
    if path := pick(files(root), draw):
        size = ((1, 1), (1, 4000), (3000, 2), (49, 48), (640, 480))[draw.integers(5)]
        Image.new("RGB", size, (90, 90, 90)).save(path, format="PNG")


def a_mask(root: Path, draw: np.random.Generator) -> None:
    """All black, all white, coloured, of labels, of two files for one image."""
    path = pick([path for path in files(root) if "ground_truth" in path.parts], draw)
    if path is None:
        return
    kind = draw.integers(5)
    if kind < 2:
        Image.new("L", (48, 48), int(255 * kind)).save(path, format="PNG")
    elif kind == 2:
        Image.new("RGB", (48, 48), (0, 0, 3)).save(path, format="PNG")
    elif kind == 3:
        labels = draw.integers(0, 4, (48, 48)).astype(np.uint8)
        Image.fromarray(labels).save(path, format="PNG")
    else:
        shutil.copy(path, path.with_suffix(".bmp"))


def images_all_alike(root: Path, draw: np.random.Generator) -> None:
    level = int(draw.integers(256))
    for path in files(root):
        if "train" in path.parts:
            Image.new("RGB", (48, 48), (level, level, level)).save(path, format="PNG")


def many_classes(root: Path, draw: np.random.Generator) -> None:
    """Hundreds of folders in the layout, nearly all of them without an image."""
    for i in range(int(draw.choice([50, 400]))):
        (root / f"class {i}" / "train" / "good").mkdir(parents=True, exist_ok=True)


def hidden_files(root: Path, draw: np.random.Generator) -> None:
    for folder in folders(root):
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "._000.png").write_bytes(b"\0\5\26\7")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def one_level_deeper(root: Path, draw: np.random.Generator) -> None:
    inner = root / "inner"
    others = list(root.iterdir())
    inner.mkdir(exist_ok=True)
    for path in others:
        if path != inner:
            path.rename(inner / path.name)


CHANGES: tuple[Change, ...] = (
    *(remove_a_folder, empty_a_folder, remove_a_file, cut_a_file, zero_a_file, flip_bytes, garbage),
    *(a_bomb, a_folder_for_a_file, a_file_for_a_folder, a_link, a_link, a_pipe),
    *(a_strange_name, a_strange_name, another_defect, upper_case, another_ending, another_mode),
    *(another_size, a_mask, images_all_alike, many_classes, hidden_files, one_level_deeper),
)


def draw_hostile(root: Path, number: int) -> list[str]:
    """Draw data set ``number``, the same each time; returns what was done to it.

    The first ones have one change each, every kind in turn; later ones up to four.
    """
    draw = np.random.default_rng(number)
    draw_class(root, "tiles", n_train=int(draw.integers(0, 5)) or 3, n_good=2, n_spots=2)
    if draw.random() < 0.3:
        draw_class(root, NAMES[draw.integers(len(NAMES))], n_train=2, n_good=1, n_spots=1)
    if number < len(CHANGES):
        changes = [CHANGES[number]]
    else:
        changes = [CHANGES[i] for i in draw.integers(len(CHANGES), size=draw.integers(1, 5))]
    for change in changes:
        change(root, draw)
    return [change.__name__ for change in changes]
