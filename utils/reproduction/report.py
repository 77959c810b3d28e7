"""``tables.md``, ``tables.csv`` and the plots, from what was run."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from utils.evaluation.metric_names import PRO_LIMIT
from utils.experiment.configuration import Configuration
from utils.report.markdown import (
    UNCONFIRMED,
    checksums_line,
    markdown_table,
    markdown_text,
    system_title,
    with_difference,
)
from utils.report.published import Published
from utils.report.text import DASH
from utils.reproduction import plan
from utils.reproduction.numbers import (
    Number,
    classes_of,
    groups_of,
    metrics_of,
    numbers_of,
)
from utils.reproduction.plots import PLOTTED, draw_plot
from utils.reproduction.results import Result
from utils.system.files import write_text

HEADINGS = {
    "layers": "Inter-layer correlation: layers alone, the sum of their maps, all jointly",
    "reduction": "Dimension reduction: random channels and principal components",
    "localization": "Anomaly localisation on MVTec AD",
    "detection": "Anomaly detection on MVTec AD, at image level",
    "rd_mvtec": "Rd-MVTec AD: images rotated and cropped at random",
    "stc": "ShanghaiTech Campus",
    "cost": "Cost of scoring",
    "beyond": "Beyond the paper: all channels, and semi-orthogonal projections",
}
METRICS = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "pro": f"PRO, to a false positive rate of {PRO_LIMIT:g}",
    "seconds_per_image": "Seconds an image",
    "memory_gb": "Memory of the Gaussians, GB",
}
NOTES = {
    "layers": "All channels of each layer. The joint embedding is the one of all channels.",
    "cost": "Median time from the crop of one image to its map, network included, on the device "
    "named above; the paper's on a Core i7-4710HQ. Memory is that of means and factors in float32.",
    "rd_mvtec": "Means over random versions of the data set, seed 0.",
    "beyond": "The reduced configurations are means over draws.",
}
CSV_COLUMNS = (
    *("table", "configuration", "class", "metric", "value", "standard_error", "draws"),
    *("draws_wanted", "classes_run", "classes", "system", "published", "confirmed", "difference"),
)


@dataclass(frozen=True)
class Facts:
    """What the tables say of the runs.

    Attributes:
        tables: those asked for.
        command: the command line that makes them again.
        draws: of channels, that means are over.
        warnings: to be read before any number; with any there is no comparison.
        environment: versions and device.
    """

    tables: Sequence[str]
    command: str
    draws: int
    warnings: Sequence[str]
    environment: Mapping[str, str]


def write_report(folder: Path, results: Sequence[Result], facts: Facts) -> None:
    """Write the tables and plots: those asked for; ``tables.csv`` has all that was run.

    Args:
        folder: where to.
        results: all that was run.
        facts: what is said of them.
    """
    numbers = numbers_by_table(results, facts)
    write_text(folder / "tables.csv", _csv(numbers))
    parts = ["# The tables of PaDiM (arXiv 2011.08785), reproduced", *_preface(facts)]
    checksums = {f"{one.dataset}/{one.class_name}": one.image_checksum for one in results}
    if checksums:
        parts.append(checksums_line(checksums))
    parts += dict.fromkeys(
        f"- {markdown_text(one.class_name)}: {one.differing}" for one in results if one.differing
    )
    asked = [table for table in plan.TABLES if table in facts.tables]
    for table in asked:
        parts += _section(table, numbers[table], classes_of(table, results))
    write_text(folder / "tables.md", "\n\n".join(parts) + "\n")
    for table in asked:
        run = {one.configuration for one in numbers[table] if one.value is not None}
        if table in PLOTTED and run:
            of_run = [one for one in numbers[table] if one.configuration in run]
            draw_plot(of_run, HEADINGS[table], METRICS, folder / f"{table}.png")


def numbers_by_table(results: Sequence[Result], facts: Facts) -> dict[str, Sequence[Number]]:
    """The numbers of every table; without the published ones if there is no comparison."""
    numbers = {table: numbers_of(table, results, facts.draws) for table in plan.TABLES}
    if not facts.warnings:
        return dict(numbers)
    return {
        table: [replace(one, published={}) for one in of_table]
        for table, of_table in numbers.items()
    }


def _preface(facts: Facts) -> list[str]:
    ran_on = ", ".join(f"{name} {value}" for name, value in facts.environment.items())
    legend = (
        f"Made by `reproduce.py`; what was run last ran on: {ran_on}. {DASH} marks what was "
        "not run. A mean row is there only where all its classes were run, never over others than "
        "the paper's. Behind each published number, in brackets: ours minus theirs. "
        f"{UNCONFIRMED} \u00b1 is the standard error over draws of channels, or over random "
        "versions of the data set."
    )
    warned = [f"**{warning}** There is no comparison." for warning in facts.warnings]
    return [*warned, legend]


def _section(table: str, numbers: Sequence[Number], classes: Sequence[str]) -> Iterator[str]:
    yield f"## {HEADINGS[table]}"
    run = {one.class_name for one in numbers if one.value is not None}
    yield " ".join((_what_was_run(table, classes, run), NOTES.get(table, ""))).strip()
    for metric in metrics_of(table):
        of_metric = [one for one in numbers if one.metric == metric]
        published = {name for one in of_metric for v in one.published.values() for name in v}
        shown = [name for name in classes if name in run | published]
        yield f"### {METRICS[metric]}"
        yield _table(table, of_metric, shown)


def _what_was_run(table: str, classes: Sequence[str], run: Collection[str]) -> str:
    there = [markdown_text(name) for name in classes if name in run]
    missing = [name for name in groups_of(table)["all"] if name not in run]
    if not there:
        return "**Not run.**"
    said = f"Run: {', '.join(there)}."
    return f"{said} **Not run:** {', '.join(missing)}." if missing else said


def _table(table: str, numbers: Sequence[Number], classes: Sequence[str]) -> str:
    """Classes and mean rows down, configurations across, each with what was published for it.

    What was published for means alone goes to the end, a row a mean.
    """
    found = {(one.configuration, one.class_name): one for one in numbers}
    groups = groups_of(table)
    header = ["class"]
    columns: list[tuple[Configuration, str | None]] = []  # a system's, or with None our own
    at_the_end: dict[tuple[str, str], None] = {}  # systems and means, in order
    for one in plan.columns(table):
        systems: dict[str, set[str]] = {}
        for number in numbers:
            if number.configuration == one:
                for system in number.published:
                    systems.setdefault(system, set()).add(number.class_name)
        by_class = [system for system, names in systems.items() if names.difference(groups)]
        header += [plan.title_of(one), *map(system_title, by_class)]
        columns += [(one, None), *((one, system) for system in by_class)]
        for system, names in systems.items():
            if system not in by_class:
                at_the_end |= {(system, name): None for name in groups if name in names}
    lines = [
        [_row_name(table, name), *(cell_text(found[one, name], system) for one, system in columns)]
        for name in (*classes, *groups)
    ]
    for system, name in at_the_end:
        shown = (
            compared_text(found[one, name], system) if column is None else DASH
            for one, column in columns
        )
        lines.append([f"{system_title(system)}, {_row_name(table, name)}", *shown])
    return markdown_table(header, lines)


def _row_name(table: str, name: str) -> str:
    return markdown_text(row_title(table, name))


def row_title(table: str, name: str) -> str:
    """What a row is called: its class, or the classes that it is the mean of."""
    groups = groups_of(table)
    if name not in groups:
        return name
    what = {"all": "scenes" if table == "stc" else "classes"}.get(name, name)
    return f"mean of {len(groups[name])} {what}"


def cell_text(number: Number, system: str | None = None) -> str:
    """A number with its error, or what a system has published for it."""
    if system is not None:
        return compared_text(number, system)
    if number.value is None:
        n_run = number.n_classes if number.class_name in groups_of(number.table) else 0
        return f"{DASH} ({n_run} run)" if n_run else DASH
    error = "" if number.error is None else f" \u00b1 {number.error:.{_digits(number) + 1}f}"
    is_partial = number.n_values < number.n_wanted
    of = f" ({number.n_values} of {number.n_wanted})" if is_partial else ""
    return f"{number.value:.{_digits(number)}f}{error}{of}"


def compared_text(number: Number, system: str) -> str:
    """What a system has for the same, with the difference."""
    theirs: Published | None = number.published.get(system, {}).get(number.class_name)
    return with_difference(number.metric, number.value, theirs)


def _digits(number: Number) -> int:
    return 4 if number.metric == "seconds_per_image" else 3


def _csv(numbers: Mapping[str, Sequence[Number]]) -> str:
    """A row for every number and system that has published it, or for the number alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table, of_table in numbers.items():
        for one in of_table:
            groups = groups_of(table)
            n_classes = len(groups.get(one.class_name, [one.class_name]))
            ours = (
                *(table, one.configuration.name, one.class_name, one.metric, one.value, one.error),
                *(one.n_values, one.n_wanted, one.n_classes, n_classes),
            )
            for system, values in (one.published or {"": {}}).items():
                theirs: Published | None = values.get(one.class_name)
                writer.writerow((*ours, system, *_compared(one.value, theirs)))
    return text.getvalue()


def _compared(ours: float | None, theirs: Published | None) -> tuple:
    if theirs is None:
        return None, None, None
    difference = None if ours is None else ours - theirs.value
    return theirs.value, "yes" if theirs.confirmed else "no", difference
