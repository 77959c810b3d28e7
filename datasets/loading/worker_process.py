"""The code of a decoding process: read batches, and send each on request.

The process ends within ``LAST_SECONDS`` when nobody waits for its batches any more.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any, Generic, TypeVar

import torch

from datasets.types import DataError

ADVICE = "give a smaller --num_workers or --batch_size"
LAST_SECONDS = 2.0  # for a worker to end when nobody waits for its batches

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class WorkerError(DataError):
    """A decoding process could not start, ended, or ran out of resources."""


@dataclass(frozen=True)
class Reading(Generic[Item, Batch]):
    """The batches to read.

    Attributes:
        plan: the items of every batch.
        read: reads an item. An error of an item is returned as a value.
        collate: makes a batch of the items read.
    """

    plan: Sequence[Sequence[Item]]
    read: Callable[[Item], Any]
    collate: Callable[[list[Any]], Batch]

    def batch(self, index: int) -> Batch:
        """Read a batch."""
        return self.collate([self.read(item) for item in self.plan[index]])


@dataclass(frozen=True)
class Failure:
    """The reason why a worker ends."""

    lacking: str
    fault: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
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
class Task:
    """The task of a worker, run in its process."""

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
        """Send the waiting batches, then the reason of the end."""
        self.finish()
        self.connection.send_bytes(_pickled(Failure.of(error)))

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
        """Wait for the end of the connection, by the parent's end or its ``close``."""
        try:
            self.connection.recv_bytes()
        except (EOFError, OSError):
            self.is_over.set()
        time.sleep(LAST_SECONDS)
        os._exit(0)  # one image takes too long


class _Pickler(pickle.Pickler):
    """Sends tensors as arrays; tensors would use shared memory."""

    def reducer_override(self, content: Any) -> Any:
        if isinstance(content, torch.Tensor):
            return torch.from_numpy, (content.numpy(),)
        return NotImplemented


def _pickled(content: object) -> bytes:
    file = BytesIO()
    _Pickler(file, protocol=5).dump(content)
    return file.getvalue()
