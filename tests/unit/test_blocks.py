"""Work in blocks and side by side: all of it done once, errors heard, modes kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from padim.parallel import blocks, threads

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """PyTorch's threads, of which blocks on a CPU get one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("total", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("bytes_each", [0, 1, 2**19, 2**30])
def test_every_position_is_worked_on_once(n_threads: int, total: int, bytes_each: int) -> None:
    seen = torch.zeros(total)

    def work(block: slice) -> None:
        assert block.stop > block.start
        seen[block] += 1

    blocks.for_each_block(work, total, bytes_each, CPU)
    assert torch.equal(seen, torch.ones(total))


def test_as_many_are_at_work_as_pytorch_has_threads(n_threads: int) -> None:
    all_there = threading.Barrier(n_threads, timeout=20)  # broken, unless all come to it at a time
    threads.map_in_threads(lambda _item: all_there.wait(), range(n_threads))


def test_work_within_work_takes_no_more_threads(n_threads: int) -> None:
    found = []
    threads.map_in_threads(
        lambda _item: threads.map_in_threads(
            lambda _inner: found.append(torch.get_num_threads()), range(2)
        ),
        range(n_threads),
    )
    assert found == [1] * 2 * n_threads


def test_what_one_raises_is_raised(n_threads: int) -> None:
    def work(item: int) -> None:
        if item == 3:
            raise ValueError("item 3")

    with pytest.raises(ValueError, match="item 3"):
        threads.map_in_threads(work, range(5))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_mode_is_the_callers(n_threads: int, mode: type) -> None:
    modes = []

    def work(_item: int) -> None:
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with mode():
        threads.map_in_threads(work, range(4))
        expected = (torch.is_inference_mode_enabled(), torch.is_grad_enabled())
    assert modes == [expected] * 4


@pytest.mark.parametrize(("n_cores", "expected"), [(2, [1, 1]), (7, [1, 1, 1, 1]), (8, [2] * 4)])
def test_threads_share_the_cores_evenly_and_later_threads_have_them_all(
    n_cores: int, expected: list[int]
) -> None:
    before = torch.get_num_threads()
    found, later = [], []
    try:
        torch.set_num_threads(n_cores)
        threads._pool.cache_clear()
        all_there = threading.Barrier(len(expected), timeout=20)

        def work(_item: int) -> None:
            all_there.wait()
            found.append(torch.get_num_threads())

        threads.map_in_threads(work, range(len(expected)))
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (sorted(found), later) == (expected, [n_cores])
        assert torch.get_num_threads() == n_cores
    finally:
        torch.set_num_threads(before)


FORKED = """
import os, signal
import torch
from padim.parallel.threads import map_in_threads

torch.set_num_threads(2)
seen = []
map_in_threads(seen.append, range(4))
child = os.fork()
if child == 0:
    signal.alarm(20)
    seen.clear()
    map_in_threads(seen.append, range(4))
    os._exit(0 if sorted(seen) == [0, 1, 2, 3] else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, check=True, timeout=60)
