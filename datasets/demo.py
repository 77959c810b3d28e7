"""Draw a small stand-in data set, in the folder layout of MVTec AD.

Two products are drawn, each with good images and three kinds of defect: `weave`, a twill fabric
(a texture), and `gear`, a metal part on a plain plate (an object). The set is there to try the
program without a download; scores on it say nothing about scores on real data.

Inside this module an image is a float32 array of shape (SIZE, SIZE, 3), RGB in 0..1, lengths are
in pixels and angles in radians. A defect is painted over a finished good image, on a boolean
support of shape (SIZE, SIZE); that support is the ground truth, so masks are exact.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from datasets.types import DataError
from padim.storage.files import sweep, temporary_folder

VERSION = 1  # raise it whenever a pixel of the set changes: sets drawn earlier are then redrawn
SIZE = 320
TRAIN_GOOD, TEST_GOOD, TEST_PER_DEFECT = 30, 10, 6
MARKER = "demo.json"

Painted = tuple[np.ndarray, np.ndarray]  # an image, and the support of what was painted on it
Item = tuple[str, str, str, int]  # class, split, kind, index
X = np.arange(SIZE, dtype=np.float32)  # pixel coordinates: X of a row, Y of a column
Y = X[:, None]


class Scene(NamedTuple):
    """A good product, and what a defect needs to know of it.

    image: the finished picture, without camera noise.
    body: (SIZE, SIZE) signed distance to an object's outline, positive on it; empty for a texture.
    repaint: draws the same object, under the same light, with another outline.
    """

    image: np.ndarray
    body: np.ndarray = np.empty(0)
    repaint: Callable[[np.ndarray], np.ndarray] = np.copy


# ---------------------------------------------------------------------------- drawing tools


def _ramp(value: np.ndarray, width: float) -> np.ndarray:
    """Smooth step from 0 to 1 as value goes from 0 to width."""
    t = np.clip(value / width, 0, 1)
    return t * t * (3 - 2 * t)


def _clouds(rng: Generator, cells: int) -> np.ndarray:
    """Smooth random field of shape (SIZE, SIZE), about -1..1, with blotches of SIZE / cells."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _blob(rng: Generator, x: float, y: float, radius: float) -> np.ndarray:
    """Signed distance (positive inside) to an irregular round outline about (x, y)."""
    angle = np.arctan2(Y - y, X - x)
    outline = sum(
        rng.uniform(-0.3, 0.3) / k * np.sin(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7)
    )
    return radius * (1 + outline) - np.hypot(X - x, Y - y)


def _along(x: float, y: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (along, across) a line through (x, y) at the angle turn."""
    dx, dy, c, s = X - x, Y - y, math.cos(turn), math.sin(turn)
    return dx * c + dy * s, dy * c - dx * s


def _blend(image: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> Painted:
    """Paint over an image, with the support where the paint is thick enough to be seen."""
    support = alpha > 0.1
    painted = image + alpha[..., None] * (paint - image)
    return np.where(support[..., None], painted, image).astype(np.float32), support


# ---------------------------------------------------------------------------- weave, a texture


def _weave(rng: Generator) -> Scene:
    """Twill cloth: each thread passes over two others, then under two."""
    pitch = 11.0
    u, v = _along(rng.uniform(100, 220), rng.uniform(100, 220), rng.normal(0, 0.02))
    u, v = (t / pitch + 0.22 * _clouds(rng, 6) + 50 + rng.uniform() for t in (u, v))
    column, row = u.astype(np.int32), v.astype(np.int32)
    u, v = u - np.floor(u), v - np.floor(v)
    warp_on_top = (column + row) % 4 < 2
    # Position across the visible thread, and along its float (the stretch where it is on top).
    across = np.where(warp_on_top, u, v)
    start = np.where(warp_on_top, (column + row) % 4, (column + row + 2) % 4)
    along = (start + np.where(warp_on_top, v, u)).astype(np.float32) / 2
    height = np.sqrt(np.clip(1 - (2.1 * across - 1.05) ** 2, 0, 1))
    height *= 0.55 + 0.45 * np.sin(np.pi * along)
    fibres = np.sin(2 * np.pi * (2.0 * across + 1.5 * along)) * 0.04
    dye = rng.normal(0, 0.035, (2, 128)).astype(np.float32)
    tone = 0.42 + 0.62 * height + fibres + np.where(warp_on_top, dye[0][column], dye[1][row])
    colour = np.array(((0.80, 0.78, 0.72), (0.47, 0.55, 0.64)), np.float32)[warp_on_top.astype(int)]
    light = rng.normal(1, 0.03) + rng.normal(0, 0.06) * (X / SIZE - 0.5)
    light = light + rng.normal(0, 0.06) * (Y / SIZE - 0.5)
    return Scene(colour * (tone * light)[..., None])


def _cut(scene: Scene, rng: Generator) -> Painted:
    """A slit with ragged edges: dark inside, pale fibres along the lips."""
    u, v = _along(rng.uniform(80, 240), rng.uniform(80, 240), rng.uniform(0, np.pi))
    length, width = rng.uniform(18, 45), rng.uniform(2.0, 5.0)
    v = v + 4 * np.sin(u / rng.uniform(15, 30))
    gap = width * np.sqrt(np.clip(1 - (u / length) ** 2, 0, 1)) - np.abs(v) + _clouds(rng, 90)
    inside = _ramp(gap, 2.0)[..., None]
    paint = inside * (0.07, 0.07, 0.08) + (1 - inside) * (0.86, 0.85, 0.80)
    alpha = 0.95 * _ramp(gap + 1.8, 2.5) * _ramp(length - np.abs(u), 4.0)
    return _blend(scene.image, paint, alpha)


def _stain(scene: Scene, rng: Generator) -> Painted:
    """A dried spill: the cloth shows through, darker towards the rim."""
    x, y, radius = rng.uniform(60, 260), rng.uniform(60, 260), rng.uniform(14, 36)
    edge = _blob(rng, x, y, radius) + 3 * _clouds(rng, 40)
    rim = np.exp(-((edge - 4) ** 2) / 12)
    strength = rng.uniform(0.4, 0.95) * (0.75 + 0.25 * rim)
    return _blend(scene.image, scene.image * (0.62, 0.48, 0.32), strength * _ramp(edge, 5.0))


def _thread(scene: Scene, rng: Generator) -> Painted:
    """A loose foreign thread lying on the cloth."""
    u, v = _along(rng.uniform(90, 230), rng.uniform(90, 230), rng.uniform(0, np.pi))
    length, width = rng.uniform(25, 70), rng.uniform(1.6, 2.8)
    wave, swing = rng.uniform(14, 30), rng.uniform(4, 9)
    phase = u / wave + rng.uniform(0, 6.3)
    v = (v - swing * np.sin(phase)) / np.hypot(1, swing / wave * np.cos(phase))
    inside = np.minimum(width - np.abs(v), length - np.abs(u)) + 0.5
    shine = 0.65 + 0.35 * np.cos(v / width * 1.4 + 0.5) + 0.1 * np.sin(u * 1.3 + v)
    dyes = np.array([(0.62, 0.13, 0.12), (0.13, 0.14, 0.17), (0.93, 0.90, 0.84)])
    return _blend(scene.image, rng.choice(dyes) * shine[..., None], _ramp(inside, 1.0))


# ---------------------------------------------------------------------------- gear, an object

TEETH, TIP, ROOT = 20, 132.0, 112.0


def _gear(rng: Generator) -> Scene:
    """A turned steel gear, nearly centred and nearly aligned, on a grey plate."""
    x, y = rng.normal(SIZE / 2, 1.5), rng.normal(SIZE / 2, 1.5)
    u, v = _along(x, y, rng.normal(0, 0.015))
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    step = 2 * np.pi / TEETH
    sideways = np.abs(angle - step * np.rint(angle / step)) * r  # from the nearest tooth's axis
    tooth = np.minimum(11.5 - 0.30 * (r - ROOT) - sideways, TIP - r)
    body = np.maximum(ROOT - r, tooth)
    bore = np.minimum(r - 26, np.maximum(np.abs(u) - 6, np.abs(v + 24) - 11))
    for k in range(5):
        a = 2 * math.pi * (k + 0.5) / 5
        body = np.minimum(body, np.hypot(u - 72 * math.cos(a), v - 72 * math.sin(a)) - 17)
    body = np.minimum(body, bore)

    rings = np.interp(r, np.arange(0, 240, 0.9), rng.normal(0, 0.022, 267)).astype(np.float32)
    # Turned metal reflects light in two opposite fans, which stay put when the part turns.
    fan = (_along(x, y, rng.normal(0.9, 0.05))[0] / (r + 1)) ** 2
    sheen = 0.52 + 0.20 * fan * fan * fan + 0.05 * fan + rings + 0.015 * _clouds(rng, 12)
    web = _ramp(r - 42, 4) * _ramp(103 - r, 4)  # the recessed ring between hub and rim
    exposure = rng.normal(1, 0.03) * (1 + rng.normal(0, 0.04) * (X / SIZE - 0.5))
    plate = 0.30 + 0.012 * _clouds(rng, 60) + 0.03 * _clouds(rng, 3)

    def repaint(body: np.ndarray) -> np.ndarray:
        shadow = _ramp(np.roll(body, (7, 6), (0, 1)) + 5, 12)
        ground = (plate * (1 - 0.6 * shadow))[..., None] * np.array((0.95, 1.0, 1.06), np.float32)
        slope_y, slope_x = np.gradient(3.2 * _ramp(body, 5.0) - 3.0 * web)
        tone = sheen * (1 - 0.10 * web) + 0.28 * (slope_x + slope_y)
        metal = tone[..., None] * np.array((1.0, 1.0, 1.02), np.float32)
        alpha = np.clip(body + 0.5, 0, 1)[..., None]
        return ((ground + alpha * (metal - ground)) * exposure[..., None]).astype(np.float32)

    return Scene(repaint(body), body, repaint)


def _on_gear(rng: Generator) -> tuple[float, float]:
    """A point (x, y) on the face of the gear, between two of its five holes."""
    r, a = rng.uniform(48, 100), 2 * math.pi * (rng.integers(5) + rng.uniform(-0.25, 0.25)) / 5
    return SIZE / 2 + r * np.cos(a), SIZE / 2 + r * np.sin(a)


def _broken_tooth(scene: Scene, rng: Generator) -> Painted:
    """One tooth snapped off, wholly or in part; its shadow goes with it."""
    a = 2 * np.pi * rng.integers(TEETH) / TEETH
    u, v = _along(SIZE / 2, SIZE / 2, a)
    fracture = rng.uniform(ROOT - 2, TIP - 8) + rng.normal(0, 0.3) * v + 2 * _clouds(rng, 60)
    lost = np.abs(v) < 20
    body = np.where(lost, np.minimum(scene.body, np.where(u > 0, fracture - u, SIZE)), scene.body)
    broken = scene.repaint(body)
    change = Image.fromarray(np.abs(broken - scene.image).max(axis=-1) > 0.02)
    # Where old and new happen to look alike is still part of the defect: no pinholes in the mask.
    closed = change.convert("L").filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))
    support = np.asarray(closed) > 0
    return _blend(scene.image, broken, support.astype(np.float32))


def _scratch(scene: Scene, rng: Generator) -> Painted:
    """A thin score in the metal: a bright groove with a dark flank."""
    u, v = _along(*_on_gear(rng), rng.uniform(0, np.pi))
    length, width = rng.uniform(22, 50), rng.uniform(1.8, 3.0)
    v = v + rng.uniform(-0.004, 0.004) * u**2
    taper = width * np.sqrt(np.clip(1 - (u / length) ** 2, 0, 1))
    alpha = _ramp(taper - np.abs(v), 1.2) * (scene.body > 1) * rng.uniform(0.55, 0.95)
    paint = scene.image + np.where(v > 0.2 * width, -0.22, 0.30)[..., None]
    return _blend(scene.image, paint, alpha)


def _rust(scene: Scene, rng: Generator) -> Painted:
    """A mottled patch of corrosion."""
    edge = _blob(rng, *_on_gear(rng), rng.uniform(9, 24)) + 3.5 * _clouds(rng, 50)
    alpha = _ramp(edge, 5.0) * (scene.body > 0) * rng.uniform(0.5, 0.9)
    tone = 0.75 + 0.30 * _clouds(rng, 80)
    return _blend(scene.image, tone[..., None] * (0.50, 0.27, 0.13), alpha)


# ---------------------------------------------------------------------------- the set

PRODUCTS = {
    "weave": (_weave, {"cut": _cut, "stain": _stain, "thread": _thread}),
    "gear": (_gear, {"broken_tooth": _broken_tooth, "scratch": _scratch, "rust": _rust}),
}


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
