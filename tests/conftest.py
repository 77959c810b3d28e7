"""What every test may ask for."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from helpers import SIDE, SPOT, draw_class, save_image


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data set of one small class, ``tiles``."""
    root = tmp_path / "data"
    draw_class(root)
    return root


@pytest.fixture
def stc_root(tmp_path: Path) -> Path:
    """Two scenes with extracted frames, of which one has no test videos."""
    root = tmp_path / "stc"
    for video, count in (("01_001", 4), ("01_002", 3), ("13_001", 2)):
        for i in range(count):
            save_image(root / f"training/frames/{video}/{i:03d}.jpg", i)
    for video in ("01_0014", "01_0015"):
        stack = np.zeros((4, SIDE, SIDE), bool)
        for i in range(4):
            save_image(root / f"testing/frames/{video}/{i:03d}.jpg", 40 + i, is_defective=i > 1)
            if i > 1:
                stack[i][SPOT] = True
        for kind, content in (("pixel", stack), ("frame", stack.any(axis=(1, 2)).astype(np.uint8))):
            folder = root / f"testing/test_{kind}_mask"
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{video}.npy", content)
    return root


def pytest_sessionfinish() -> None:
    """Undo what the scripts' ``main`` does, which end their process at once; some extension modules
    complain at the end of a process about what is frozen.
    """
    gc.unfreeze()
