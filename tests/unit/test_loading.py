"""The loaders: faults in workers told apart, workers that end, caches of any name."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import draw_class, draw_image

from datasets.layouts import LAYOUTS
from datasets.layouts.rd_mvtec import RandomPreprocessing
from datasets.loading import workers
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.labelled import ImageStream
from datasets.types import Sample
from padim.errors import PaDiMError
from padim.preprocessing import Preprocessing


def fail(how: str) -> int:
    """Read an item, in the way asked for."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "memory":
        raise MemoryError
    if how == "no descriptors":
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "image.png")
    if how == "no threads":
        raise RuntimeError("can't start new thread")
    if how == "fault":
        raise RuntimeError("a fault of the program")
    return os.getpid()


def reader(plan: list[list[str]], num_workers: int = 1) -> workers.BatchReader:
    return workers.BatchReader(workers.Reading(plan, fail, list), num_workers, 1, workers.Hooks())


def in_use() -> set[Path]:
    """Descriptors of this process."""
    return set(Path("/proc/self/fd").iterdir())


def batches(how: str) -> list:
    with reader([["fine"], [how]]) as found:
        return list(found)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("killed", "ended by signal 9"),
        ("exit", "ended with status 3"),
        ("memory", "memory of a"),
        ("no descriptors", "image.png: Too many open files"),
        ("no threads", "no more threads"),
    ],
)
def test_a_worker_that_ends_is_one_clear_error(how: str, words: str) -> None:
    with pytest.raises(
        workers.WorkerError, match=f"{words}.*give a smaller --num_workers"
    ) as error:
        batches(how)
    assert "\n" not in str(error.value)


def test_a_fault_in_a_worker_is_not_called_a_kill() -> None:
    with pytest.raises(RuntimeError, match="a fault of the program"):
        batches("fault")


class NotesItsProcess:
    """For ``Hooks.tune``: writes down which process it is called in."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> None:
        self.file.write_text(str(os.getpid()))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_stream_ends_its_workers_however_its_block_is_left(
    tmp_path: Path, is_broken: bool
) -> None:
    draw_class(tmp_path)
    if is_broken:
        (tmp_path / "tiles/train/good/000.png").write_bytes(b"cut")
    item = LAYOUTS["mvtec"].read_class(tmp_path, "tiles")
    note = NotesItsProcess(tmp_path / "process")
    expected = pytest.raises(PaDiMError, match=r"000\.png") if is_broken else nullcontext()
    with (
        expected,
        ImageStream(
            [item], Preprocessing(32, 32), num_workers=1, hooks=workers.Hooks(note)
        ) as stream,
    ):
        list(stream.take(len(item.train)))
    process, end = int(note.file.read_text()), time.monotonic() + 20
    gc.collect()
    while is_alive(process) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(process)


@pytest.mark.parametrize("num_workers", [0, 1, 3, 9])
def test_batches_come_in_their_order_from_any_number_of_workers(num_workers: int) -> None:
    draw = np.random.default_rng(num_workers)
    plan = [list(draw.integers(0, 255, (int(size), 5))) for size in draw.integers(1, 4, 7)]
    reading = workers.Reading(plan, torch.from_numpy, torch.stack)
    with workers.BatchReader(reading, num_workers, 2, workers.Hooks()) as found:
        for batch, expected in zip(found, plan, strict=True):
            assert batch.equal(torch.from_numpy(np.stack(expected)))
            batch += 1  # theirs alone


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_each_worker_is_a_process_of_which_nothing_is_left_behind() -> None:
    before = in_use()
    with reader([["fine"] for _ in range(6)], num_workers=3) as found:
        (one,), (two,), (three,), *others = found
    assert len({one, two, three}) == 3
    assert [process for (process,) in others] == [one, two, three]
    assert in_use() <= before
    assert not any(map(is_alive, (one, two, three)))


def test_a_worker_without_a_parent_ends_by_itself() -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = (
        f"import os, sys; sys.path[:0] = {folders}\n"
        "import test_loading\n"
        "found = iter(test_loading.reader([['fine']] * 9))\n"
        "print(*next(found), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    process, end = int(done.stdout), time.monotonic() + 5
    while is_alive(process) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(process)


def test_waiting_for_a_batch_can_be_stopped() -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        raise StopError

    reading = workers.Reading([[60.0]], time.sleep, list)
    started = time.monotonic()
    with (
        pytest.raises(StopError),
        workers.BatchReader(reading, 1, 1, workers.Hooks(check=check)) as found,
    ):
        next(iter(found))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", [b"cache", b"caf\xc3\xa9", b"not \xff text"])
def test_a_cache_works_in_a_folder_of_any_name(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    draw_image(0).save(tmp_path / "image.png")
    preprocessing, sample = Preprocessing(40, 32), Sample(tmp_path / "image.png")
    expected = read_sample(sample, preprocessing)
    for _ in range(3):
        found = ImageCache(folder, preprocessing).read(sample)
        assert found[0].equal(expected[0])
        assert found[1].equal(expected[1])


def test_random_preprocessing_is_random_by_every_method(tmp_path: Path) -> None:
    path = tmp_path / "a/train/good/image.png"
    path.parent.mkdir(parents=True)
    draw_image(0).save(path)
    preprocessing = RandomPreprocessing(64, 48)
    assert not preprocessing.image(path).equal(Preprocessing(64, 48).image(path))
    assert preprocessing.image(path).equal(preprocessing.of(path).image(path))
    mask = torch.rand(80, 90).numpy() > 0.5
    assert (
        not preprocessing.of(path)
        .crop_of_mask(mask)
        .equal(Preprocessing(64, 48).crop_of_mask(mask))
    )
