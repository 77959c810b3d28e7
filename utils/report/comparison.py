"""Our numbers compared with the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.report.markdown import UNCONFIRMED, markdown_table, system_title, with_difference
from utils.report.published import Systems, published_results
from utils.report.rows import GROUPS, Row
from utils.report.text import format_with_interval

COMPARED = ("image_auroc", "pixel_auroc", "pro")


def compare(run_name: str, rows: Sequence[Row], reason_not_comparable: str | None) -> list[str]:
    """The paragraphs of Markdown that compare our numbers with the published ones.

    Args:
        run_name: such as ``resnet18_rd100``, the key of the published numbers.
        rows: of the classes and their means.
        reason_not_comparable: why the numbers must not be compared; None if they may.
    """
    if reason_not_comparable is not None:
        return [f"Not compared with the published numbers: {reason_not_comparable}."]
    heading = "## Comparison with the published numbers"
    incomplete = _incomplete_groups(rows)
    # A class may have the name of a group; then the mean, which comes later, is compared.
    compared = {row.name: row for row in rows if row.name not in incomplete}
    parts, has_unconfirmed = [], False
    for metric in COMPARED:
        systems = published_results(run_name, metric)
        shown = [row for name, row in compared.items() if any(name in v for v in systems.values())]
        if shown:
            parts += [f"### {metric}", _table(metric, shown, systems)]
            has_unconfirmed |= _has_unconfirmed(shown, systems)
    if not parts:
        return [heading, f"No published numbers are known for {run_name}."]
    return [heading, _legend(has_unconfirmed, incomplete), *parts]


def _incomplete_groups(rows: Sequence[Row]) -> list[str]:
    """The groups whose published mean is over other classes than ours."""
    classes = {row.name for row in rows if not row.is_mean}
    return [
        group
        for group, members in GROUPS.items()
        if (classes if group == "all" else classes.intersection(members)) != set(members)
    ]


def _table(metric: str, rows: Sequence[Row], systems: Systems) -> str:
    lines = [
        (
            row.name,
            format_with_interval(metric, row.metrics[metric], row.intervals.get(metric)),
            *(
                with_difference(metric, row.metrics[metric], values.get(row.name))
                for values in systems.values()
            ),
        )
        for row in rows
    ]
    return markdown_table(("class", "here", *map(system_title, systems)), lines)


def _has_unconfirmed(rows: Sequence[Row], systems: Mapping) -> bool:
    return any(
        not values[row.name].confirmed
        for values in systems.values()
        for row in rows
        if row.name in values
    )


def _legend(has_unconfirmed: bool, incomplete: Sequence[str]) -> str:
    legend = "In brackets after a published number: our number minus the published one."
    if has_unconfirmed:
        legend += f" {UNCONFIRMED}"
    if incomplete:
        legend += (
            f" Not compared: the means of {', '.join(incomplete)}. "
            "This run does not have exactly the classes of the published means."
        )
    return legend
