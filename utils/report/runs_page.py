"""The page of all runs in a folder, side by side, class by class."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.evaluation.metric_names import METRICS
from utils.report.cells import Cell, Heading, Table, TableRow, best_of, metric_heading
from utils.report.html import render, shown
from utils.report.text import format_number
from utils.system.files import write_text

RowKey = tuple[bool, str]  # whether it is a mean row, and its label
MARK = "PaDiM, runs side by side"  # by which a page of this program is known
LOWER_IS_BETTER = ("false_alarms",)
# They follow from other settings, or are the same on one data set.
UNCOMPARED = ("channels", "channel_ids_checksum", "dataset", "rd_version")


@dataclass(frozen=True)
class RunSummary:
    """What ``results.json`` of a run says.

    Attributes:
        folder: its name.
        data: what it was run on.
        date: when it began.
        warnings: to be read before its numbers.
        settings: what decides its numbers.
        rows: the numbers of every row, by whether it is a mean, and its label.
    """

    folder: str
    data: str
    date: str
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    rows: Mapping[RowKey, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> RunSummary:
        """The summary of a folder.

        Raises:
            OSError: it cannot be read.
            ValueError, KeyError, TypeError, AttributeError, RecursionError: it is of no run.
        """
        content = json.loads(_read(folder / "results.json"))
        settings = content["settings"]
        version = "" if settings["rd_version"] is None else f", version {settings['rd_version']}"
        place = content["options"]["data_path"]
        data = "the demo set" if place in (None, "None") else str(place)
        return cls(
            folder.name,
            f"{settings['dataset']}{version}: {data}",
            str(content["program"]["date"]),
            tuple(str(warning).partition(":")[0] for warning in content["warnings"]),
            dict(settings),
            {(bool(row["mean"]), str(row["label"])): dict(row) for row in content["results"]},
        )

    def value(self, key: RowKey, metric: str) -> float | None:
        """A number of a row; None if there is none."""
        value = self.rows.get(key, {}).get(metric)
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        return value if is_number else None


@dataclass(frozen=True)
class DataSection:
    """The runs on one data set: a table for each metric, and what differs between them."""

    data: str
    runs: tuple[RunSummary, ...]
    tables: Mapping[str, Table]
    differences: Mapping[str, tuple[str, ...]]


def write_runs_page(folder: Path) -> bool:
    """Write ``index.html`` for all runs in a folder.

    Returns:
        Whether it was written: a page that something else has made is left alone.
    """
    path = folder / "index.html"
    if not _may_be_replaced(path):
        return False
    by_data: dict[str, list[RunSummary]] = {}
    for run in _find_runs(folder):
        by_data.setdefault(run.data, []).append(run)
    page = render(
        "runs.html",
        mark=MARK,
        title="PaDiM runs",
        warnings=(),
        metrics={name: metric_heading(name).label for name in METRICS},
        n_runs=sum(map(len, by_data.values())),
        sections=[_section(data, runs) for data, runs in by_data.items()],
        seeds=sorted(path.parent.name for path in folder.glob("*_seeds_*/index.html")),
    )
    write_text(path, page)
    return True


def _may_be_replaced(path: Path) -> bool:
    """Whether there is nothing at a path, or a page of runs."""
    try:
        if path.is_symlink():
            return False
        return MARK in _read(path, 2000)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _read(path: Path, n_bytes: int = -1) -> str:
    """The text of a file, or its start. Nothing else is opened: a pipe would be waited on."""
    if path.exists() and not path.is_file():
        raise IsADirectoryError(f"{path} is no file")
    with path.open("rb") as file:
        return file.read(n_bytes).decode("utf-8", "replace")


def _find_runs(folder: Path) -> Iterator[RunSummary]:
    for path in sorted(folder.glob("*/results.json")):
        try:
            yield RunSummary.read(path.parent)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # of something else, or of another version


def _section(data: str, runs: Sequence[RunSummary]) -> DataSection:
    keys = list(dict.fromkeys(key for run in runs for key in run.rows))
    return DataSection(
        data,
        tuple(runs),
        {name: _table(name, data, runs, keys) for name in METRICS},
        _differences(runs),
    )


def _table(name: str, data: str, runs: Sequence[RunSummary], keys: Sequence[RowKey]) -> Table:
    return Table(
        f"{metric_heading(name).label} on {data}",
        (Heading("class"), *(Heading(run.folder) for run in runs)),
        tuple(_row(name, key, runs) for key in keys if not key[0]),
        tuple(_row(name, key, runs) for key in keys if key[0]),
    )


def _row(name: str, key: RowKey, runs: Sequence[RunSummary]) -> TableRow:
    values = [run.value(key, name) for run in runs]
    best = best_of(values, name in LOWER_IS_BETTER)
    return TableRow(
        key[1],
        tuple(
            Cell(format_number(name, value), value, is_best)
            for value, is_best in zip(values, best, strict=True)
        ),
    )


def _differences(runs: Sequence[RunSummary]) -> dict[str, tuple[str, ...]]:
    """The settings that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in UNCOMPARED)
    values = {name: tuple(shown(run.settings.get(name)) for run in runs) for name in names}
    return {name: texts for name, texts in values.items() if len(set(texts)) > 1}
