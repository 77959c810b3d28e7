"""The table of results in the documentation, read from the result files of runs.

python benchmarks/results.py --runs RUN [RUN ...]

RUN is the folder of a run or of the means over seeds, such as result/resnet18_rd100. Prints, class
by class, image AUROC, pixel AUROC and PRO with their 95 % intervals over the test images, and the
standard deviation over seeds, beside the paper's numbers.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import markdown

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from utils.report.published import published_results

METRICS = ("image_auroc", "pixel_auroc", "pro")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", nargs="+", type=Path, required=True)
    args = parser.parse_args()
    found = [(run.name, row) for run in args.runs for row in rows(run)]
    order = TEXTURES + OBJECTS
    found.sort(key=lambda pair: order.index(pair[1]["class"]))
    lines = [
        (row["class"], name, *(number(row, metric, name) for metric in METRICS))
        for name, row in found
    ]
    print(markdown(("class", "run", *METRICS), lines))
    return 0


def rows(run: Path) -> list[dict[str, str]]:
    """The rows of single classes."""
    with (run / "results.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["class"] in TEXTURES + OBJECTS]


def number(row: dict[str, str], metric: str, name: str) -> str:
    """``0.980 ± 0.002 [0.975, 0.984]; paper 0.981``, as far as it is known."""
    value, low, high = (float(row[f"{metric}{end}"]) for end in ("", "_low", "_high"))
    deviation = row.get(f"{metric}_sd")
    text = f"{value:.3f}"
    if deviation:
        text += f" ± {float(deviation):.3f}"
    text += f" [{low:.3f}, {high:.3f}]"
    papers = published_results(name.partition("_seed")[0], metric).get("paper", {})
    theirs = papers.get(row["class"])
    if theirs is None:
        return text
    return f"{text}; paper {theirs.value:.3f}{'' if theirs.confirmed else ' ?'}"


if __name__ == "__main__":
    sys.exit(main())
