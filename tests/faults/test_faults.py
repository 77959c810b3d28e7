"""What goes wrong while a run is under way: one line, status 2, and the next run goes on."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import LONG, draw_class, draw_image, expect_one_line, result, run
from scripts import SMALL, start, tables
from scripts import run as run_script

from datasets.loading.labelled import ImageStream
from utils.evaluation.class_record import ClassRecord
from utils.experiment.engine import ClassWork, Engine
from utils.experiment.run_folder import RunFolder

CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("a", "b", "c"):
        draw_class(root, name)
    return root


def when_a_is_done(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something between the first class and the second."""
    original = Engine.run_class

    def wrapped(engine: Engine, work: ClassWork, stream: ImageStream) -> None:
        original(engine, work, stream)
        if work.item.name == "a":
            act()

    monkeypatch.setattr(Engine, "run_class", wrapped)


def records(save: Path) -> set[str]:
    return {path.stem for path in result(save).glob("records/*.json")}


def test_an_image_that_goes_away(root: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    gone, aside = root / "b/test/spot/001.png", tmp_path / "aside.png"
    assert run(root, tmp_path / "whole") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        when_a_is_done(patch, lambda: gone.rename(aside))
        status = run(root, tmp_path / "out")
    expect_one_line(capsys, status, str(gone))
    assert records(tmp_path / "out") == {"a"}
    aside.rename(gone)
    assert run(root, tmp_path / "out") == 0
    assert tables(result(tmp_path / "out")) == tables(result(tmp_path / "whole"))


def test_a_data_set_that_goes_away(root: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    when_a_is_done(monkeypatch, lambda: shutil.rmtree(root))
    status = run(root, tmp_path / "out")
    expect_one_line(capsys, status, str(root / "b"))
    assert records(tmp_path / "out") == {"a"}
    assert not list(result(tmp_path / "out").glob(".partial*"))


@pytest.mark.parametrize("name", ["b/train/good/000.png", "b/ground_truth/spot/002_mask.png"])
def test_a_file_that_is_changed_in_between(
    root: Path, tmp_path: Path, capsys, monkeypatch, name: str
) -> None:
    """Whether it was read before or after nobody knows, so no numbers are made of it."""
    with monkeypatch.context() as patch:
        when_a_is_done(patch, lambda: draw_image(7).save(root / name))
        status = run(root, tmp_path / "out")
    expect_one_line(capsys, status, "class b", "changed while they were read", "run again")
    assert records(tmp_path / "out") == {"a"}
    assert not list(result(tmp_path / "out").glob(".partial*"))
    assert run(root, tmp_path / "out") == 0
    assert run(root, tmp_path / "whole") == 0
    assert tables(result(tmp_path / "out")) == tables(result(tmp_path / "whole"))


def test_a_file_that_is_changed_when_all_is_read(root: Path, tmp_path: Path, monkeypatch) -> None:
    """It is in no number of any seed, so all seeds are finished, of the images that were read."""
    options = ("--seeds", "0", "1", "--classes", "a")
    assert run(root, tmp_path / "whole", *options) == 0
    finish = RunFolder.finish

    def and_change(results: RunFolder, record: ClassRecord) -> None:
        finish(results, record)
        draw_image(7).save(root / "a/train/good/000.png")

    monkeypatch.setattr(RunFolder, "finish", and_change)
    assert run(root, tmp_path / "out", *options) == 0
    for seed in (0, 1):
        found, expected = (
            tables(save / f"resnet18_rd12_untrained_seed{seed}")
            for save in (tmp_path / "out", tmp_path / "whole")
        )
        assert found == expected


def obey_permissions() -> None:
    """In a child: root too may write only where the permissions say so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@LONG
@pytest.mark.skipif(sys.platform != "linux", reason="takes a privilege from root as Linux has it")
def test_a_folder_that_turns_read_only(tmp_path: Path) -> None:
    root, save = tmp_path / "data", tmp_path / "out"
    for name in "abcd":
        draw_class(root, name)
    options = ("--data_path", root, "--save_path", save, "--weights=random", *SMALL)
    folder = save / "resnet18_rd100_untrained"
    try:
        process = start("main_resnet.py", *options, preexec_fn=obey_permissions)
    except subprocess.SubprocessError as error:
        pytest.skip(f"no privilege can be given up here ({error})")
    deadline = time.monotonic() + 120
    while not (folder / "records/a.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        if place.is_dir():  # a class's own are moved away meanwhile
            place.chmod(0o555)
    _, err = process.communicate(timeout=60)
    for place in places:
        if place.is_dir():
            place.chmod(0o755)
    assert process.returncode == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("!!!")]
    assert len(lines) == 1, err
    assert "Permission denied" in lines[0]
    assert str(folder) in lines[0]
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("records/*.json")}
    assert 0 < len(kept) < 4
    status, _, err = run_script("main_resnet.py", *options)
    assert status == 0, err
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert len(list(folder.glob("records/*.json"))) == 4
    assert not list(folder.rglob("*partial*"))
