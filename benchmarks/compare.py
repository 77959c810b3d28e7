"""This program beside the reference algorithm, anomalib and the floor: time and memory.

python benchmarks/compare.py [--data_path .../MVTec --weights FILE] [--backbone wide_resnet50_2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from common import ROOT, Cost, draw_class, machine, markdown, measure
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SCRIPTS = {"resnet18": "main_resnet.py", "wide_resnet50_2": "main_wide_resnet.py"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, help="left out: images are drawn")
    parser.add_argument("--save_path", type=Path, default=Path("benchmark_result"))
    parser.add_argument("--weights", default="random")
    parser.add_argument("--backbone", choices=SCRIPTS, default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="of those in the table")
    parser.add_argument("--anomalib_python", type=Path, default=Path(sys.executable))
    args = parser.parse_args()
    folder = args.save_path
    folder.mkdir(parents=True, exist_ok=True)
    data = args.data_path or draw_class(folder / "drawn_images")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        commands = contenders(args, data, Path(scratch))
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for number in range(args.rounds):
            for name, command in commands.items():
                cost = measure(command)
                costs[name].append(cost)
                print(f"round {number + 1}  {name:22} {cost.seconds:7.1f} s", flush=True)
    source = "drawn images" if args.data_path is None else "the class bottle of MVTec AD"
    facts = f"{args.backbone}, {source}, {args.rounds} rounds; {machine()}"
    report(costs, facts, folder, f"compare_{args.backbone}")


def contenders(args: argparse.Namespace, data: Path, scratch: Path) -> dict[str, list]:
    """The commands, by name."""
    python, script = sys.executable, ROOT / SCRIPTS[args.backbone]
    given = ["--data_path", data]
    ours = [
        *(python, script, *given, "--weights", args.weights, "--classes", "bottle"),
        *("--overwrite", "--save_path", scratch / "ours"),
    ]
    network = [*given, "--backbone", args.backbone]
    commands = {
        "ours": ours,
        "ours, all channels": [*ours, "--reduction", "none"],
        "ours, bfloat16 network": [*ours, "--network_precision", "bfloat16"],
        "ours, images cached": [*ours, "--image_cache", scratch / "images"],
        "floor": [python, HERE / "floor.py", *network, "--weights", args.weights],
        "reference": [
            *(python, HERE / "reference.py", *network, "--weights", args.weights),
            *("--save_path", scratch / "reference"),
        ],
        "anomalib": [
            *(args.anomalib_python, HERE / "run_anomalib.py", *network),
            *("--save_path", scratch / "anomalib"),
        ],
    }
    wanted = args.only or list(commands)
    if "anomalib" in wanted and not has_anomalib(args.anomalib_python):
        print("anomalib is not installed: left out")
        wanted = [name for name in wanted if name != "anomalib"]
    return {name: commands[name] for name in wanted}


def has_anomalib(python: Path) -> bool:
    check = "import importlib.util, sys; sys.exit(importlib.util.find_spec('anomalib') is None)"
    return subprocess.run([python, "-c", check], check=False).returncode == 0


def report(costs: dict[str, list[Cost]], facts: str, folder: Path, name: str) -> None:
    """A table and a plot, and the raw numbers."""
    header = ("", "seconds", "of ours", "processor s", "peak MiB")
    rows = [(label, *row(values, costs.get("ours"))) for label, values in costs.items()]
    text = f"{facts}\n\n{markdown(header, rows)}\n"
    print(f"\n{text}")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    raw = {label: [asdict(cost) for cost in values] for label, values in costs.items()}
    (folder / f"{name}.json").write_text(json.dumps({"facts": facts, "runs": raw}, indent=1))
    figure = Figure(figsize=(10, 0.5 * len(costs) + 1.6), layout="constrained")
    figure.suptitle(facts, fontsize=8)
    for axes, field, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_mib"), ("seconds", "peak memory, MiB"), strict=True
    ):
        for place, values in enumerate(costs.values()):
            points = [getattr(cost, field) for cost in values]
            axes.barh(place, statistics.median(points), color="0.8")
            axes.plot(points, [place] * len(points), "k|")
        axes.set_yticks(range(len(costs)), costs)
        axes.invert_yaxis()
        axes.set_xlabel(label)
    figure.savefig(folder / f"{name}.png", dpi=110)


def row(values: list[Cost], ours: list[Cost] | None) -> list[str]:
    """Medians; the ratio is that of the same round, so that a slow minute does not count."""

    def median(field: str) -> float:
        return statistics.median(getattr(value, field) for value in values)

    ratio = "-"
    if ours:
        ratios = [a.seconds / b.seconds for a, b in zip(values, ours, strict=True)]
        ratio = f"{statistics.median(ratios):.2f}"
    return [
        f"{median('seconds'):.1f}",
        ratio,
        f"{median('cpu_seconds'):.1f}",
        f"{median('peak_mib'):.0f}",
    ]


if __name__ == "__main__":
    main()
