"""What holds in every process that decodes images, and how its failures are told apart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch.utils.data import DataLoader

from datasets.types import DataError

ADVICE = "give a smaller --num_workers or --batch_size"


class WorkerError(DataError):
    """A decoding process ended, or ran out of memory."""


def initialiser(tune: Callable[[], None] | None) -> Callable[[int], None]:
    """For ``worker_init_fn`` of a loader: ``tune`` is called in every worker."""
    return partial(_begin, tune)


def batches_of(loader: DataLoader) -> Generator[Any, None, None]:
    """The batches of a loader, with the end of a worker as one clear error.

    PyTorch raises a bare RuntimeError for a worker that was killed, and for many other things. Here
    the processes themselves are asked. They share their errors in reading as values, so that any
    other exception is a fault of the program, and is raised as it is.

    Raises:
        WorkerError: a worker was killed, or its memory did not suffice.
    """
    iterator = iter(loader)  # starts the workers now, not when the first batch is taken
    return _checked(iterator, list(getattr(iterator, "_workers", ())))


def _checked(iterator: Iterator[Any], workers: Sequence[Any]) -> Generator[Any, None, None]:
    try:
        yield from iterator
    except MemoryError as error:
        raise WorkerError(f"the memory of a decoding worker does not suffice; {ADVICE}") from error
    except RuntimeError as error:
        codes = [worker.exitcode for worker in workers if worker.exitcode]
        if not codes:
            raise
        how = f"by signal {-codes[0]}" if codes[0] < 0 else f"with status {codes[0]}"
        raise WorkerError(f"a decoding worker was ended {how}; {ADVICE}") from error


def _begin(tune: Callable[[], None] | None, _worker: int) -> None:
    """Set a worker up.

    A worker hands its tensors over through a connection that a thread of its own serves. If the run
    is stopped meanwhile, that thread sees the connection break. This is not an error of the worker,
    and would print a traceback below the run's one line.
    """
    sys.excepthook = _hide_broken_connections
    if tune is not None:
        tune()


def _hide_broken_connections(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
