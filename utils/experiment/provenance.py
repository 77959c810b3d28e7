"""The program, time and command that made the results."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import padim

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Provenance:
    """Which program made the results.

    Attributes:
        padim: version of the library.
        commit: of the program; None if it does not come from a git repository.
        date: when the run began, in UTC.
        command: the command line.
    """

    padim: str
    commit: str | None
    date: str
    command: str

    @classmethod
    def of_this_run(cls) -> Provenance:
        """The provenance of the running process."""
        return cls(
            getattr(padim, "__version__", "unknown"),
            _commit(),
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            shlex.join(sys.argv),
        )


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # installed, or unpacked inside another project's repository
        return None
    command = ("git", "-C", str(ROOT), "rev-parse", "HEAD")
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
