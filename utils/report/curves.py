"""The curves of a run: ROC at image and pixel level, and per-region overlap (PRO)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from padim.storage.files import written_whole
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.metric_names import PRO_LIMIT
from utils.report.text import LONGEST, printable

# Ten colours and four line styles tell forty classes apart.
_COLOURS = color_sequences["tab10"]
_DASHES = ("-", "--", ":", "-.")
ROC_SIZE, PRO_SIZE = (13, 6.2), (7.2, 6.2)  # inches


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with written_whole(path) as partial, warnings.catch_warnings():
        # The font lacks many letters that a class name may have; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(partial, format="png", dpi=110)


def draw_roc_curves(records: Sequence[ClassRecord], title: str, path: Path) -> None:
    """ROC curves, image level left and pixel level right, one line for each class.

    Args:
        records: the finished classes.
        title: above both.
        path: the PNG file to write.
    """
    figure = Figure(figsize=ROC_SIZE, layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _draw_axes(left, records, "image_roc", "image_auroc", "Image level, mean AUROC")
    _draw_axes(right, records, "pixel_roc", "pixel_auroc", "Pixel level, mean AUROC")
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
    save_plot(figure, path)


def draw_pro_curves(records: Sequence[ClassRecord], title: str, path: Path) -> None:
    """Per-region overlap up to the false positive rate ``PRO_LIMIT``, one line for each class."""
    figure = Figure(figsize=PRO_SIZE, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    _draw_axes(axes, records, "pro", "pro", "Per-region overlap, mean PRO")
    axes.set(xlabel="false positive rate", ylabel="mean overlap of a defect region")
    axes.set_xlim(0, PRO_LIMIT)
    save_plot(figure, path)


def _draw_axes(
    axes: Axes, records: Sequence[ClassRecord], curve: str, metric: str, heading: str
) -> None:
    drawn = [
        (record.class_name, points, value)
        for record in records
        if (points := record.curves[curve]) and (value := record.metrics[metric]) is not None
    ]
    for index, (class_name, (x, y), value) in enumerate(drawn):
        # Matplotlib leaves labels with a leading underscore out of the legend and reads $ as maths.
        name = printable(class_name, LONGEST).replace("$", r"\$")
        label = f"\u200b{name} {value:.3f}"
        colour = _COLOURS[index % len(_COLOURS)]
        dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
        axes.plot(x, y, dashes, color=colour, linewidth=1.5, label=label, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    if not drawn:
        axes.set_title(f"{heading}: not available for any class")
        return
    mean = sum(value for *_, value in drawn) / len(drawn)
    axes.set_title(f"{heading} {mean:.3f}")
    columns = -(-len(drawn) // 20)  # at most twenty classes in each
    axes.legend(loc="lower right", fontsize=8 if columns == 1 else 6, ncols=columns)
