"""The rows of the tables: one for each class, and the means over groups of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from datasets.layouts.mvtec import OBJECTS, TEXTURES, is_published
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.draws import Interval, interval, unpack
from utils.evaluation.metric_names import DEFAULT_METRICS, METRICS

COUNTS = ("n_train", "n_test", "seconds")
COLUMNS = (*DEFAULT_METRICS, *COUNTS)  # of the tables, unless other metrics are chosen
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
        image_checksum: of the images of the class; None for a mean row.
        draws: the metrics that exist, in all draws of the test images.
    """

    name: str
    label: str
    is_mean: bool
    metrics: Mapping[str, float | None]
    n_train: int
    n_test: int
    seconds: float | None
    image_checksum: str | None
    draws: Mapping[str, np.ndarray] = field(compare=False, repr=False)

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of the metrics that have one."""
        found = {name: interval(values) for name, values in self.draws.items()}
        return {name: ends for name, ends in found.items() if ends is not None}

    def value(self, column: str) -> float | int | None:
        """The number in a column: one of ``METRICS`` or ``COUNTS``."""
        return self.metrics[column] if column in METRICS else getattr(self, column)

    def to_json(self) -> dict[str, str | float | int | bool | None]:
        """The row as a flat JSON object, with the columns of ``results.csv``."""
        ends = {
            f"{name}_{end}": value
            for name, pair in self.intervals.items()
            for end, value in zip(("low", "high"), pair, strict=True)
        }
        values = {column: self.value(column) for column in (*METRICS, *COUNTS)}
        about: dict[str, str | bool] = {
            "class": self.name,
            "mean": self.is_mean,
            "label": self.label,
        }
        return {**about, **values, **ends, "image_checksum": self.image_checksum}


def result_rows(records: Sequence[ClassRecord]) -> list[Row]:
    """A row for each class, then the means of MVTec AD's textures and objects, and of all classes.

    A group has a mean if all of its classes are there, and not others that are called like them.
    One class has no mean. A mean is over the classes that have the number; images and seconds are
    summed.
    """
    rows = [
        Row(
            name=record.class_name,
            label=record.class_name,
            is_mean=False,
            metrics=record.metrics,
            n_train=record.n_train,
            n_test=record.n_test,
            seconds=record.seconds,
            image_checksum=record.image_checksum,
            draws={name: unpack(text) for name, text in record.draws.items()},
        )
        for record in records
    ]
    groups = {group: _members(rows, group) for group in GROUPS if group != "all"}
    whole = {group: found for group, found in groups.items() if len(found) == len(GROUPS[group])}
    means = [_mean_row(group, found) for group, found in whole.items()]
    return [*rows, *means, *([_mean_row("all", rows)] if len(rows) > 1 else [])]


def is_of_paper(row: Row) -> bool:
    """Whether a row is one of MVTec AD's classes, by its name and the numbers of its images."""
    return not row.is_mean and is_published(row.name, row.n_train, row.n_test)


def _members(rows: Sequence[Row], group: str) -> list[Row]:
    return [row for row in rows if row.name in GROUPS[group] and is_of_paper(row)]


def _mean_row(group: str, rows: Sequence[Row]) -> Row:
    return Row(
        name=group,
        label=_mean_label(group, len(rows)),
        is_mean=True,
        metrics={name: _mean(row.metrics[name] for row in rows) for name in METRICS},
        n_train=sum(row.n_train for row in rows),
        n_test=sum(row.n_test for row in rows),
        seconds=round(sum(row.seconds or 0 for row in rows), 2),
        image_checksum=None,
        draws=mean_draws(rows),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_draws(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The mean over rows of every metric in every draw, where a row has the metric."""
    found = {name: [row.draws[name] for row in rows if name in row.draws] for name in METRICS}
    return {name: np.mean(values, axis=0) for name, values in found.items() if values}


def _mean_label(group: str, n_classes: int) -> str:
    """Such as ``mean of 10 objects``."""
    return f"mean of {n_classes} {'classes' if group == 'all' else group}"
