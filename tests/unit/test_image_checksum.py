"""The checksum of the images: what it depends on, and what it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import draw_class

from datasets.layouts import LAYOUTS
from datasets.types import DataError
from utils.evaluation.image_checksum import image_checksum


def checksum(root: Path) -> str:
    return image_checksum(LAYOUTS["mvtec"].read_class(root, "tiles"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_class(tmp_path)


def test_names_order_and_times_do_not_matter(folder: Path) -> None:
    before = checksum(folder.parent)
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))
    for index, path in enumerate(sorted((folder / "train/good").iterdir())):
        path.rename(path.with_name(f"x{9 - index}.png"))
    (folder / "test/spot").rename(folder / "test/other")
    (folder / "ground_truth/spot").rename(folder / "ground_truth/other")
    assert checksum(folder.parent) == before
    assert len(before) == 16


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("test/good/000.png", "train/good/000.png"),
        ("train/good/000.png", "test/good/000.png"),
        ("ground_truth/spot/000_mask.png", "ground_truth/spot/001_mask.png"),
        ("test/good/000.png", "train/good/new.png"),
        ("test/spot/000.png", "test/spot/001.png"),
    ],
)
def test_any_other_file_is_another_set(source: str, target: str, folder: Path) -> None:
    before = checksum(folder.parent)
    shutil.copy(folder / source, folder / target)
    assert checksum(folder.parent) != before


def test_a_changed_pair_is_another_set(folder: Path) -> None:
    """The same files, but the masks of two images exchanged."""
    before = checksum(folder.parent)
    first, second = (folder / f"ground_truth/spot/00{i}_mask.png" for i in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert checksum(folder.parent) != before


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    item = LAYOUTS["mvtec"].read_class(folder.parent, "tiles")
    (folder / "test/good/000.png").unlink()
    with pytest.raises(DataError, match=r"test/good/000.png cannot be read"):
        image_checksum(item)
