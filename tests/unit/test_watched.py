"""Which files of a watched folder are read, and when. The clock is the test's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from datasets.loading import watched
from datasets.loading.watched import FolderWatch
from datasets.types import DataError

STABLE, PATIENCE = 0.125, 8.0  # seconds, without rounding


class Clock:
    """Time passes when the test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for name, value in (("time", clock), ("STABLE", STABLE), ("PATIENCE", PATIENCE)):
        monkeypatch.setattr(watched, name, value)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def watch_of(*folders: Path, left_out: tuple[Path, ...] = (), known: tuple[str, ...] = ()):
    return FolderWatch(folders, left_out, lambda name, _stamp: name in known)


def arrivals(watch: FolderWatch, clock: Clock, seconds: float = STABLE) -> list[str]:
    """What a poll finds some time later; all of it is judged."""
    clock.now += seconds
    found = watch.poll(100)
    for one in found:
        watch.settle(one.image)
    return [one.image.name for one in found]


def write(path: Path, content: str, modified: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, ns=(modified, modified))


def test_a_file_is_read_when_it_no_longer_changes(folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    write(folder / "a.png", "x")
    assert arrivals(watch, clock) == []
    for size in range(2, 6):
        write(folder / "a.png", "x" * size)
        assert arrivals(watch, clock) == []
    write(folder / "a.png", "y" * 5, modified=2)  # as large as before
    assert arrivals(watch, clock) == []
    assert arrivals(watch, clock, STABLE / 2) == []
    assert arrivals(watch, clock, STABLE / 2) == ["a.png"]
    assert arrivals(watch, clock) == arrivals(watch, clock) == []


def test_a_file_under_another_name_until_it_is_complete(folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    write(folder / "half.png", "x")
    assert arrivals(watch, clock) == []
    (folder / "half.png").rename(folder / "b.png")
    assert arrivals(watch, clock) == []
    assert arrivals(watch, clock) == ["b.png"]


def test_what_cannot_be_read_is_tried_again(folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    write(folder / "a.png", "half")
    assert arrivals(watch, clock) == []

    def failing(seconds: float) -> list[bool]:
        clock.now += seconds
        found = watch.poll(100)
        for one in found:
            watch.put_off(one.image)
        return [one.is_last for one in found]

    assert failing(STABLE) == [False]
    assert failing(PATIENCE / 2) == []
    write(folder / "a.png", "half and more")
    assert failing(STABLE) == []
    assert failing(STABLE) == [False]
    assert failing(PATIENCE - 2 * STABLE) == []
    assert failing(STABLE) == [True]
    (folder / "a.png").unlink()  # it was never judged, and that is said
    assert failing(0) == [True]


def test_a_file_that_changes_while_it_is_read(folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    write(folder / "a.png", "half")
    watch.poll(100)
    clock.now += STABLE
    (one,) = watch.poll(100)
    assert watch.is_unchanged(one.image)
    write(folder / "a.png", "whole")
    assert not watch.is_unchanged(one.image)
    assert arrivals(watch, clock) == []
    assert arrivals(watch, clock) == ["a.png"]


def test_a_file_written_anew_arrives_again(folder: Path, clock: Clock, monkeypatch) -> None:
    monkeypatch.setattr(watched, "LOOKS", 2)
    watch = watch_of(folder, known=("0.png", "1.png"))
    for number in range(5):
        write(folder / f"{number}.png", "x")
    assert arrivals(watch, clock) == []
    assert arrivals(watch, clock) == ["2.png", "3.png", "4.png"]
    assert watch.n_known == 5
    write(folder / "4.png", "x", modified=9)
    found = [name for _ in range(8) for name in arrivals(watch, clock)]
    assert found == ["4.png"]


@pytest.mark.parametrize("how", ["moved away", "emptied"])
def test_a_folder_that_goes_and_comes_back(how: str, folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    write(folder / "a.png", "x")
    arrivals(watch, clock)
    assert arrivals(watch, clock) == ["a.png"]
    folder.rename(folder.with_name("elsewhere"))
    if how == "emptied":  # as storage that is not mounted
        folder.mkdir()
    assert arrivals(watch, clock) == []
    assert watch.missing == ({str(folder)} if how == "moved away" else set())
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("elsewhere").rename(folder)
    write(folder / "b.png", "x")
    found = [name for _ in range(3) for name in arrivals(watch, clock)]
    assert found == ["b.png"]
    assert not watch.missing


def test_names_are_forgotten_with_their_files(folder: Path, clock: Clock) -> None:
    watch = watch_of(folder)
    for name in ("a.png", "b.png"):
        write(folder / name, "x")
    arrivals(watch, clock)
    assert arrivals(watch, clock) == ["a.png", "b.png"]
    (folder / "a.png").unlink()
    arrivals(watch, clock)
    assert watch.n_known == 1
    write(folder / "a.png", "x")  # another part of the same name
    found = [name for _ in range(3) for name in arrivals(watch, clock)]
    assert found == ["a.png"]


def test_where_images_are_looked_for(folder: Path, clock: Clock, tmp_path: Path) -> None:
    write(folder / "deep" / "er" / "a.png", "x")
    write(folder / ".hidden.png", "x")
    write(folder / "notes.txt", "x")
    write(folder / ".git" / "b.png", "x")
    write(folder / "left out" / "maps" / "c.png", "x")
    for name in ("scores.csv", "summary.json", "d.png"):
        write(folder / "earlier" / name, "x")
    (folder / "deep" / "circle").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    watch = watch_of(folder, left_out=(folder / "left out",))
    arrivals(watch, clock)
    assert arrivals(watch, clock) == ["deep/er/a.png"]
    write(folder / "new" / "e.png", "x")
    arrivals(watch, clock)
    assert arrivals(watch, clock) == ["new/e.png"]
    assert {one.path.name for one in watch.skipped} == {
        *(".hidden.png", "notes.txt", "scores.csv", "summary.json", "d.png")
    }
    assert {image.name for image in watch.images} == {"deep/er/a.png", "new/e.png"}


def test_several_folders(folder: Path, clock: Clock, tmp_path: Path) -> None:
    for name in ("in", "two", "deep/in"):
        write(tmp_path / name / "a.png", "x")
    watch = watch_of(folder, tmp_path / "two")
    arrivals(watch, clock)
    assert arrivals(watch, clock) == ["in/a.png", "two/a.png"]
    with pytest.raises(DataError, match="different names"):
        watch_of(folder, tmp_path / "deep" / "in")
    with pytest.raises(DataError, match="a.png is no folder"):
        watch_of(folder / "a.png")
