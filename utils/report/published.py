"""The published numbers.

``published_results.csv`` has one row for each number: table, system, backbone, class, metric,
value, and whether the value was confirmed in its source.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published_results.csv")
BY_CLASS = (
    "detection",
    "localization",
    "layers",
)  # the other tables hold means, or follow other protocols

Systems = Mapping[str, Mapping[str, "Published"]]  # system -> class or mean row -> value


@dataclass(frozen=True)
class Published:
    """A published value.

    Attributes:
        value: of the metric, 0 to 1 for all but costs.
        confirmed: whether the value was found in its source; if not, it was recalled.
    """

    value: float
    confirmed: bool


def published_results(run_name: str, metric: str, tables: Collection[str] = BY_CLASS) -> Systems:
    """What was published for a configuration and a metric.

    Args:
        run_name: such as ``resnet18_rd100``; an unknown name has no published numbers.
        metric: such as ``pixel_auroc``.
        tables: the tables of the file that are searched.
    """
    systems: dict[str, dict[str, Published]] = {}
    for row in _rows():
        is_asked = row["table"] in tables
        if is_asked and (row["backbone"], row["metric"]) == (run_name, metric):
            value = Published(float(row["value"]), row["confirmed"] == "yes")
            systems.setdefault(row["system"], {})[row["class"]] = value
    return systems


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
