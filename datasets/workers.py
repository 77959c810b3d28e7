"""What holds in every process that decodes images."""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType

# What glibc keeps of freed memory; and the largest block that it takes from what it keeps, no more
# of which older versions of it allow.
KEPT_BYTES = 128 * 2**20
LARGEST_BYTES = 32 * 2**20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as its malloc.h has them


def begin(worker: int) -> None:
    """Set a worker up; for ``worker_init_fn`` of a loader.

    A worker hands its tensors over through a connection that a thread of its own serves. Where the
    run is stopped while it takes one, that thread sees the connection break, which is no error of
    the worker's: it would print a traceback below the run's one line.
    """
    sys.excepthook = _unless_left_alone
    _keep_memory()


def _keep_memory() -> None:
    """Have the memory that one image took be kept for the next one, where glibc sees to it.

    By itself it gives that back after every image, and to be given it anew, page by page, takes a
    fifth of the time of decoding.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGEST_BYTES)
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)


def _unless_left_alone(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
