"""What the benchmarks share: drawn images of MVTec's size, whole processes measured, tables."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SIDE = 900  # pixels, as most of MVTec AD's objects
N_TRAIN, N_GOOD, N_DEFECTIVE = 209, 20, 63  # as its class bottle


@dataclass(frozen=True)
class Cost:
    """Of a whole process, its children included.

    Attributes:
        seconds: from start to end.
        cpu_seconds: on all cores together.
        peak_mib: largest resident set of one process.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(command: Sequence[str | Path]) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; its last lines are shown.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = "\n".join(errors.splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{lines}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 2**20)


def draw_class(root: Path, n_train: int = N_TRAIN, side: int = SIDE) -> Path:
    """A class ``bottle`` of MVTec's size in its layout, once; returns ``root``.

    Smooth shapes with sensor noise, so that the files take about as long to decode as photographs.
    """
    folder = root / "bottle"
    if (root / "drawn").exists():
        return root
    for part in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    radius = np.hypot(x, y)
    base = 140 + 80 * np.cos(22 * radius)[..., None] * np.array([1.0, 0.8, 0.5])
    base[radius > 0.45] = 245

    def draw(path: Path, spot: np.ndarray | None = None) -> None:
        pixels = base * rng.uniform(0.95, 1.05) + rng.normal(0, 1.5, (side, side, 1))
        if spot is not None:
            pixels[spot] = 30
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for i in range(n_train):
        draw(folder / "train/good" / f"{i:03d}.png")
    for i in range(N_GOOD):
        draw(folder / "test/good" / f"{i:03d}.png")
    for i in range(N_DEFECTIVE):
        centre = rng.uniform(-0.25, 0.25, 2)
        spot = np.hypot(x - centre[0], y - centre[1]) < rng.uniform(0.02, 0.08)
        draw(folder / "test/spot" / f"{i:03d}.png", spot)
        mask = Image.fromarray(spot.astype(np.uint8) * 255)
        mask.save(folder / "ground_truth/spot" / f"{i:03d}_mask.png")
    (root / "drawn").touch()
    return root


def machine() -> str:
    """A line on what the numbers were measured on."""
    import torch

    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        names = [line for line in cpu_info.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores of {model}, {device}, {platform.system()}, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left."""
    ruler = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *rows))
