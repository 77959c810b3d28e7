"""The page of the reproduced tables: only what was asked for and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.report.cells import Cell, Heading, Table, TableRow
from utils.report.html import render
from utils.report.markdown import UNCONFIRMED, system_title
from utils.report.text import DASH
from utils.reproduction import plan
from utils.reproduction.numbers import Number, groups_of, metrics_of
from utils.reproduction.plots import PLOTTED
from utils.reproduction.report import (
    HEADINGS,
    METRICS,
    NOTES,
    Facts,
    cell_text,
    compared_text,
    numbers_by_table,
    row_title,
)
from utils.reproduction.results import Result
from utils.system.files import write_text


def write_page(folder: Path, results: Sequence[Result], facts: Facts) -> None:
    """Write ``index.html``.

    Args:
        folder: where to.
        results: all that was run.
        facts: what is said of them.
    """
    numbers = numbers_by_table(results, facts)
    page = render(
        "reproduce.html",
        title="The tables of PaDiM, reproduced",
        warnings=facts.warnings,
        command=facts.command,
        facts=facts.environment,
        unconfirmed=UNCONFIRMED.replace("`", ""),
        sections=[
            _section(table, numbers[table]) for table in plan.TABLES if table in facts.tables
        ],
    )
    write_text(folder / "index.html", page)


@dataclass(frozen=True)
class PageSection:
    """A table of the paper on the page: only what was run, beside what was published for it.

    Attributes:
        name: of the table.
        heading: its title.
        note: how it was made, and what was not run.
        plot: file name of its plot; None without one.
        tables: one for each metric.
    """

    name: str
    heading: str
    note: str
    plot: str | None
    tables: tuple[Table, ...]


def _section(table: str, numbers: Sequence[Number]) -> PageSection:
    shown = [one for one in numbers if one.value is not None]
    missing = [
        plan.title_of(one)
        for one in plan.columns(table)
        if one not in {number.configuration for number in shown}
    ]
    parts = [NOTES.get(table, "")]
    if not shown:
        parts.append("Not run.")
    elif missing:
        parts.append(f"Not run: {', '.join(missing)}.")
    tables = [
        _table(table, metric, [one for one in shown if one.metric == metric])
        for metric in metrics_of(table)
    ]
    return PageSection(
        table,
        HEADINGS[table],
        " ".join(filter(None, parts)),
        f"{table}.png" if table in PLOTTED and shown else None,
        tuple(one for one in tables if one.rows or one.means),
    )


def _table(table: str, metric: str, shown: Sequence[Number]) -> Table:
    """Classes and mean rows down, configurations across: what was run, and nothing else."""
    found = {(one.configuration, one.class_name): one for one in shown}
    columns = list(dict.fromkeys(one.configuration for one in shown))
    names = list(dict.fromkeys(one.class_name for one in shown))
    systems = {
        one: list(
            dict.fromkeys(system for n in shown if n.configuration == one for system in n.published)
        )
        for one in columns
    }
    headings = [Heading("class")]
    for one in columns:
        title = plan.title_of(one)
        headings += [Heading(title), *(Heading(system_title(s), title) for s in systems[one])]

    def row(name: str) -> TableRow:
        cells = []
        for one in columns:
            number = found.get((one, name))
            cells.append(Cell(DASH) if number is None else Cell(cell_text(number), number.value))
            cells += [_published_cell(number, system) for system in systems[one]]
        return TableRow(row_title(table, name), tuple(cells))

    groups = groups_of(table)
    return Table(
        f"{METRICS[metric]}: {HEADINGS[table]}",
        tuple(headings),
        tuple(row(name) for name in names if name not in groups),
        tuple(row(name) for name in names if name in groups),
    )


def _published_cell(number: Number | None, system: str) -> Cell:
    theirs = number and number.published.get(system, {}).get(number.class_name)
    if number is None or theirs is None:
        return Cell(DASH)
    return Cell(compared_text(number, system), theirs.value)
