"""Runs that differ in the seed alone, as one table of means and standard deviations."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.report.markdown import markdown_table
from utils.report.tables import METRICS, Row, cell, comparison, label
from utils.system.files import write_text


def write_seed_tables(
    folder: Path,
    title: str,
    run_name: str,
    rows_by_seed: Mapping[int, Sequence[Row]],
    warnings: Sequence[str],
    obstacle: str | None,
) -> str:
    """``results.csv`` and ``results.md`` of several seeds.

    Args:
        folder: where to.
        title: of the table.
        run_name: the key of the published numbers.
        rows_by_seed: the rows of every seed's run, the same classes in each.
        warnings: to be read before any number.
        obstacle: why the numbers may not be set beside published ones; None where they may.

    Returns:
        The table of means and deviations, as Markdown.
    """
    rows = [_over_seeds(same) for same in zip(*rows_by_seed.values(), strict=True)]
    write_text(folder / "results.csv", _csv(rows))
    seeds = ", ".join(map(str, rows_by_seed))
    table = markdown_table(
        ("class", *METRICS), [(label(row), *(_cell(row, name) for name in METRICS)) for row in rows]
    )
    parts = [f"# {title}", *(f"**{warning}**" for warning in warnings)]
    parts.append(f"Mean \u00b1 standard deviation over the seeds {seeds}.")
    parts.append(table)
    if obstacle is None:
        parts += comparison(run_name, rows)
    else:
        parts.append(f"Not set beside the published numbers: {obstacle}.")
    write_text(folder / "results.md", "\n\n".join(parts) + "\n")
    return table


def _over_seeds(same: Sequence[Row]) -> Row:
    """One row of several: means, and deviations under the metric's name and ``_sd``."""
    row = {name: same[0][name] for name in ("class", "mean", "label")}
    for name in METRICS:
        values = [one[name] for one in same if one[name] is not None]
        row[name] = statistics.fmean(values) if values else None
        row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return row


def _cell(row: Row, name: str) -> str:
    deviation = row[f"{name}_sd"]
    return cell(name, row[name]) + ("" if deviation is None else f" \u00b1 {deviation:.4f}")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    columns = ("class", *(column for name in METRICS for column in (name, f"{name}_sd")))
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
