"""Masks: where they are looked for, what is said of those that are not used or show nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import SIDE, draw_class
from PIL import Image

from datasets.layouts.mvtec import read_class
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.empty_masks import empty_masks
from datasets.types import AnomalyClass, DataError
from padim.preprocessing import Preprocessing

WHOLE = Preprocessing(SIDE, SIDE)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return draw_class(tmp_path / "data")


def read(tiles: Path) -> AnomalyClass:
    return read_class(tiles.parent, tiles.name)


def masks_of(item: AnomalyClass, how: Preprocessing = WHOLE) -> np.ndarray:
    return np.stack([read_sample(sample, how)[1].numpy() for sample in item.test])


def rename(pattern: str) -> Callable[[Path], None]:
    """Move every mask; ``pattern`` has {kind} and {image}."""

    def change(tiles: Path) -> None:
        for path in sorted(tiles.glob("ground_truth/*/*.png")):
            image = path.name.removesuffix("_mask.png")
            new = tiles / pattern.format(kind=path.parent.name, image=image)
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)

    return change


@pytest.mark.parametrize(
    "pattern",
    [
        "ground_truth/{kind}/{image}_mask.PNG",
        "ground_truth/{kind}/{image}_mask.bmp",
        "ground_truth/{kind}/{image}.png",
        "ground_truth/{kind}/{image}/000.png",
        "ground_truth/{kind}/{image}/anything.png",
    ],
)
def test_masks_are_found(tiles: Path, pattern: str) -> None:
    before = masks_of(read(tiles))
    rename(pattern)(tiles)
    item = read(tiles)
    assert item.has_masks and not item.skipped and not item.remarks
    np.testing.assert_array_equal(masks_of(item), before)


@pytest.mark.parametrize("n_parts", [2, 3, 5])
def test_the_masks_of_a_folder_are_one(tiles: Path, n_parts: int, tmp_path: Path) -> None:
    """As MVTec LOCO publishes them: a folder for each image, a file for each defect."""
    before = masks_of(read(tiles))
    rename("ground_truth/{kind}/{image}/000.png")(tiles)
    for path in sorted(tiles.glob("ground_truth/*/*/000.png")):
        pixels = np.array(Image.open(path))
        for part, columns in enumerate(np.array_split(np.arange(SIDE), n_parts)):
            one = np.zeros_like(pixels)
            one[:, columns] = pixels[:, columns] // (part + 1)  # levels differ between defects
            Image.fromarray(one).save(path.with_name(f"{part:03d}.png"))
    item = read(tiles)
    np.testing.assert_array_equal(masks_of(item), before)
    assert len(item.test[-1].files) == 1 + n_parts
    cache = ImageCache(tmp_path / "cache", WHOLE)
    for _ in range(2):
        assert cache.read(item.test[-1])[1].numpy().sum() == before[-1].sum()
    digest = item.digest()
    Image.new("L", (SIDE, SIDE), 255).save(item.test[-1].files[-1])
    assert read(tiles).digest() != digest
    assert cache.read(item.test[-1])[1].all()


def test_each_mask_of_a_folder_has_the_size_of_its_image(tiles: Path) -> None:
    rename("ground_truth/{kind}/{image}/000.png")(tiles)
    Image.new("L", (9, 8)).save(tiles / "ground_truth/spot/001/007.png")
    with pytest.raises(DataError, match=r"007.png is 9x8 but its image"):
        read(tiles)


@pytest.mark.parametrize(
    "pattern",
    [
        "ground_truth/{kind}/{image}_mask.npy",
        "ground_truth/{kind}/{image}_mask.gif",
        "ground_truth/{kind}/{image}_gt.png",
        "ground_truth/{kind}/mask_{image}.png",
        "ground_truth/{image}_mask.png",
        "ground_truth/Spots/{image}_mask.png",
        "ground_truth/masks/{kind}/{image}_mask.png",
        "ground_truth/{image}/{kind}.json",
    ],
)
def test_masks_that_are_not_used_are_said_with_an_example(tiles: Path, pattern: str) -> None:
    rename(pattern)(tiles)
    item = read(tiles)
    assert not item.has_masks
    assert len(item.skipped) == 3
    (remark,) = item.remarks
    assert "holds 3 files, none is used, such as ground_truth/" in remark
    assert pattern.format(kind="spot", image="000") in remark
    assert "expected <kind>/<image>_mask.png" in remark


def test_some_masks_are_not_used(tiles: Path) -> None:
    shutil.copy(tiles / "ground_truth/spot/000_mask.png", tiles / "ground_truth/spot/099_mask.png")
    (tiles / "ground_truth/spot/.DS_Store").touch()
    (tiles / "ground_truth/good").mkdir()
    Image.new("L", (SIDE, SIDE)).save(tiles / "ground_truth/good/000_mask.png")
    item = read(tiles)
    assert item.has_masks
    (remark,) = item.remarks
    assert "holds 4 files, 1 of them not used, such as ground_truth/spot/099_mask.png" in remark
    reasons = sorted(one.reason for one in item.skipped)
    assert reasons == ["hidden", "mask of a good image", "mask without an image"]


def test_one_mask_is_missing(tiles: Path) -> None:
    (tiles / "ground_truth/spot/001_mask.png").unlink()
    with pytest.raises(DataError, match=r"no mask for .*001\.png: expected .*spot/001_mask\.png"):
        read(tiles)


# Masks that show nothing


def paint(path: Path, spot: tuple[slice, slice] | None) -> None:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    if spot is not None:
        pixels[spot] = 255
    Image.fromarray(pixels).save(path)


CORNER = (slice(0, 4), slice(0, 4))
THIN = (slice(25, 26), slice(25, 26))


@pytest.mark.parametrize(
    ("spots", "how", "words"),
    [
        ([None], WHOLE, ["1 of 3 (1 black)", "000_mask.png", "mend"]),
        ([CORNER], Preprocessing(SIDE, 32), ["1 of 3 (1 outside the crop)", "--crop none"]),
        ([THIN], Preprocessing(12, 12), ["1 of 3 (1 lost in resizing)", "--resize"]),
        (
            [None, CORNER, None],
            Preprocessing(SIDE, 32),
            ["3 of 3 (2 black, 1 outside the crop)", "mend", "--crop none"],
        ),
    ],
)
def test_masks_that_end_empty(tiles: Path, spots: list, how: Preprocessing, words: list) -> None:
    for i, spot in enumerate(spots):
        paint(tiles / f"ground_truth/spot/{i:03d}_mask.png", spot)
    item = read(tiles)
    (note,) = empty_masks(item, masks_of(item, how), how)
    assert all(word in note for word in words), note


def test_masks_that_show_something_are_not_mentioned(tiles: Path) -> None:
    item = read(tiles)
    assert empty_masks(item, masks_of(item), WHOLE) == ()
    shutil.rmtree(tiles / "ground_truth")
    item = read(tiles)
    assert empty_masks(item, masks_of(item), WHOLE) == ()
