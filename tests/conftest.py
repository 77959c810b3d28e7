"""Small data sets, drawn for each test that wants one."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 48  # pixels of the drawn images
LONG = pytest.mark.skipif("SOAK" not in os.environ, reason="long: `make soak` runs it")


def draw_image(seed: int, spot: tuple[slice, slice] | None = None) -> Image.Image:
    """Grey stripes with noise; a bright spot where there is a defect."""
    noise = np.random.default_rng(seed).normal(0, 8, (SIDE, SIDE, 3))
    pixels = 110 + 40 * np.sin(np.arange(SIDE) / 3)[None, :, None] + noise
    if spot is not None:
        pixels[spot] = 250
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_class(
    root: Path, name: str = "tiles", n_train: int = 6, n_good: int = 3, n_spots: int = 3
) -> Path:
    """A class in the MVTec AD layout, with one kind of defect and exact masks."""
    folder = root / name
    for part in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (folder / part).mkdir(parents=True)
    for i in range(n_train):
        draw_image(i).save(folder / "train/good" / f"{i:03d}.png")
    for i in range(n_good):
        draw_image(100 + i).save(folder / "test/good" / f"{i:03d}.png")
    for i in range(n_spots):
        spot = (slice(14, 24), slice(12 + 4 * i, 24 + 4 * i))
        draw_image(200 + i, spot).save(folder / "test/spot" / f"{i:03d}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[spot] = 255
        Image.fromarray(mask).save(folder / "ground_truth/spot" / f"{i:03d}_mask.png")
    return folder


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data set of one small class, ``tiles``."""
    root = tmp_path / "data"
    draw_class(root)
    return root


def pytest_sessionfinish() -> None:
    """Undo what the scripts' ``main`` does, which end their process at once; some extension modules
    complain at the end of a process about what is frozen.
    """
    gc.unfreeze()
