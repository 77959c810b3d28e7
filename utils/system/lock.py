"""A folder that one process writes into at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import OptionError

try:
    import fcntl
except ImportError:  # not a Unix: there two runs have to be kept apart by hand
    fcntl = None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; however the process ends, it is free again.

    Raises:
        OptionError: another process holds it.
    """
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise OptionError(
                    f"{folder} is being written by {holder}; wait until it ends, "
                    "or give another --save_path"
                ) from None
            except OSError:  # a file system without locks
                pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
