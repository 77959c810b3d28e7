"""The page of a run: key numbers, results, curves and every test image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.evaluation.class_record import ClassRecord
from utils.evaluation.draws import Interval
from utils.evaluation.metric_names import DEFAULT_METRICS
from utils.report.cells import Cell, Heading, Table, TableRow, metric_heading
from utils.report.charts import charts, curve_files
from utils.report.gallery import gallery_class, gallery_data
from utils.report.html import render
from utils.report.key_numbers import key_numbers
from utils.report.rows import COUNTS, Row, result_rows
from utils.report.text import DASH, format_number, printable

TRAINING_ROWS = 5  # of every class


def render_run_page(
    title: str,
    warnings: Sequence[str],
    command: str,
    facts: Mapping[str, object],
    records: Sequence[ClassRecord],
    links: Sequence[str],
    crops: Mapping[str, int],
    run_name: str = "",
    reason_not_comparable: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """The text of ``index.html``.

    Args:
        title: of the page.
        warnings: shown as a banner.
        command: the command line that makes the run again.
        facts: settings and versions by name, shown on request.
        records: the finished classes.
        links: files next to the page.
        crops: side of the maps of every class, from which the panels in its figures follow.
        run_name: the key of the published numbers.
        reason_not_comparable: why the numbers must not be compared with published ones; None if
            they may.
        metrics: the columns of the table.
    """
    classes = [gallery_class(record, crops[record.class_name]) for record in records]
    return render(
        "run.html",
        title=title,
        warnings=warnings,
        command=command,
        facts=facts,
        links=links,
        tiles=key_numbers(records, run_name, reason_not_comparable) if records else [],
        reason_not_comparable=reason_not_comparable,
        table=_results_table(records, (*metrics, *COUNTS)),
        notices=[(record.class_name, note) for record in records for note in record.notes],
        training=_training_table(records),
        charts=charts(records),
        curve_files=curve_files(records),
        data=gallery_data(classes, sum(len(item.images) for item in classes)),
    )


def _results_table(records: Sequence[ClassRecord], columns: Sequence[str]) -> Table:
    # The script finds the images of a row by position: a name may be written out differently.
    positions = {record.class_name: position for position, record in enumerate(records)}
    rows = result_rows(records)
    return Table(
        "Table of results",
        (Heading("class"), *map(metric_heading, columns)),
        tuple(_table_row(row, columns, positions[row.name]) for row in rows if not row.is_mean),
        tuple(_table_row(row, columns, None) for row in rows if row.is_mean),
    )


def _training_table(records: Sequence[ClassRecord]) -> Table | None:
    """The training images with the highest leave-one-out scores of every class."""
    rows = [
        TableRow(
            printable(f"{record.class_name}: {image.path}"),
            (
                Cell(format_number("score", image.score), image.score),
                Cell(format_number("p_value", image.p_value), image.p_value),
                Cell(printable(", ".join(image.same_as)) or DASH),
            ),
        )
        for record in records
        for image in record.training[:TRAINING_ROWS]
        if image.score is not None
    ]
    headings = (Heading("image"), Heading("score"), Heading("p-value"), Heading("equal to"))
    return Table("Table of training images", headings, tuple(rows), ()) if rows else None


def _table_row(row: Row, columns: Sequence[str], position: int | None) -> TableRow:
    ends = row.intervals
    return TableRow(
        row.label,
        tuple(_cell(name, row.value(name), ends.get(name)) for name in columns),
        position,
    )


def _cell(name: str, value: float | int | None, ends: Interval | None) -> Cell:
    note = "" if ends is None else "\u2013".join(format_number(name, end) for end in ends)
    return Cell(format_number(name, value), value, note=note)
