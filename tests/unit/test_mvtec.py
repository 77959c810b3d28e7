"""The folder layout: what is found, in which order, and what is refused with which words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import draw_class, draw_image
from PIL import Image

from datasets.layouts import LAYOUTS, choose_classes
from datasets.layouts.mvtec import find_classes, read_class
from datasets.loading.labelled import ImageStream
from datasets.types import DataError
from padim.errors import ImageError
from padim.preprocessing import Preprocessing


def test_known_classes_come_in_the_papers_order_then_the_others(tmp_path: Path) -> None:
    for name in ("zebra", "bottle", "carpet", "apple", "zipper"):
        (tmp_path / name / "train" / "good").mkdir(parents=True)
    (tmp_path / "not_a_class").mkdir()
    (tmp_path / "readme.txt").touch()
    assert find_classes(tmp_path) == ["carpet", "bottle", "zipper", "apple", "zebra"]
    assert choose_classes(LAYOUTS["mvtec"], tmp_path, ["zebra", "zipper"]) == ["zipper", "zebra"]


def test_a_class_is_listed(data_root: Path) -> None:
    (data_root / "tiles/train/good/.hidden.png").touch()
    (data_root / "tiles/train/good/notes.txt").touch()
    (data_root / ".hidden/train/good").mkdir(parents=True)
    item = read_class(data_root, "tiles")
    assert (len(item.train), len(item.test), item.has_masks) == (6, 6, True)
    assert [sample.defect for sample in item.test] == ["good"] * 3 + ["spot"] * 3
    assert item.test[3].mask == data_root / "tiles/ground_truth/spot/000_mask.png"
    assert [sample.is_defective for sample in item.test] == [False] * 3 + [True] * 3


def test_a_class_without_masks_has_none(data_root: Path) -> None:
    shutil.rmtree(data_root / "tiles/ground_truth")
    item = read_class(data_root, "tiles")
    assert not item.has_masks
    assert all(sample.mask is None for sample in item.test)


def test_the_digest_tells_a_changed_file(data_root: Path) -> None:
    before = read_class(data_root, "tiles").digest()
    assert read_class(data_root, "tiles").digest() == before
    draw_image(999).save(data_root / "tiles/train/good/000.png")
    assert read_class(data_root, "tiles").digest() != before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tiles: shutil.rmtree(tiles / "train/good"), "not in the MVTec AD layout"),
        (
            lambda tiles: [
                path.rename(path.with_suffix(".gif")) for path in tiles.rglob("test/*/*")
            ],
            "no test image in .*not used in .*: 6 ending .gif",
        ),
        (
            lambda tiles: [path.unlink() for path in (tiles / "train/good").iterdir()],
            "0 training images",
        ),
        (
            lambda tiles: [path.unlink() for path in list((tiles / "train/good").iterdir())[1:]],
            "1 training image in .*at least 2",
        ),
        (
            lambda tiles: (tiles / "ground_truth/spot/001_mask.png").unlink(),
            "no mask for .*001.png: expected .*001_mask.png",
        ),
        (
            lambda tiles: Image.new("L", (9, 8)).save(tiles / "ground_truth/spot/001_mask.png"),
            "001_mask.png is 9x8 but .* is 48x48",
        ),
    ],
)
def test_what_does_not_fit_is_named(data_root: Path, spoil, words: str) -> None:
    spoil(data_root / "tiles")
    with pytest.raises(DataError, match=words):
        for name in choose_classes(LAYOUTS["mvtec"], data_root, None):
            read_class(data_root, name)


def test_no_folder_a_class_itself_and_unknown_names(data_root: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_classes(data_root / "nowhere")
    with pytest.raises(DataError, match=r"is one class.*give .*data"):
        find_classes(data_root / "tiles")
    with pytest.raises(DataError, match="unknown class tyles .*: tiles"):
        choose_classes(LAYOUTS["mvtec"], data_root, ["tyles"])
    draw_class(data_root, "all")
    with pytest.raises(DataError, match="rename"):
        choose_classes(LAYOUTS["mvtec"], data_root, None)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_stream_gives_every_split_in_order(data_root: Path, num_workers: int) -> None:
    draw_class(data_root, "more", n_train=5)
    classes = [read_class(data_root, name) for name in ("more", "tiles")]
    crop = Preprocessing(32, 32)
    stream = ImageStream(classes, crop, batch_size=4, num_workers=num_workers)
    for item in classes:
        for split in (item.train, item.test):
            batches = list(stream.take(len(split)))
            assert [len(batch) for batch in batches] == [4, len(split) - 4]
            images = [image for batch in batches for image in batch.images]
            for image, sample in zip(images, split, strict=True):
                assert image.equal(crop.image(sample.path))
        assert batches[-1].masks[-1].any()


def test_the_stream_names_a_cut_image(data_root: Path) -> None:
    path = data_root / "tiles/train/good/003.png"
    path.write_bytes(path.read_bytes()[:800])
    stream = ImageStream([read_class(data_root, "tiles")], Preprocessing(32, 32), num_workers=1)
    with pytest.raises(ImageError, match=r"003\.png cannot be read"):
        list(stream.take(6))
