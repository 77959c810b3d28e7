"""A plot of every ablation: what was run, by class and in the mean, and what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.report.curves import save_plot
from utils.report.text import LONGEST, printable
from utils.reproduction.numbers import Number
from utils.reproduction.plan import title_of

PLOTTED = ("layers", "reduction", "beyond")
_COLOURS = [colormaps["tab10"](index) for index in range(10)]
_MARKERS = "o^sDvPX*"


def draw_plot(
    numbers: Sequence[Number], title: str, metric_names: Mapping[str, str], path: Path
) -> None:
    """Configurations across, the metric up, a panel a metric.

    Args:
        numbers: of one table.
        title: above the panels.
        metric_names: what an axis is called.
        path: the PNG file to write.
    """
    metrics = list(dict.fromkeys(one.metric for one in numbers))
    configurations = list(dict.fromkeys(one.configuration for one in numbers))
    width = max(4.2, 0.75 * len(configurations) + 1.6)
    figure = Figure(figsize=(width * len(metrics), 5.2), layout="constrained")
    figure.suptitle(title)
    places = {one: place for place, one in enumerate(configurations)}
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        of_metric = [one for one in numbers if one.metric == metric]
        _draw_ours(axes, of_metric, places)
        _draw_published(axes, of_metric, places)
        axes.set_xticks(
            range(len(places)), [title_of(one) for one in places], rotation=40, ha="right"
        )
        axes.set_xlim(-0.6, len(places) - 0.4)
        axes.set_ylabel(metric_names[metric])
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
        else:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="0.4")
    save_plot(figure, path)


def _draw_ours(axes: Axes, numbers: Sequence[Number], places: Mapping) -> None:
    """Every class as a mark of its own; the mean of all as a bar across them."""
    run = [(one, one.value) for one in numbers if one.value is not None]
    names = list(dict.fromkeys(one.class_name for one, _ in run))
    for index, name in enumerate(names):
        shown = [(one, value) for one, value in run if one.class_name == name]
        is_mean = name in ("textures", "objects", "all")
        axes.errorbar(
            [places[one.configuration] for one, _ in shown],
            [value for _, value in shown],
            yerr=[one.error or 0 for one, _ in shown],
            linestyle="none",
            marker="_" if is_mean else _MARKERS[index // len(_COLOURS) % len(_MARKERS)],
            markersize=16 if is_mean else 5,
            markeredgewidth=2 if is_mean else 1,
            color="black" if name == "all" else _COLOURS[index % len(_COLOURS)],
            label="\u200b"
            + ("mean: " if is_mean else "")
            + printable(name, LONGEST).replace("$", r"\$"),
        )


def _draw_published(axes: Axes, numbers: Sequence[Number], places: Mapping) -> None:
    """The paper's means: filled where confirmed, hollow where recalled."""
    for is_confirmed, label in ((True, "the paper, mean of all"), (False, "the same, unconfirmed")):
        shown = [
            (places[one.configuration], one.published["paper"]["all"].value)
            for one in numbers
            if one.class_name == "all"
            and "paper" in one.published
            and one.published["paper"]["all"].confirmed == is_confirmed
        ]
        if shown:
            axes.scatter(
                [place for place, _ in shown],
                [value for _, value in shown],
                marker="d",
                s=46,
                zorder=3,
                label=label,
                edgecolor="tab:red",
                facecolor="tab:red" if is_confirmed else "none",
            )
