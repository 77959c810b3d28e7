"""Several processes beside one: seconds, the largest difference of a metric, memory while learning.

python benchmarks/processes.py --data_path .../MVTec --weights FILE    one thread a process
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from common import ROOT, machine, markdown, measure

from padim.parallel.process_group import ProcessGroup

DRAWN = (1000, 56 * 56, 300)  # images, positions and channels, of which memory is measured
BATCH = 5
GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, help="MVTec AD, to run bottle of it")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--learn_only", action="store_true", help="as one of the processes")
    args = parser.parse_args()
    if args.learn_only:
        print(f" {learn()} ", end="")  # in one piece, for others print into the same pipe
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    print(machine())
    if args.data_path:
        print(f"\n{compare_runs(args)}")
    print(f"\n{compare_memory(args.processes)}")


def launch(size: int, script: Path, *argv: object) -> list[object]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={size}"]
    return [sys.executable, *(launcher if size > 1 else ()), script, *argv]


def compare_runs(args: argparse.Namespace) -> str:
    """Whole runs of bottle in turn, nothing decoded beside them: a row for each size."""
    seconds: dict[int, list[float]] = {size: [] for size in args.processes}
    whole: dict[int, list[float]] = {size: [] for size in args.processes}
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(args.rounds):
            for size in args.processes:
                given = ("--data_path", args.data_path, "--weights", args.weights)
                save = Path(scratch) / str(size)
                more = ("--classes=bottle", "--num_workers=0", "--overwrite", "--save_path", save)
                cost = measure(launch(size, ROOT / "main_resnet.py", *given, *more))
                whole[size].append(cost.seconds)
                with next(save.glob("*/results.csv")).open(newline="") as file:
                    rows[size] = next(csv.DictReader(file))
                seconds[size].append(float(rows[size]["seconds"]))
    first = args.processes[0]
    table = [
        (
            str(size),
            f"{statistics.median(seconds[size]):.1f}",
            f"{statistics.median(map(_ratio, seconds[first], seconds[size])):.2f}",
            f"{statistics.median(whole[size]):.1f}",
            f"{_difference(rows[first], rows[size]):.1e}",
        )
        for size in args.processes
    ]
    header = ("processes", "bottle, s", "speed-up", "whole command, s", "largest difference")
    return markdown(header, table)


def _ratio(one: float, other: float) -> float:
    return one / other


def _difference(one: dict[str, str], other: dict[str, str]) -> float:
    names = set(one) - {"class", "seconds"}
    return max(abs(float(one[name]) - float(other[name])) for name in names if one[name])


def compare_memory(sizes: list[int]) -> str:
    """What learning drawn embeddings takes in the largest process, beside the README's model."""
    _, positions, dim = DRAWN
    table = []
    for size in sizes:
        command = launch(size, Path(__file__), "--learn_only")
        output = subprocess.run(
            list(map(str, command)), check=True, capture_output=True, text=True
        ).stdout
        peak = max(map(float, output.split()))
        factors = 4 * positions * dim**2 / GB
        modelled = factors * (1 + (size > 1) / size) + (1 + (size > 1)) * 2**29 / GB / size
        table.append((str(size), f"{peak:.2f}", f"{modelled:.2f}"))
    return markdown(("processes", "peak of a process, GB", "modelled, GB"), table)


@torch.inference_mode()
def learn() -> float:
    """GB that this process took beside what it had before it learned anything."""
    n_images, positions, dim = DRAWN
    group = ProcessGroup.from_environment(torch.device("cpu"))
    learner = group.learner(n_images, positions, 0.01, True)
    n_here = len(range(n_images)[group.shard(n_images)])
    generator = torch.Generator().manual_seed(group.rank)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for first in range(0, n_here, BATCH):
        n_batch = min(BATCH, n_here - first)
        learner.update(torch.randn(n_batch, positions, dim, generator=generator))
    learner.finish()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    group.close()
    return (after - before) * (1 if sys.platform == "darwin" else 1024) / GB


if __name__ == "__main__":
    main()
