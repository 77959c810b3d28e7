"""Files that are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import OptionError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well and is gone when not."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; names that are no valid text are escaped."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all.

    Raises:
        ValueError: a NaN or an infinity is in it, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Make the folder of ``--save_path``, and see that it takes files.

    Raises:
        OptionError: it does not.
    """
    probe = path / ".writable"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OptionError(
            f"--save_path {path} cannot be written to ({error.strerror}); give another folder"
        ) from error
