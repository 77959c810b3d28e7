"""A folder that one process writes into at a time."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import OptionError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)  # of a file system that has no locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs. However the process ends, the folder is free again.

    Args:
        folder: an existing folder; a file ``.lock`` in it stays behind.

    Raises:
        OptionError: another process holds it.
    """
    path = folder / ".lock"
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise OptionError(
            f"{folder} is being written by {_holder(path)}; wait until it ends, "
            "or give another --save_path"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        with suppress(OSError):  # Windows lets nobody write to a locked file
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
