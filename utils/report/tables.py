"""The numbers of a run as tables: CSV, Markdown beside the published numbers, and the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from utils.evaluation.class_record import ClassRecord
from utils.report.markdown import DASH, UNCONFIRMED, beside, markdown_table, of_system, plain
from utils.report.published import published_results

METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1",
    "pro",
    "false_alarms",
    "detections",
)
TOTALS = ("n_train", "n_test", "seconds")
COLUMNS = METRICS + TOTALS
GROUPS: Mapping[str, tuple[str, ...]] = {
    "textures": TEXTURES,
    "objects": OBJECTS,
    "all": TEXTURES + OBJECTS,
}
COMPARED = ("image_auroc", "pixel_auroc", "pro")

Row = Mapping[str, str | float | int | bool | None]


def result_rows(records: Sequence[ClassRecord]) -> list[Row]:
    """A row a class, then the mean rows textures, objects (where there are any) and all.

    A mean is over the classes that have the number; images and seconds are summed.
    """
    rows: list[Row] = [_class_row(record) for record in records]
    means = [_mean_row(group, list(_members(group, records))) for group in GROUPS]
    return rows + [row for row in means if row]


def results_csv(rows: Sequence[Row]) -> str:
    """The rows with full precision; a number that does not exist is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("class", *COLUMNS), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def scores_csv(record: ClassRecord) -> str:
    """A row a test image: path in the class folder, defect, label (1 defective), score, p-value."""
    text = io.StringIO()
    columns = ("path", "defect", "label", "score", "p_value")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(image) for image in record.images)
    return text.getvalue()


def results_markdown(
    title: str,
    run_name: str,
    records: Sequence[ClassRecord],
    warnings: Sequence[str],
    obstacle: str | None,
) -> str:
    """The results, and ours beside the published ones.

    Args:
        title: of the whole.
        run_name: such as ``resnet18_rd100``, the key of the published numbers.
        records: the finished classes.
        warnings: to be read before any number.
        obstacle: why they may not be compared, as with untrained weights; None where they may.
    """
    parts = [f"# {title}", *(f"**{warning}**" for warning in warnings)]
    parts.append(markdown_table(("class", *COLUMNS), _printed(result_rows(records))))
    parts.append(
        "image_f1 and pixel_f1 are oracle numbers: their threshold is chosen on the test set "
        "itself. false_alarms and detections are the shares of good and of defective test images "
        "called by a threshold chosen on the training images alone. "
        f"{DASH} marks a number that does not exist for a class. Mean rows are over the "
        "classes above; n_train, n_test and seconds are summed."
    )
    parts += [
        f"- {plain(record.class_name)}: {note}" for record in records for note in record.notes
    ]
    if obstacle is None:
        parts += comparison(run_name, result_rows(records))
    else:
        parts.append(f"Not set beside the published numbers: {obstacle}.")
    return "\n\n".join(parts) + "\n"


def terminal_table(records: Sequence[ClassRecord]) -> str:
    """The rows in columns of even width."""
    lines = [("class", *COLUMNS), *_printed(result_rows(records))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _class_row(record: ClassRecord) -> Row:
    totals = {name: getattr(record, name) for name in TOTALS}
    name = record.class_name
    metrics = {metric: record.metrics[metric] for metric in METRICS}
    return {"class": name, "mean": False, "label": name, **metrics, **totals}


def _members(group: str, records: Sequence[ClassRecord]) -> Iterator[ClassRecord]:
    for record in records:
        if group == "all" or record.class_name in GROUPS[group]:
            yield record


def _mean_row(group: str, records: Sequence[ClassRecord]) -> Row | None:
    if not records:
        return None
    row: dict = {"class": group, "mean": True, "label": _mean_label(group, len(records))}
    for name in METRICS:
        values = [record.metrics[name] for record in records]
        values = [value for value in values if value is not None]
        row[name] = sum(values) / len(values) if values else None
    for name in TOTALS:
        row[name] = sum(getattr(record, name) or 0 for record in records)
    row["seconds"] = round(row["seconds"], 2)
    return row


def _printed(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [(label(row), *(cell(name, row[name]) for name in COLUMNS)) for row in rows]


def label(row: Row) -> str:
    """What a row is headed with."""
    return plain(str(row["label"]))


def _mean_label(group: str, n_classes: int) -> str:
    """Such as ``mean of 10 objects``, or ``mean of 1 of 10 objects`` where some are missing."""
    if group == "all":
        return f"mean of {n_classes} class{'es' * (n_classes != 1)}"
    n_group = len(GROUPS[group])
    share = f"{n_classes} of " if n_classes < n_group else ""
    return f"mean of {share}{n_group} {group}"


def cell(name: str, value: float | int | None) -> str:
    """A number of a column as it is printed."""
    if value is None:
        return DASH
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.3f}" if name in METRICS else str(value)


def comparison(run_name: str, result: Sequence[Row]) -> list[str]:
    """The tables of ours beside the published, for the metrics something was published of.

    Args:
        run_name: the key of the published numbers.
        result: as ``result_rows`` gives them.
    """
    rows = {str(row["class"]): row for row in result}
    classes = {name for name, row in rows.items() if not row["mean"]}
    incomplete = [
        group
        for group, members in GROUPS.items()
        if (classes if group == "all" else classes.intersection(members)) != set(members)
    ]
    parts, has_unconfirmed = [], False
    for metric in COMPARED:
        systems = published_results(run_name, metric)
        names = [name for name in rows if any(name in values for values in systems.values())]
        names = [name for name in names if name not in incomplete]
        if not names:
            continue
        header = ("class", "here", *(of_system(system) for system in systems))
        lines = []
        for name in names:
            ours = rows[name][metric]
            theirs = (beside(ours, values.get(name)) for values in systems.values())
            lines.append((name, cell(metric, ours), *theirs))
        parts += [f"### {metric}", markdown_table(header, lines)]
        has_unconfirmed |= any(
            not values[name].confirmed
            for values in systems.values()
            for name in names
            if name in values
        )
    if not parts:
        return ["## Beside the published numbers", f"None are known for {run_name}."]
    legend = "Behind each published number, in brackets: ours minus theirs."
    if has_unconfirmed:
        legend += f" {UNCONFIRMED}"
    if incomplete:
        legend += (
            f" Not compared: the means of {', '.join(incomplete)}, for this run has not exactly "
            "the classes they are published over."
        )
    return ["## Beside the published numbers", legend, *parts]
