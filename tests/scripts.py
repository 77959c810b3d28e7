"""The entry scripts in a process of their own."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = ["--resize=64", "--crop=56", "--num_workers=1"]


def heed_interrupts() -> None:
    """In a child: a shell in the background has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(script: str, *argv: object, **options) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, text=True, **pipes, **({"preexec_fn": heed_interrupts} | options)
    )


def run(script: str, *argv: object, **options) -> tuple[int, str, str]:
    process = start(script, *argv, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def tables(folder: Path) -> list[list[str]]:
    """results.csv without the seconds, and every score."""
    with (folder / "results.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    seconds = head.index("seconds")
    numbers = [row[:seconds] + row[seconds + 1 :] for row in (head, *lines)]
    return numbers + [[path.read_text()] for path in sorted(folder.glob("scores/*.csv"))]
