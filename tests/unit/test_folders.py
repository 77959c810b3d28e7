"""Which files of a folder are used, which are not, and why; one rule for all who look."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import draw_class, draw_image, save_image

from datasets.layouts import btad, mvtec, shanghaitech
from datasets.layouts.files import list_images
from datasets.loading.unlabelled import find_images
from datasets.types import AnomalyClass, DataError
from padim.config import IMAGE_SUFFIXES
from padim.errors import ImageError
from padim.reading.folders import NO_FILE, RESULTS, Skipped, list_folder
from padim.reading.images import list_images as list_library_images

Change = Callable[[Path], object]


def write(name: str, content: bytes = b"x") -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return change


def results_of(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            write(f"judged/{name}")(folder)
        draw_image(1).save(folder / "judged/overlay.png")

    return change


# What is put into a folder of images, the reason, and how many files have it.
UNUSED: dict[str, tuple[Change, str, int]] = {
    "another ending": (write("a.gif"), "ending .gif", 1),
    "an ending in capitals": (write("A.JP2"), "ending .jp2", 1),
    "a copy of an editor": (write("000.png~"), "ending .png~", 1),
    "half a download": (write("000.png.part"), "ending .part", 1),
    "no ending": (write("readme"), "no ending", 1),
    "a sidecar": (write("000.json"), "ending .json", 1),
    "a hidden image": (write(".000.png"), "hidden", 1),
    "what macOS adds to an image": (write("._000.png"), "hidden", 1),
    "what Windows adds": (write("Thumbs.db"), "system file", 1),
    "the same in capitals": (write("DESKTOP.INI"), "system file", 1),
    "a folder of macOS": (write("__MACOSX/000.png"), "in a system folder", 1),
    "a folder of a network disk": (write("@eaDir/x/000.png"), "in a system folder", 1),
    "a hidden folder": (write(".git/objects/000.png"), "in a hidden folder", 1),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe.png"), NO_FILE, 1),
    "a prediction": (results_of("scores.csv", "summary.json"), RESULTS, 3),
    "a run": (results_of("results.json", "records/tile.json"), RESULTS, 3),
    "a killed prediction": (results_of(".lock", "maps/000.png", "originals/000.jpg"), RESULTS, 4),
    "a killed run": (results_of(".lock", "records/tile.json"), RESULTS, 3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in a folder and in folders of it."""
    for i, name in enumerate(("b.png", "a.jpg", "lot/2/c.BMP", "lot/1/d.tif", "z.png")):
        save_image(tmp_path / "images" / name, i)
    return tmp_path / "images"


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folders_of_a_folder_are_searched_after_its_files(folder: Path) -> None:
    found = list_folder(folder)
    in_order = ["a.jpg", "b.png", "z.png", "lot/1/d.tif", "lot/2/c.BMP"]
    assert names(found.images, folder) == in_order
    assert [image.path for image in list_library_images(folder)] == found.images
    assert sorted(image.name for image in find_images([folder])) == sorted(in_order)


@pytest.mark.parametrize("kind", UNUSED)
def test_what_is_not_used_is_listed_with_its_reason(folder: Path, kind: str) -> None:
    change, reason, count = UNUSED[kind]
    change(folder)
    found = list_folder(folder)
    assert len(found.images) == 5
    assert [one.reason for one in found.skipped] == [reason] * count
    judged: list[Skipped] = []
    assert len(find_images([folder], unused=judged)) == 5
    assert sorted(judged, key=str) == sorted(found.skipped, key=str)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in UNUSED
        if not kind.startswith(("a folder of", "a hidden folder", "a pred", "a run", "a killed"))
    ],
)
def test_a_file_that_is_named_follows_the_rule_of_folders(folder: Path, kind: str) -> None:
    change, reason, _ = UNUSED[kind]
    before = set(folder.iterdir())
    change(folder)
    (named,) = set(folder.iterdir()) - before
    unused: list[Skipped] = []
    assert [image.name for image in find_images([named, folder / "a.jpg"], unused=unused)] == [
        "a.jpg"
    ]
    assert unused == [Skipped(named, reason)]
    with pytest.raises(DataError, match=f"no image in .*expected files .*not used: 1 {reason}"):
        find_images([named])


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_ending_that_is_documented_is_read(folder: Path, suffix: str) -> None:
    for name in (f"x{suffix}", f"Y{suffix.upper()}"):
        write(name)(folder)
    assert len(list_folder(folder).images) == 7
    assert len(find_images([folder])) == 7


def test_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "other/e.png", 9)
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "again").symlink_to(tmp_path / "other")
    (folder / "circle").symlink_to(folder)
    assert len(list_folder(folder).images) == 6
    assert len(find_images([folder])) == 6


def test_a_broken_link_is_no_silence(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere")
    assert list_folder(folder).skipped == [Skipped(folder / "gone.png", NO_FILE)]
    assert "gone.png" in [image.name for image in find_images([folder])]  # judging reports it
    with pytest.raises(ImageError, match=r"gone\.png"):
        list_library_images(folder)


def test_an_empty_image_is_skipped_in_training_and_reported_in_judging(folder: Path) -> None:
    (folder / "lot/empty.png").touch()
    found = list_images(folder)
    assert (len(found.images), found.skipped) == (5, [Skipped(folder / "lot/empty.png", "empty")])
    assert "lot/empty.png" in [image.name for image in find_images([folder])]


# The layouts


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return draw_class(tmp_path / "data")


def read(tiles: Path) -> AnomalyClass:
    return mvtec.read_class(tiles.parent, tiles.name)


def test_training_and_test_images_may_be_in_folders(tiles: Path) -> None:
    before = read(tiles)
    for part in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        for path in sorted((tiles / part).iterdir())[1:]:
            (tiles / part / "lot 2/left").mkdir(parents=True, exist_ok=True)
            path.rename(tiles / part / "lot 2/left" / path.name)
    item = read(tiles)
    assert (len(item.train), len(item.test)) == (len(before.train), len(before.test))
    assert [one.defect for one in item.test] == [one.defect for one in before.test]
    assert item.has_masks and not item.skipped
    nested = tiles / "ground_truth/spot/lot 2/left/001_mask.png"
    assert [one.mask for one in item.test if one.path.stem == "001" and one.is_defective] == [
        nested
    ]
    assert item.path_of(item.test[-1]) == "test/spot/lot 2/left/002.png"


@pytest.mark.parametrize("place", ["train/good", "test/good", "test/spot", "test/spot/lot"])
@pytest.mark.parametrize("kind", UNUSED)
def test_a_class_lists_what_it_does_not_use(tiles: Path, place: str, kind: str) -> None:
    change, reason, count = UNUSED[kind]
    before = read(tiles)
    (tiles / place).mkdir(exist_ok=True)
    change(tiles / place)
    item = read(tiles)
    assert (item.train, item.test) == (before.train, before.test)
    assert [one.reason for one in item.skipped] == [reason] * count
    assert item.digest() == before.digest()
    assert item.file_name(item.skipped[0].path).startswith(f"tiles/{place}/")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("train/000.png", 1),
        ("train/bad/000.png", 1),
        ("test/000.png", 1),
        ("validation/good/000.png", 1),
        ("Test/spot/000.png", 1),
        ("masks/spot/000.png", 1),
        ("train/good.zip", 1),
        ("test/.DS_Store", 1),
        ("readme.txt", 0),
        ("preview.png", 0),
        ("docs/readme.txt", 0),
    ],
)
def test_images_beside_the_folders_that_are_read(tiles: Path, name: str, count: int) -> None:
    before = read(tiles)
    write(name, (tiles / "train/good/000.png").read_bytes())(tiles)
    item = read(tiles)
    assert (item.train, item.test) == (before.train, before.test)
    assert [item.file_name(one.path) for one in item.skipped] == [f"tiles/{name}"] * count


def test_results_of_a_prediction_are_no_defect(tiles: Path) -> None:
    results_of("scores.csv", "summary.json")(tiles / "test")
    item = read(tiles)
    assert {one.defect for one in item.test} == {"good", "spot"}
    assert Counter(one.reason for one in item.skipped) == {RESULTS: 3}
    shutil.rmtree(tiles / "test/judged")
    results_of(".lock", "maps/spot/000.png.png", "originals/spot/000.png.jpg")(tiles / "test")
    item = read(tiles)  # of a prediction that was killed
    assert {one.defect for one in item.test} == {"good", "spot"}
    assert Counter(one.reason for one in item.skipped) == {RESULTS: 4}


@pytest.mark.parametrize("name", ["__MACOSX", ".hidden", "@eaDir"])
def test_folders_of_operating_systems_are_no_classes(tiles: Path, name: str) -> None:
    shutil.copytree(tiles, tiles.parent / name)
    assert mvtec.find_classes(tiles.parent) == ["tiles"]
    shutil.copytree(tiles / "test/spot", tiles / "test" / name)
    assert {one.defect for one in read(tiles).test} == {"good", "spot"}


def test_messages_say_what_is_there_instead(tiles: Path) -> None:
    for path in (tiles / "train/good").iterdir():
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(DataError, match=r"0 training images .*not used in .*6 ending \.gif"):
        read(tiles)


def test_other_layouts_list_what_they_do_not_use(tmp_path: Path, stc_root: Path) -> None:
    for i in range(3):
        for name in (f"train/ok/{i}.bmp", f"test/ok/{i}.bmp", f"test/ko/a/{i}.bmp"):
            save_image(tmp_path / "btad/01" / name, i)
        save_image(tmp_path / "btad/01/ground_truth/ko/a" / f"{i}.png", i)
    write("train/ok/x.gif")(tmp_path / "btad/01")
    item = btad.read_class(tmp_path / "btad", "01")
    assert (len(item.train), len(item.test), item.has_masks) == (3, 6, True)
    assert [item.file_name(one.path) for one in item.skipped] == ["01/train/ok/x.gif"]
    write("training/frames/01_001/x.gif")(stc_root)
    item = shanghaitech.read_class(stc_root, "01")
    assert [item.file_name(one.path) for one in item.skipped] == ["training/frames/01_001/x.gif"]
