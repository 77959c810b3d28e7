"""Draw a small stand-in data set, in the folder layout of MVTec AD.

Two products are drawn, each with good images and three kinds of defect: `weave`, a twill fabric
(a texture), and `gear`, a metal part on a plain plate (an object). The set is there to try the
program without a download; scores on it say nothing about scores on real data.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.demo import gear, weave
from datasets.demo.drawing import SIZE, Painted
from datasets.types import DataError
from padim.storage.files import sweep, temporary_folder

VERSION = 1  # raise it whenever a pixel of the set changes: sets drawn earlier are then redrawn
TRAIN_GOOD, TEST_GOOD, TEST_PER_DEFECT = 30, 10, 6
MARKER = "demo.json"
PRODUCTS = {"weave": (weave.draw_weave, weave.DEFECTS), "gear": (gear.draw_gear, gear.DEFECTS)}

Item = tuple[str, str, str, int]  # class, split, kind, index


def _plan() -> Iterator[Item]:
    """Every image of the set."""
    for name, (_, defects) in PRODUCTS.items():
        counts = {("train", "good"): TRAIN_GOOD, ("test", "good"): TEST_GOOD}
        counts |= {("test", kind): TEST_PER_DEFECT for kind in defects}
        for (split, kind), count in counts.items():
            yield from ((name, split, kind, index) for index in range(count))


def _draw(item: Item, seed: int, flawed: bool = True) -> Painted:
    """Draw one image of the plan; flawed=False leaves the defect out and changes nothing else.

    Returns the image (SIZE, SIZE, 3) uint8 and its mask (SIZE, SIZE) bool.
    """
    name, _, kind, _ = item
    paint, defects = PRODUCTS[name]
    # Keyed by the image's own name: an image does not depend on which others are drawn.
    key = zlib.crc32("/".join(map(str, item)).encode())
    good, flaw, noise = (np.random.default_rng((seed, key, part)) for part in range(3))
    scene = paint(good)
    image, mask = scene.image, np.zeros((SIZE, SIZE), bool)
    if flawed and kind in defects:
        image, mask = defects[kind](scene, flaw)
    image = image + 0.012 * noise.standard_normal((SIZE, SIZE, 1), np.float32)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask


def _paths(root: Path, item: Item) -> list[Path]:
    """The files of one image: itself, then its mask if it has one."""
    name, split, kind, index = item
    image = root / name / split / kind / f"{index:03d}.png"
    mask = root / name / "ground_truth" / kind / f"{index:03d}_mask.png"
    return [image] if kind == "good" else [image, mask]


def _write(root: Path, seed: int, marker: dict[str, int]) -> None:
    """Draw the whole set into root, the marker last."""
    for item in _plan():
        image, mask = _draw(item, seed)
        pictures = Image.fromarray(image), Image.fromarray(mask).convert("L")
        for path, picture in zip(_paths(root, item), pictures, strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, compress_level=1)
    (root / MARKER).write_text(json.dumps(marker) + "\n")


def _marker(root: Path) -> dict[str, int]:
    """What the set at root was drawn from; raises DataError if no set was drawn there."""
    try:
        marker = json.loads((root / MARKER).read_text())
        return {key: int(marker[key]) for key in ("version", "seed")}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{root} exists and is not a demo set: will not draw over it") from None


def _is_drawn(root: Path, marker: dict[str, int]) -> bool:
    """Whether root holds this very set with no file missing; DataError if it holds another's."""
    if not os.path.lexists(root):
        return False
    return _marker(root) == marker and all(p.is_file() for i in _plan() for p in _paths(root, i))


def draw_demo_set(root: Path, seed: int = 0) -> Path:
    """Draw the demo set at root, or leave it as it is if the same set is already there.

    Images are 320 x 320 RGB, masks 320 x 320 with 0 (good) and 255 (defect). The set appears under
    its name only when it is complete; a demo set of another seed or version is replaced.

    Args:
        root: the folder to make; its parents are made too.
        seed: 0 or more; the same seed gives the same bytes.

    Returns:
        root.

    Raises:
        DataError: root exists and is not a demo set; it is left alone.
    """
    root, marker = Path(root), {"version": VERSION, "seed": seed}
    if _is_drawn(root, marker):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    sweep(root.parent)
    with temporary_folder(root.parent) as scratch:  # beside root: moving the set there is a rename
        new, old = scratch / "new", scratch / "old"
        _write(new, seed, marker)
        # Looked at again: another run may have put the same set there in the meantime.
        if not _is_drawn(root, marker):
            if os.path.lexists(root):
                root.replace(old)
            new.replace(root)
    return root
