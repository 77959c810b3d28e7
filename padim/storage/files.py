"""Files that appear under their names complete or not at all.

Everything is written to a new file with a random temporary name first, never to an existing file or
link. A process that is killed leaves its temporary files behind; ``sweep`` removes them. It
recognises them by a checksum in their names, and the end of their process by a lock.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and so nothing is swept
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.partial-([0-9a-f]{16})([0-9a-f]{8})")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_EXISTING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file completely or not at all.

    Args:
        path: the file to make or replace. If it is a link, the link is replaced.

    Yields:
        A path in the same folder to write to. It becomes ``path`` if the block ends well, and is
        removed if not.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    with naming(path), temporary_file(path.parent) as (partial, _):
        yield partial
        partial.replace(path)


@contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """A new, empty file, removed when the block ends unless it was renamed.

    Yields:
        Its path, and a descriptor of it; None on Windows.
    """
    path, descriptor = _make(folder, is_folder=False)
    try:
        yield path, descriptor
    finally:
        path.unlink(missing_ok=True)
        _release(descriptor)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder, removed with its content when the block ends."""
    folder, descriptor = _make(parent, is_folder=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to the error of a full or broken disk, which has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes, not those of running ones."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if is_temporary(path.name):
                with suppress(OSError):
                    _sweep(path)


def is_temporary(name: str) -> bool:
    """Whether this is the name of a temporary file of this program."""
    found = _NAME.fullmatch(name)
    return found is not None and _check(found[1]) == found[2]


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link, but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(parent: Path, is_folder: bool) -> tuple[Path, int | None]:
    """A new temporary file or folder, and a descriptor that holds its lock."""
    while True:
        token = secrets.token_hex(8)
        path = parent / f".partial-{token}{_check(token)}"
        if is_folder:
            path.mkdir()
            descriptor = None if fcntl is None else os.open(path, _EXISTING)
        else:
            descriptor = os.open(path, _NEW, 0o666)
            if fcntl is None:  # Windows does not replace a file that is open
                os.close(descriptor)
                descriptor = None
        if descriptor is None:
            return path, None
        with suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.path.lexists(path):
            return path, descriptor
        os.close(descriptor)  # another process took it for a leftover before it was locked


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _sweep(path: Path) -> None:
    if fcntl is None:
        return
    descriptor = os.open(path, _EXISTING)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    finally:
        os.close(descriptor)


def _check(token: str) -> str:
    return sha256(f"padim {token}".encode()).hexdigest()[:8]
