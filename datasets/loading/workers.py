"""What holds in every process that decodes images."""

from __future__ import annotations

import sys
from types import TracebackType

from utils.system.memory import keep_memory


def begin(worker: int) -> None:
    """Set a worker up; for ``worker_init_fn`` of a loader.

    A worker hands its tensors over through a connection that a thread of its own serves. Where the
    run is stopped while it takes one, that thread sees the connection break, which is no error of
    the worker's: it would print a traceback below the run's one line.
    """
    sys.excepthook = _unless_left_alone
    keep_memory()


def _unless_left_alone(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
