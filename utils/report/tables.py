"""The numbers of a run as tables: CSV, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from utils.evaluation.class_record import ClassRecord, SkippedFile
from utils.evaluation.metric_names import DEFAULT_METRICS, METRICS
from utils.report.comparison import compare
from utils.report.markdown import checksums_line, markdown_table, markdown_text
from utils.report.rows import COLUMNS, COUNTS, Row, result_rows
from utils.report.text import DASH, csv_text, format_number, format_with_interval

LEGEND = (
    "image_f1 and pixel_f1 are oracle numbers: their threshold is chosen on the test set itself. "
    "false_alarms and detections are the shares of good and of defective test images that are "
    "flagged as defective; their threshold is chosen on the training images alone. "
    f"{DASH} marks a number that does not exist. Mean rows are over the classes above; "
    "n_train, n_test and seconds are summed. "
    "In brackets: 95 % bootstrap intervals over the test images."
)
CSV_COLUMNS = (
    "class",
    *COLUMNS,
    *(name for name in METRICS if name not in COLUMNS),
    *(f"{name}_{end}" for name in METRICS for end in ("low", "high")),
    "image_checksum",
)


def results_csv(rows: Sequence[Row]) -> str:
    """The rows with full precision; a number that does not exist is an empty field.

    All metrics are there, whichever are chosen for the other tables.
    """
    return csv_text(CSV_COLUMNS, (row.to_json() for row in rows))


def scores_csv(record: ClassRecord) -> str:
    """A row for each test image: path in the class folder, defect, label, score, p-value, decision.

    The last two are empty without a calibration.
    """
    columns = ("path", "defect", "label", "score", "p_value", "decision")
    rows = (asdict(image) | {"decision": image.decision} for image in record.images)
    return csv_text(columns, rows)


def training_csv(record: ClassRecord) -> str:
    """A row for each training image, highest leave-one-out score first.

    The paths of equal images are separated by a line break.
    """
    columns = ("path", "score", "p_value", "same_as")
    rows = (asdict(image) | {"same_as": "\n".join(image.same_as)} for image in record.training)
    return csv_text(columns, rows)


def skipped_csv(files: Sequence[SkippedFile]) -> str:
    """A row for each file of a data set that was not used: path from its folder, reason."""
    return csv_text(("path", "reason"), map(asdict, files))


def data_lines(records: Sequence[ClassRecord]) -> list[str]:
    """What each class consists of."""
    return [
        f"- {markdown_text(record.class_name)}: {record.data.text}"
        for record in records
        if record.data is not None
    ]


def results_markdown(
    title: str,
    run_name: str,
    records: Sequence[ClassRecord],
    warnings: Sequence[str],
    reason_not_comparable: str | None,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """The results, compared with the published ones.

    Args:
        title: of the page.
        run_name: such as ``resnet18_rd100``, the key of the published numbers.
        records: the finished classes.
        warnings: to be read before any number.
        reason_not_comparable: such as untrained weights; None if the numbers may be compared.
        metrics: the columns.
    """
    rows = result_rows(records)
    notes = [
        f"- {markdown_text(record.class_name)}: {note}"
        for record in records
        for note in record.notes
    ]
    parts = [
        f"# {title}",
        *(f"**{warning}**" for warning in warnings),
        markdown_table(("class", *metrics, *COUNTS), _printed(rows, metrics, has_intervals=True)),
        LEGEND,
        *(f"- {name}: {METRICS[name]}" for name in metrics if name not in DEFAULT_METRICS),
        "\n".join(data_lines(records)),
        *notes,
        image_checksums(records),
        *compare(run_name, rows, reason_not_comparable),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def image_checksums(records: Sequence[ClassRecord]) -> str:
    """One line with the checksum of the images of every class."""
    return checksums_line({record.class_name: record.image_checksum for record in records})


def terminal_table(records: Sequence[ClassRecord], metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """The rows in columns of even width."""
    lines = [("class", *metrics, *COUNTS), *_printed(result_rows(records), metrics)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _printed(
    rows: Sequence[Row], metrics: Sequence[str], has_intervals: bool = False
) -> list[tuple[str, ...]]:
    lines = []
    for row in rows:
        ends = row.intervals if has_intervals else {}
        cells = (format_with_interval(name, row.metrics[name], ends.get(name)) for name in metrics)
        counts = (format_number(name, row.value(name)) for name in COUNTS)
        lines.append((markdown_text(row.label), *cells, *counts))
    return lines
