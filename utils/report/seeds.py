"""Runs that differ in the seed alone, as one table of means and standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from utils.evaluation.metric_names import DEFAULT_METRICS, METRICS
from utils.report.cells import Cell, Heading, Table, TableRow, metric_heading
from utils.report.comparison import compare
from utils.report.html import render
from utils.report.key_numbers import TITLES, KeyNumber, metric_tiles
from utils.report.markdown import markdown_table, markdown_text
from utils.report.rows import Row, mean_draws
from utils.report.text import csv_text, format_number
from utils.system.files import write_text


@dataclass(frozen=True)
class SeedRow:
    """One row over several seeds.

    Attributes:
        mean: the row with the mean of every metric.
        deviations: sample standard deviation of every metric; None with fewer than two values.
    """

    mean: Row
    deviations: Mapping[str, float | None]

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> SeedRow:
        """The mean and the deviation of the same row of every seed."""
        means, deviations = dict.fromkeys(METRICS), dict.fromkeys(METRICS)
        for name in METRICS:
            values = [value for row in rows if (value := row.metrics[name]) is not None]
            means[name] = statistics.fmean(values) if values else None
            deviations[name] = statistics.stdev(values) if len(values) > 1 else None
        return cls(replace(rows[0], metrics=means, draws=mean_draws(rows)), deviations)


def write_seed_tables(
    folder: Path,
    title: str,
    run_name: str,
    rows_by_seed: Mapping[int, Sequence[Row]],
    warnings: Sequence[str],
    reason_not_comparable: str | None,
    command: str,
    folders: Mapping[int, str],
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """``results.csv``, ``results.md`` and ``index.html`` of several seeds.

    Args:
        folder: that is written to.
        title: of the table.
        run_name: the key of the published numbers.
        rows_by_seed: the rows of every seed's run, the same classes in each.
        warnings: to be read before any number.
        reason_not_comparable: why the numbers must not be compared with published ones; None if
            they may.
        command: the command line that makes the runs again.
        folders: the folder of every seed's run, beside ``folder``.
        metrics: the columns of the tables; ``results.csv`` has all.

    Returns:
        The table of means and deviations, as Markdown.
    """
    rows = [SeedRow.of_rows(same) for same in zip(*rows_by_seed.values(), strict=True)]
    write_text(folder / "results.csv", _csv(rows))
    table = _markdown_table(rows, metrics)
    parts = [
        f"# {title}",
        *(f"**{warning}**" for warning in warnings),
        f"Mean \u00b1 standard deviation over the seeds {', '.join(map(str, rows_by_seed))}.",
        table,
        *compare(run_name, [row.mean for row in rows], reason_not_comparable),
    ]
    write_text(folder / "results.md", "\n\n".join(parts) + "\n")
    page = render(
        "seeds.html",
        title=title,
        warnings=warnings,
        command=command,
        reason_not_comparable=reason_not_comparable,
        tiles=_tiles(rows, run_name, reason_not_comparable),
        table=_mean_table(rows, metrics),
        tables=[_seed_table(name, rows_by_seed) for name in TITLES],
        folders=folders,
    )
    write_text(folder / "index.html", page)
    return table


def _markdown_table(rows: Sequence[SeedRow], metrics: Sequence[str]) -> str:
    lines = [
        (markdown_text(row.mean.label), *(_cell(row, name) for name in metrics)) for row in rows
    ]
    return markdown_table(("class", *metrics), lines)


def _tiles(rows: Sequence[SeedRow], run_name: str, reason: str | None) -> list[KeyNumber]:
    by_name = {(row.mean.name, row.mean.is_mean): row for row in rows}
    means = [row.mean for row in rows]
    tiles = metric_tiles(
        means, run_name, reason, lambda row, name: _cell(by_name[row.name, row.is_mean], name)
    )
    return [_with_deviation_below(tile) for tile in tiles]


def _with_deviation_below(tile: KeyNumber) -> KeyNumber:
    mean, sign, deviation = tile.text.partition(" \u00b1 ")
    below = (f"\u00b1 {deviation} from seed to seed",) if sign else ()
    return replace(tile, text=mean, lines=(*below, *tile.lines))


def _mean_table(rows: Sequence[SeedRow], metrics: Sequence[str]) -> Table:
    """Classes down, metrics across: mean and deviation."""
    shown = [
        TableRow(
            row.mean.label,
            tuple(_page_cell(row, name) for name in metrics),
        )
        for row in rows
    ]
    headings = (Heading("class"), *map(metric_heading, metrics))
    return _table("Means over the seeds", headings, shown, [row.mean for row in rows])


def _seed_table(name: str, rows_by_seed: Mapping[int, Sequence[Row]]) -> Table:
    """Classes down, seeds across: one metric."""
    shown = [
        TableRow(
            same[0].label,
            tuple(Cell(format_number(name, row.metrics[name]), row.metrics[name]) for row in same),
        )
        for same in zip(*rows_by_seed.values(), strict=True)
    ]
    headings = (Heading("class"), *(Heading(f"seed\u00a0{seed}") for seed in rows_by_seed))
    return _table(TITLES[name], headings, shown, next(iter(rows_by_seed.values())))


def _table(
    name: str, headings: tuple[Heading, ...], shown: Sequence[TableRow], rows: Sequence[Row]
) -> Table:
    """A table whose mean rows, which come last, are its foot."""
    n_classes = sum(not row.is_mean for row in rows)
    return Table(name, headings, tuple(shown[:n_classes]), tuple(shown[n_classes:]))


def _cell(row: SeedRow, name: str) -> str:
    mean, deviation = format_number(name, row.mean.metrics[name]), row.deviations[name]
    # One digit more than the mean has: deviations are small.
    return mean if deviation is None else f"{mean} \u00b1 {deviation:.4f}"


def _page_cell(row: SeedRow, name: str) -> Cell:
    text, _, deviation = _cell(row, name).partition(" \u00b1 ")
    return Cell(text, row.mean.metrics[name], note=f"\u00b1 {deviation}" if deviation else "")


def _csv(rows: Sequence[SeedRow]) -> str:
    columns = (
        "class",
        *(column for name in METRICS for column in (name, f"{name}_sd")),
        *(f"{name}_{end}" for name in METRICS for end in ("low", "high")),
        "image_checksum",
    )
    values = (
        {
            **row.mean.to_json(),
            **{f"{name}_sd": value for name, value in row.deviations.items()},
        }
        for row in rows
    )
    return csv_text(columns, values)
