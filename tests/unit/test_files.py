"""Files that are whole or absent, never written through a link, and swept if nobody is left."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from padim.storage.files import is_temporary, naming, sweep, temporary_folder, written_whole
from utils.cli.errors import guard
from utils.errors import OptionError
from utils.system.files import write_json, write_text
from utils.system.lock import locked

ROOT = Path(__file__).parents[2]


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one\udcff")
    assert path.read_text() == "one\\udcff"
    (tmp_path / "plain.txt").touch()
    assert path.stat().st_mode == (tmp_path / "plain.txt").stat().st_mode
    (tmp_path / "plain.txt").unlink()
    with pytest.raises(ValueError, match="half"), written_whole(path) as partial:
        partial.write_text("half")
        raise ValueError("half")
    with pytest.raises(ValueError):
        write_json(path, float("nan"))
    assert {each.name for each in tmp_path.iterdir()} == {"a.txt"}
    assert path.read_text() == "one\\udcff"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for target in ("mine.txt", "nowhere"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        write_text(tmp_path / "link", "new")
        assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@contextmanager
def smaller_files(n_bytes: int):
    """As on a disk that is full: a file cannot grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_with_the_path(tmp_path: Path, capsys) -> None:
    path = tmp_path / "table.csv"

    def work() -> int:
        with smaller_files(1000):
            write_text(path, "x" * 5000)
        return 0

    status = guard(work, "all is kept", "run again")
    assert (status, capsys.readouterr().err) == (
        *(2, f"error: {path}: File too large; all is kept\n"),
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_an_error_that_names_no_file_is_given_one(number: int) -> None:
    with pytest.raises(OSError) as inner, naming(Path("outer")), naming(Path("inner")):
        raise OSError(number, os.strerror(number))
    assert inner.value.filename == "inner"
    with pytest.raises(OSError) as other, naming(Path("outer")):
        raise OSError(errno.EPIPE, "a pipe, not the disk")
    assert other.value.filename is None


def test_what_a_killed_process_leaves_is_swept(tmp_path: Path) -> None:
    """And nothing else: not what a living one writes, nor anything of the user's."""
    code = """
import sys, time
from pathlib import Path
from padim.storage.files import temporary_folder, written_whole
with written_whole(Path(sys.argv[1]) / "a"), temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "inside").write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""
    names = (".partial-notes", ".partial-0123456789abcdef01234567", "partial", ".features-x")
    for name in names:
        (tmp_path / name).write_text("mine")
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        sweep(tmp_path)
        left = {path.name for path in tmp_path.iterdir()} - set(names)
        assert len(left) == 2
        assert all(map(is_temporary, left))
        process.send_signal(signal.SIGKILL)
        process.wait()
    with written_whole(tmp_path / "b"), temporary_folder(tmp_path):
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == len(names) + 2
    assert {path.name for path in tmp_path.iterdir()} == {*names, "b"}


def test_a_link_with_such_a_name_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    with temporary_folder(tmp_path) as folder:
        name = folder.name
    (tmp_path / name).symlink_to(outside)
    sweep(tmp_path)
    assert (outside / "mine").exists()
    sweep(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["file", "link", "hard link", "folder", "pipe"])
def test_a_lock_file_that_is_not_ours_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine.txt", tmp_path / "out"
    mine.write_text("my notes")
    folder.mkdir()
    path = folder / ".lock"
    {
        "file": lambda: path.write_text("my own lock"),
        "link": lambda: path.symlink_to(mine),
        "hard link": lambda: path.hardlink_to(mine),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    refused = pytest.raises(OptionError, match=r"\.lock is not a lock file of this program")
    with refused, locked(folder):
        pytest.fail("it was taken")
    assert mine.read_text() == "my notes"
    assert kind != "file" or path.read_text() == "my own lock"


def test_a_lock_file_of_ours_is_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on")
    (tmp_path / ".lock").write_text("")
    with locked(tmp_path):
        pass
