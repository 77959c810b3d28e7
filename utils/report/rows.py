"""The rows of the tables: one for each class, and the means over groups of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from utils.evaluation.class_record import ClassRecord

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
COLUMNS = (*METRICS, "n_train", "n_test", "seconds")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "textures": TEXTURES,
    "objects": OBJECTS,
    "all": TEXTURES + OBJECTS,
}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of the class, or of the group of a mean row.
        label: heading of the row.
        is_mean: whether the row is a mean over classes.
        metrics: by name; None for a metric that does not exist.
        n_train: number of training images; of a mean row the sum, as the next two are.
        n_test: number of test images.
        seconds: wall time.
    """

    name: str
    label: str
    is_mean: bool
    metrics: Mapping[str, float | None]
    n_train: int
    n_test: int
    seconds: float | None

    def value(self, column: str) -> float | int | None:
        """The number in one of ``COLUMNS``."""
        return self.metrics[column] if column in METRICS else getattr(self, column)

    def to_json(self) -> dict[str, str | float | int | bool | None]:
        """The row as a flat JSON object, with the columns of ``results.csv``."""
        values = {column: self.value(column) for column in COLUMNS}
        return {"class": self.name, "mean": self.is_mean, "label": self.label, **values}


def result_rows(records: Sequence[ClassRecord]) -> list[Row]:
    """A row for each class, then the means of textures, of objects (if there are any) and of all.

    A mean is over the classes that have the number; images and seconds are summed.
    """
    rows = [
        Row(
            *(record.class_name, record.class_name, False),
            {name: record.metrics[name] for name in METRICS},
            *(record.n_train, record.n_test, record.seconds),
        )
        for record in records
    ]
    groups = {
        group: [row for row in rows if group == "all" or row.name in members]
        for group, members in GROUPS.items()
    }
    return rows + [_mean_row(group, members) for group, members in groups.items() if members]


def _mean_row(group: str, rows: Sequence[Row]) -> Row:
    return Row(
        name=group,
        label=_mean_label(group, len(rows)),
        is_mean=True,
        metrics={name: _mean(row.metrics[name] for row in rows) for name in METRICS},
        n_train=sum(row.n_train for row in rows),
        n_test=sum(row.n_test for row in rows),
        seconds=round(sum(row.seconds or 0 for row in rows), 2),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_label(group: str, n_classes: int) -> str:
    """Such as ``mean of 10 objects``, or ``mean of 1 of 10 objects`` if some are missing."""
    if group == "all":
        return f"mean of {n_classes} class{'es' * (n_classes != 1)}"
    n_group = len(GROUPS[group])
    share = f"{n_classes} of " if n_classes < n_group else ""
    return f"mean of {share}{n_group} {group}"
