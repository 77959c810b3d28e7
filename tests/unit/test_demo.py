"""The demo set: its layout, its masks, and that it is only ever there whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import demo
from datasets.types import DataError

DEFECTS = {"weave": {"cut", "stain", "thread"}, "gear": {"broken_tooth", "scratch", "rust"}}
DEFECTIVE = [(name, "test", kind, 0) for name, kinds in DEFECTS.items() for kind in sorted(kinds)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole set, drawn once."""
    return demo.draw_demo_set(tmp_path_factory.mktemp("whole") / "new" / "demo")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the set a few images small, for the tests of when it is drawn rather than what."""
    monkeypatch.setattr(demo, "TRAIN_GOOD", 1)
    monkeypatch.setattr(demo, "TEST_GOOD", 0)
    monkeypatch.setattr(demo, "TEST_PER_DEFECT", 1)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[demo.Item]:
    """The images drawn so far, in order."""
    items, draw = [], demo._draw

    def recorded(item: demo.Item, seed: int) -> demo.Painted:
        items.append(item)
        return draw(item, seed)

    monkeypatch.setattr(demo, "_draw", recorded)
    return items


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_layout_and_counts(root: Path) -> None:
    assert names(root) == ["demo.json", "gear", "weave"]
    assert names(root.parent) == ["demo"]
    for name, defects in DEFECTS.items():
        assert names(root / name) == ["ground_truth", "test", "train"]
        assert names(root / name / "train") == ["good"]
        assert names(root / name / "train" / "good") == [f"{i:03d}.png" for i in range(30)]
        assert set(names(root / name / "test")) == {"good", *defects}
        assert names(root / name / "test" / "good") == [f"{i:03d}.png" for i in range(10)]
        assert set(names(root / name / "ground_truth")) == defects
        for kind in defects:
            masks = names(root / name / "ground_truth" / kind)
            assert names(root / name / "test" / kind) == [f"{i:03d}.png" for i in range(6)]
            assert masks == [f"{i:03d}_mask.png" for i in range(6)]


def test_files_are_rgb_images_and_binary_masks(root: Path) -> None:
    for path in root.rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (320, 320)
            assert picture.mode == ("L" if path.stem.endswith("_mask") else "RGB")
            if picture.mode == "L":
                assert set(np.unique(np.asarray(picture))) == {0, 255}


def test_every_image_is_different(root: Path) -> None:
    images = [data for path, data in contents(root).items() if "ground_truth" not in path]
    assert len(set(images)) == len(images)


def test_folder_is_as_open_as_any_other(root: Path) -> None:
    assert root.stat().st_mode == root.parent.stat().st_mode


def test_masks_are_exactly_what_the_defect_changed(root: Path) -> None:
    for item in demo._plan():
        if item[2] == "good":
            continue
        image, mask = (np.asarray(Image.open(path)) for path in demo._paths(root, item))
        good, nothing = demo._draw(item, seed=0, flawed=False)
        changed = (image != good).any(axis=-1)
        assert not nothing.any()
        assert not (changed & (mask == 0)).any(), item
        assert changed[mask > 0].mean() > 0.95, item
        assert 60 < (mask > 0).sum() < 0.08 * mask.size, item
        difference = np.abs(image.astype(int) - good)[mask > 0].mean()
        assert difference > 12, f"{item} can hardly be seen"


@pytest.mark.parametrize("item", DEFECTIVE)
def test_an_image_depends_on_its_name_and_the_seed_only(item: demo.Item, root: Path) -> None:
    image, mask = demo._draw(item, seed=0)
    for path, pixels in zip(demo._paths(root, item), (image, mask * 255), strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert not np.array_equal(demo._draw(item, seed=1)[0], image)


@pytest.mark.usefixtures("small")
def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = demo.draw_demo_set(tmp_path / "a", seed=3)
    assert first == tmp_path / "a"
    assert contents(first) == contents(demo.draw_demo_set(tmp_path / "b", seed=3))


@pytest.mark.usefixtures("small")
def test_a_complete_set_is_reused(tmp_path: Path, drawn: list[demo.Item]) -> None:
    root = demo.draw_demo_set(tmp_path / "demo")
    drawn.clear()
    assert demo.draw_demo_set(root) == root
    assert drawn == []


@pytest.mark.usefixtures("small")
def test_a_set_with_a_file_missing_is_redrawn(tmp_path: Path) -> None:
    root = demo.draw_demo_set(tmp_path / "demo")
    before = contents(root)
    (root / "gear" / "ground_truth" / "rust" / "000_mask.png").unlink()
    assert contents(demo.draw_demo_set(root)) == before


@pytest.mark.usefixtures("small")
def test_another_seed_or_version_replaces_the_set(
    tmp_path: Path, drawn: list[demo.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = demo.draw_demo_set(tmp_path / "demo", seed=0)
    before = contents(root)
    demo.draw_demo_set(root, seed=1)
    assert contents(root).keys() == before.keys()
    assert all(contents(root)[path] != before[path] for path in before if "ground" not in path)
    drawn.clear()
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    demo.draw_demo_set(root, seed=1)
    assert drawn == list(demo._plan())
    assert json.loads((root / "demo.json").read_text()) == {"version": demo.VERSION, "seed": 1}
    assert names(tmp_path) == ["demo"]


@pytest.mark.parametrize("marker", [None, "", "[1]", '{"seed": 0}'])
def test_a_foreign_folder_is_left_alone(
    tmp_path: Path, drawn: list[demo.Item], marker: str | None
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    (root / "thesis.txt").write_text("years of work")
    if marker is not None:
        (root / "demo.json").write_text(marker)
    before = contents(root)
    with pytest.raises(DataError, match=r"mine") as error:
        demo.draw_demo_set(root)
    assert "\n" not in str(error.value)
    assert contents(root) == before
    assert names(tmp_path) == ["mine"]
    assert drawn == []


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    with pytest.raises(DataError):
        demo.draw_demo_set(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "years of work"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    kept = demo.draw_demo_set(tmp_path / "kept", seed=0)
    before = contents(kept)
    draw = demo._draw

    def interrupted(item: demo.Item, seed: int) -> demo.Painted:
        if item[0] == "gear":
            raise stop
        return draw(item, seed)

    monkeypatch.setattr(demo, "_draw", interrupted)
    for root in (kept, tmp_path / "fresh"):
        with pytest.raises(stop):
            demo.draw_demo_set(root, seed=1)
    assert names(tmp_path) == ["kept"]
    assert contents(kept) == before


@pytest.mark.usefixtures("small")
def test_two_runs_at_once_leave_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, write = tmp_path / "demo", demo._write

    def overtaken(folder: Path, seed: int, marker: dict[str, int]) -> None:
        write(folder, seed, marker)
        if not root.exists():
            write(root, seed, marker)

    monkeypatch.setattr(demo, "_write", overtaken)
    demo.draw_demo_set(root)
    assert names(root) == ["demo.json", "gear", "weave"]
    assert names(tmp_path) == ["demo"]
