"""The loaders: faults in workers told apart, workers that end, caches of any name."""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from helpers import draw_class, draw_image
from torch.utils.data import DataLoader, Dataset

from datasets.layouts import LAYOUTS
from datasets.layouts.rd_mvtec import RandomPreprocessing
from datasets.loading import workers
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.labelled import ImageStream
from datasets.types import Sample
from padim.errors import PaDiMError
from padim.preprocessing import Preprocessing


class Failing(Dataset):
    """Every item fails in the way asked for."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(3)
        if self.how == "memory":
            raise MemoryError
        raise RuntimeError("a fault of the program")


def batches(how: str) -> list:
    loader = DataLoader(
        Failing(how), num_workers=1, worker_init_fn=workers.initialiser(None), timeout=60
    )
    return list(workers.batches_of(loader))


@pytest.mark.parametrize(
    ("how", "words"),
    [("killed", "ended by signal 9"), ("exit", "ended with status 3"), ("memory", "memory of a")],
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
    """For ``worker_init``: writes down which process it is called in."""

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
        ImageStream([item], Preprocessing(32, 32), num_workers=1, worker_init=note) as stream,
    ):
        list(stream.take(len(item.train)))
    process, end = int(note.file.read_text()), time.monotonic() + 20
    gc.collect()
    while is_alive(process) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(process)


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
