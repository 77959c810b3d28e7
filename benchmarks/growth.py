"""How fit and scoring grow with images N and channels d, on drawn embeddings of a 56 x 56 grid.

python benchmarks/growth.py        each row in a process of its own, to see its peak memory
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from common import machine, markdown
from matplotlib.figure import Figure

from padim.fitting import GaussianLearner

POSITIONS, BATCH = 56 * 56, 16
STREAMED = [(n, 100) for n in (1000, 2000, 5000, 10_000, 20_000)]
BY_IMAGES = [(n, 100) for n in (25, 50, 100, 200, 400)]
BY_CHANNELS = [(209, d) for d in (50, 100, 200, 344, 550, 1000, 1792)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save_path", type=Path, default=Path("benchmark_result"))
    parser.add_argument("--one", nargs=2, type=int, metavar=("N", "d"), help="only this one")
    args = parser.parse_args()
    if args.one:
        print(*measure(*args.one))
        return
    series = {
        "N above d: memory does not grow": STREAMED,
        "N": BY_IMAGES,
        "d, N = 209": BY_CHANNELS,
    }
    found = {name: [in_own_process(n, d) for n, d in cases] for name, cases in series.items()}
    header = ("N", "d", "fit, s", "score of one image, ms", "fit memory, MB")
    rows = [
        (str(n), str(d), f"{fit:.2f}", f"{1000 * score:.2f}", f"{memory:.0f}")
        for cases, numbers in zip(series.values(), found.values(), strict=True)
        for (n, d), (fit, score, memory) in zip(cases, numbers, strict=True)
    ]
    text = f"{machine()}\n\n{markdown(header, rows)}\n"
    print(text)
    args.save_path.mkdir(parents=True, exist_ok=True)
    (args.save_path / "growth.md").write_text(text, encoding="utf-8")
    draw(series, found, args.save_path / "growth.png")


def in_own_process(n: int, d: int) -> tuple[float, ...]:
    command = [sys.executable, __file__, "--one", str(n), str(d)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"N = {n}, d = {d}: {output.strip()}", file=sys.stderr)
    return tuple(map(float, output.split()))


@torch.inference_mode()
def measure(n: int, d: int) -> tuple[float, float, float]:
    """Seconds of the fit, seconds a scored image, and MB that both took beside the batches."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(BATCH, POSITIONS, d, generator=generator)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    learner, start = GaussianLearner(n), time.perf_counter()
    for first in range(0, n, BATCH):
        # Another mixture each time, at next to no cost, so that rows are not the same again.
        batch = (
            pool[: n - first] * (1 + 0.01 * (first % 97)) + 0.1 * pool.roll(first, 0)[: n - first]
        )
        learner.update(batch)
    gaussian = learner.finish()
    fit = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(3):
        gaussian(pool)
    score = (time.perf_counter() - start) / (3 * BATCH)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return fit, score, (after - before) / 1024


def draw(series: dict, found: dict, path: Path) -> None:
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    for column, (name, cases) in enumerate(series.items()):
        index = 1 if name.startswith("d") else 0
        x = [case[index] for case in cases]
        for line, (field, label) in enumerate(((0, "fit, s"), (2, "fit memory, MB"))):
            axes = grid[line, column]
            axes.plot(x, [numbers[field] for numbers in found[name]], "o-")
            axes.set(xlabel="d" if index else "N", ylabel=label, title=name, ylim=(0, None))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
