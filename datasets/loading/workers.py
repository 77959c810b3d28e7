"""Processes that decode images ahead, and the reasons of their failures.

Each worker has its own connection and reads every n-th batch. Batches wait in the memory of the
workers and are sent through the connections. PyTorch's loader uses shared memory (a container has
64 MB) and a file descriptor per tensor, and raises the end of a worker at any moment.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from typing import Any, Generic

from datasets.loading.worker_process import (
    ADVICE,
    LAST_SECONDS,
    Batch,
    Failure,
    Item,
    Reading,
    Task,
    WorkerError,
)

SECONDS = 0.2  # between two checks whether the run should stop


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """Functions of the caller of a stream; picklable if workers are not forked.

    Attributes:
        tune: called in every worker when it starts.
        check: called in the main process while it waits; it may raise, to stop.
    """

    tune: Callable[[], None] = _nothing
    check: Callable[[], None] = _nothing


class BatchReader(Generic[Item, Batch]):
    """The batches of a plan, in order. Its workers start at once.

    A reader is a context manager: its workers have ended when the block is left.

    Args:
        reading: the batches to read.
        num_workers: processes; 0 reads in the calling process.
        ahead: batches that wait in each worker.
        hooks: what is called on the way.

    Raises:
        WorkerError: the workers cannot start.
    """

    def __init__(
        self, reading: Reading[Item, Batch], num_workers: int, ahead: int, hooks: Hooks
    ) -> None:
        self._reading, self._check = reading, hooks.check
        self._workers: list[_Worker] = []
        # Also called when Python exits, before it waits for all processes.
        self._close = util.Finalize(self, _end, (self._workers,), exitpriority=10)
        count = min(num_workers, len(reading.plan))
        for first in range(count):
            turns = range(first, len(reading.plan), count)
            task = Task(reading, turns, ahead, hooks.tune)
            try:
                self._workers.append(_Worker.start(task, [w.connection for w in self._workers]))
            except OSError as error:
                self.close()
                raise WorkerError(
                    f"decoding worker {first + 1} of {count} cannot start ({error.strerror}); "
                    f"{ADVICE}"
                ) from error

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self._reading.plan)):
            if self._workers:
                yield self._workers[index % len(self._workers)].receive(self._check)
            else:
                yield self._reading.batch(index)

    def close(self) -> None:
        """End the workers; each finishes its current image."""
        self._close()

    def __enter__(self) -> BatchReader[Item, Batch]:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Worker:
    process: Any
    connection: Connection

    @classmethod
    def start(cls, task: Task, inherited: list[Connection]) -> _Worker:
        context = get_context("fork" if hasattr(os, "fork") and os.uname()[0] == "Linux" else None)
        ours, theirs = context.Pipe()
        try:
            # A forked process has the descriptors of its parent: only if it closes them, the end
            # of the parent is seen by all.
            is_forked = context.get_start_method() == "fork"
            others = [*inherited, ours] if is_forked else []
            process = context.Process(target=task.run, args=(theirs, others), daemon=True)
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    def receive(self, check: Callable[[], None]) -> Any:
        """The next batch of this worker.

        Raises:
            WorkerError: it ended, or ran out of memory, descriptors or the like.
        """
        try:
            while not self.connection.poll(SECONDS):
                check()
            answer = pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            self.process.join(LAST_SECONDS)
            code = self.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with status {code}"
            raise WorkerError(f"a decoding worker was ended {how}; {ADVICE}") from error
        if isinstance(answer, Failure):
            raise answer.error()
        return answer


def _end(workers: list[_Worker]) -> None:
    """End workers by closing their connections."""
    for worker in workers:
        worker.connection.close()
    until = time.monotonic() + LAST_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
    workers.clear()
