"""Text and JSON files that are complete or absent, and the folder of ``--save_path``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from padim.storage.files import written_whole
from utils.errors import OptionError


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text completely or not at all. File names that are not valid text are escaped."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write JSON completely or not at all.

    Raises:
        ValueError: it holds NaN or infinity, which JSON lacks.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Make the folder of ``--save_path`` and check that files can be written to it.

    Raises:
        OptionError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # a name of its own: two runs may check at once
            pass
    except OSError as error:
        raise OptionError(
            f"--save_path {path} cannot be written to ({error.strerror}); give another folder"
        ) from error
