"""Processes that decode images ahead, and how their failures are told apart.

Each worker has a connection of its own and reads every n-th batch. Batches travel through these
connections and wait in the workers' own memory. PyTorch's loader puts them into shared memory, of
which a container has 64 MB, takes a file descriptor for each tensor, and raises the end of a worker
in the main thread at any moment.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any, Generic, TypeVar

import torch

from datasets.types import DataError

ADVICE = "give a smaller --num_workers or --batch_size"
SECONDS = 0.2  # between two looks at whether the run is to stop
LAST_SECONDS = 2.0  # that a worker has to end, once nobody waits for its batches

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class WorkerError(DataError):
    """A decoding process could not start, ended, or ran out of what the machine has."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """What the caller of a stream wants to be called; picklable where workers are not forked.

    Attributes:
        tune: called in every worker when it starts.
        check: called in the main process while it waits; it may raise, to stop.
    """

    tune: Callable[[], None] = _nothing
    check: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Reading(Generic[Item, Batch]):
    """What is read.

    Attributes:
        plan: the items of every batch.
        read: reads an item. What is wrong with an item it returns as a value.
        collate: makes a batch of what was read.
    """

    plan: Sequence[Sequence[Item]]
    read: Callable[[Item], Any]
    collate: Callable[[list[Any]], Batch]

    def batch(self, index: int) -> Batch:
        """Read a batch."""
        return self.collate([self.read(item) for item in self.plan[index]])


class BatchReader(Generic[Item, Batch]):
    """The batches of a plan, in order. Its workers start at once.

    A reader is a context manager: its workers have ended when the block is left.

    Args:
        reading: what is read.
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
            task = _Task(reading, turns, ahead, hooks.tune)
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
        """End the workers: each finishes the image it is at."""
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
    def start(cls, task: _Task, inherited: list[Connection]) -> _Worker:
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
        if isinstance(answer, _Failure):
            raise answer.error()
        return answer


@dataclass(frozen=True)
class _Failure:
    """Why a worker ends."""

    lacking: str
    fault: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        if isinstance(error, MemoryError):
            return cls("memory", "")
        if "can't start new thread" in str(error):  # a bare RuntimeError
            return cls("no more threads", "")
        if isinstance(error, OSError):
            return cls(f"{error.filename or 'system'}: {error.strerror or error}", "")
        return cls("", traceback.format_exc())

    def error(self) -> Exception:
        if self.lacking == "memory":
            return WorkerError(f"the memory of a decoding worker does not suffice; {ADVICE}")
        if self.lacking:
            return WorkerError(f"a decoding worker cannot go on ({self.lacking}); {ADVICE}")
        return RuntimeError(f"in a decoding worker:\n{self.fault}")


@dataclass(frozen=True)
class _Task:
    """All that a worker does; it is the one that runs in its process."""

    reading: Reading[Any, Any]
    turns: range
    ahead: int
    tune: Callable[[], None]

    def run(self, connection: Connection, inherited: list[Connection]) -> None:
        """Read the batches of this worker until all are sent or nobody waits for them."""
        for other in inherited:
            other.close()
        for number in ("SIGINT", "SIGTERM", "SIGHUP"):  # they go to a whole group: the main
            if hasattr(signal, number):  # process decides, and its end is seen
                signal.signal(getattr(signal, number), signal.SIG_IGN)
        outbox = _Outbox(connection, Queue(self.ahead))
        try:
            outbox.open()
            self.tune()
            torch.set_num_threads(1)  # those of the parent are not there after a fork
            for index in self.turns:
                outbox.put(self._batch(index, outbox))
            outbox.finish()
        except _Over:
            return
        except Exception as error:
            with suppress(_Over, OSError):
                outbox.fail(error)

    def _batch(self, index: int, outbox: _Outbox) -> Any:
        read = []
        for item in self.reading.plan[index]:
            read.append(self.reading.read(item))
            outbox.check()
        return self.reading.collate(read)


class _Over(Exception):  # noqa: N818 - not an error
    """Nobody waits for the batches of this worker any more."""


@dataclass(frozen=True)
class _Outbox:
    """The batches that wait in a worker; one thread sends them, one sees the end of the parent."""

    connection: Connection
    waiting: Queue[bytes | None]
    is_over: threading.Event = field(default_factory=threading.Event)
    is_sent: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        """Start the threads."""
        for work in (self._send, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def put(self, content: object) -> None:
        self.check()
        self.waiting.put(_pickled(content))

    def fail(self, error: Exception) -> None:
        """Send what is waiting, and then why there is no more."""
        self.finish()
        self.connection.send_bytes(_pickled(_Failure.of(error)))

    def check(self) -> None:
        if self.is_over.is_set():
            raise _Over

    def finish(self) -> None:
        """Wait until all is sent."""
        self.waiting.put(None)
        self.is_sent.wait()

    def _send(self) -> None:
        while (content := self.waiting.get()) is not None:
            if not self.is_over.is_set():
                try:
                    self.connection.send_bytes(content)
                except OSError:  # the parent is gone
                    self.is_over.set()
        self.is_sent.set()

    def _watch(self) -> None:
        """Nothing is ever received: the connection ends with the parent, or by its ``close``."""
        try:
            self.connection.recv_bytes()
        except (EOFError, OSError):
            self.is_over.set()
        time.sleep(LAST_SECONDS)
        os._exit(0)  # one image takes too long


class _Pickler(pickle.Pickler):
    """Sends tensors as arrays; as tensors they would go through shared memory."""

    def reducer_override(self, content: Any) -> Any:
        if isinstance(content, torch.Tensor):
            return torch.from_numpy, (content.numpy(),)
        return NotImplemented


def _pickled(content: object) -> bytes:
    file = BytesIO()
    _Pickler(file, protocol=5).dump(content)
    return file.getvalue()


def _end(workers: list[_Worker]) -> None:
    """End workers. They hear of it by the end of their connection."""
    for worker in workers:
        worker.connection.close()
    until = time.monotonic() + LAST_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
    workers.clear()
