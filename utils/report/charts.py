"""The curves of a run as SVG paths, so that a page draws them sharp and in its own colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from utils.evaluation.class_record import ClassRecord, CurvePoints
from utils.evaluation.metric_names import PRO_LIMIT
from utils.report.text import LONGEST, format_number, printable

CURVE_FILES = {"roc_curve.png": ("image_roc", "pixel_roc"), "pro_curve.png": ("pro",)}
SIDE = 300  # units of the square that a curve is drawn in
COLOURS = 10  # those of the style sheet; a class beyond them is dashed


@dataclass(frozen=True)
class Line:
    """One curve: its class, its number, and the path of an SVG element."""

    name: str
    value: str
    path: str
    colour: int
    is_dashed: bool


@dataclass(frozen=True)
class Chart:
    """One set of axes.

    Attributes:
        title: above it.
        x_label: below it.
        y_label: beside it.
        ticks: labels of the x axis, evenly spaced from its start to its end.
        lines: one for each class that has the curve.
    """

    title: str
    x_label: str
    y_label: str
    ticks: tuple[str, ...]
    lines: tuple[Line, ...]


def charts(records: Sequence[ClassRecord]) -> list[Chart]:
    """The ROC curves of images and pixels and the PRO curve; one that no class has is left out."""
    rate, unit = "false positive rate", ("0", "0.5", "1")
    every = [
        Chart(
            *("ROC of images", rate, "true positive rate", unit),
            _lines(records, "image_roc", "image_auroc", 1),
        ),
        Chart(
            *("ROC of pixels", rate, "true positive rate", unit),
            _lines(records, "pixel_roc", "pixel_auroc", 1),
        ),
        Chart(
            *("PRO", rate, "mean overlap of a region"),
            ("0", f"{PRO_LIMIT / 2:g}", f"{PRO_LIMIT:g}"),
            _lines(records, "pro", "pro", PRO_LIMIT),
        ),
    ]
    return [chart for chart in every if chart.lines]


def curve_files(records: Sequence[ClassRecord]) -> list[str]:
    """The files of a run's curves, without those that no class has a curve for."""
    return [
        name
        for name, curves in CURVE_FILES.items()
        if any(record.curves.get(curve) is not None for record in records for curve in curves)
    ]


def _lines(
    records: Sequence[ClassRecord], curve: str, metric: str, x_end: float
) -> tuple[Line, ...]:
    return tuple(
        Line(
            printable(record.class_name, LONGEST),
            format_number(metric, record.metrics[metric]),
            _path(points, x_end),
            index % COLOURS,
            index >= COLOURS,
        )
        for index, record in enumerate(records)
        if (points := record.curves.get(curve)) is not None
    )


def _path(points: CurvePoints, x_end: float) -> str:
    """The points in half units, without those that fall on the one before."""
    scaled = (
        (round(2 * SIDE * min(x / x_end, 1)) / 2, round(2 * SIDE * (1 - y)) / 2)
        for x, y in zip(*points, strict=True)
    )
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in dict.fromkeys(scaled))
