"""A folder that one process writes into at a time."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from padim.reading.folders import LOCK  # stays behind in every folder that was written to
from utils.errors import OptionError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)  # of a file system that has no locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs. However the process ends, the folder is free again.

    Args:
        folder: an existing folder; a file ``.lock`` in it stays behind.

    Raises:
        OptionError: another process holds it, or its ``.lock`` is not a file of this program.
    """
    path = folder / LOCK
    _check_own(path)
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
            _write(path, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def _check_own(path: Path) -> None:
    """Check that the lock file is new, or one that this program wrote, so that no other is lost."""
    try:
        found = path.lstat()
        is_own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if is_own and found.st_size:
            with path.open("rb") as file:
                is_own = file.read(8) == b"process "
    except FileNotFoundError:
        return
    if not is_own:
        raise OptionError(
            f"{path} is not a lock file of this program; move it away, or give another --save_path"
        )


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
