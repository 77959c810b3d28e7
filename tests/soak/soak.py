"""The long tests, by ``make soak``: runs killed at random moments, hundreds of hostile data sets.

A run is killed again and again until one comes to its end; what it leaves then is compared with an
undisturbed run's: every score and every number to the last digit, and no half-written file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import draw_class
from scripts import heed_interrupts, tables

ROOT = Path(__file__).parents[2]
OPTIONS = ["--weights=random", "--resize=64", "--crop=56", "--embedding_dim=12", "--num_workers=1"]
MOST_KILLS = 5  # of one run, before it is left to its end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--mutations", type=int, default=500, help="of every kind of file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        survived = survive(Path(scratch), args.kills, random.Random(args.seed))
    print(f"killed {survived[0]} times in {survived[1]} runs: all the same as undisturbed ones")
    os.environ |= {"HOSTILE_TREES": str(args.trees), "SOAK": "1"}
    os.environ |= dict.fromkeys(("MUTATIONS", "IMAGE_FILES"), str(args.mutations))
    status = pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests")])
    print(f"all tests, with {args.trees} hostile data sets and up to 5 processes: exit {status}")
    return int(status)


def survive(scratch: Path, n_kills: int, draw: random.Random) -> tuple[int, int]:
    """Kill runs until there were enough; returns how many kills and how many runs."""
    data = scratch / "data"
    for name in ("carpet", "mine", "tiles"):
        draw_class(data, name)
    # The faster of two: with the time of a slow one most runs would end before they are killed.
    seconds = min(undisturbed(data, scratch / name) for name in ("first", "undisturbed"))
    expected = outputs(scratch / "undisturbed")
    kills = runs = 0
    while kills < n_kills:
        save = scratch / f"run{runs}"
        for _ in range(MOST_KILLS):
            sent = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            send = draw.choice([os.kill, os.killpg])  # to the run alone, or to its workers too
            if not was_killed(command(data, save), draw.uniform(0.02, 1.1) * seconds, sent, send):
                break
            kills += 1
        done = subprocess.run(command(data, save), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert outputs(save) == expected, f"run {runs} came to something else"
        left = [path.name for path in save.rglob(".partial*")]
        assert not left, left
        shutil.rmtree(save)
        runs += 1
    return kills, runs


def undisturbed(data: Path, save: Path) -> float:
    """Seconds that a whole run takes."""
    start = time.monotonic()
    subprocess.run(command(data, save), check=True, capture_output=True)
    return time.monotonic() - start


def was_killed(
    command: list[str], after: float, sent: signal.Signals, send: Callable[[int, int], None]
) -> bool:
    """Whether a run was still going after so many seconds, and ended then as it should."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        process.communicate(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        send(process.pid, sent)
        _, said = process.communicate()
    lines = [line for line in said.splitlines() if not line.startswith("!!!")]
    if sent != signal.SIGKILL and process.returncode not in (0, -sent):  # 0: it was done; -sent:
        # Python itself was not up yet.
        assert process.returncode == 128 + sent, (process.returncode, said)
        assert len(lines) == 1 and lines[0].startswith("stopped"), said
    return True


def command(data: Path, save: Path) -> list[str]:
    script = [sys.executable, str(ROOT / "main_resnet.py")]
    return [*script, f"--data_path={data}", f"--save_path={save}", *OPTIONS]


def outputs(save: Path) -> dict[str, object]:
    """All files, the tables without their seconds, scores and figures to the last byte."""
    (folder,) = save.glob("resnet18*")
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_compared = name.startswith(("scores", "figures")) and path.is_file()
        found[name] = path.read_bytes() if is_compared else None
    found["results.csv"] = tables(folder)
    return found


if __name__ == "__main__":
    sys.exit(main())
