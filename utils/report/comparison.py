"""Our numbers compared with the published ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from utils.report.markdown import UNCONFIRMED, markdown_table, system_title, with_difference
from utils.report.published import Published, Systems, published_results
from utils.report.rows import GROUPS, Row, is_of_paper
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
    # A class may have the name of a group; then the mean, which comes later, is compared.
    compared = {row.name: row for row in rows if is_of_paper(row) or _is_whole_group(row, rows)}
    parts, has_unconfirmed = [], False
    for metric in COMPARED:
        systems = published_results(run_name, metric)
        shown = [row for name, row in compared.items() if any(name in v for v in systems.values())]
        if shown:
            parts += [f"### {metric}", _table(metric, shown, systems)]
            has_unconfirmed |= _has_unconfirmed(shown, systems)
    others = [row.name for row in rows if row.name in GROUPS["all"] and row.name not in compared]
    if not parts:
        return [heading, f"No published numbers are known for {run_name}.", *_not_theirs(others)]
    return [heading, _legend(has_unconfirmed, compared), *_not_theirs(others), *parts]


def published_for(
    run_name: str,
    metric: str,
    main: Row,
    rows: Sequence[Row],
    reason_not_comparable: str | None,
) -> list[str]:
    """What was published for a row, as a line; nothing if it may not be compared.

    The paper's number goes before those of others. A mean over some classes is compared with the
    published mean over the same ones.

    Args:
        run_name: such as ``resnet18_rd100``.
        metric: such as ``pixel_auroc``.
        main: the row.
        rows: of the classes and their means.
        reason_not_comparable: why the numbers must not be compared; None if they may.
    """
    if reason_not_comparable is not None:
        return []
    for system, values in published_results(run_name, metric).items():
        theirs, what = None, ""
        if is_of_paper(main) or _is_whole_group(main, rows):
            theirs = values.get(main.name)
        elif main.is_mean:
            theirs, what = _mean_of_same(rows, values), ", same classes"
        if theirs is not None:
            number = with_difference(metric, main.metrics[metric], theirs)
            return [f"{system_title(system)} {number}{what}"]
    return []


def _mean_of_same(rows: Sequence[Row], values: Mapping[str, Published]) -> Published | None:
    """The mean of the published numbers of our classes; None unless there is one for each."""
    classes = [row for row in rows if not row.is_mean]
    found = [values[row.name] for row in classes if is_of_paper(row) and row.name in values]
    if not found or len(found) < len(classes):
        return None
    is_confirmed = all(one.confirmed for one in found)
    return Published(sum(one.value for one in found) / len(found), is_confirmed)


def _is_whole_group(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a row is the mean of exactly the classes that the published mean is over."""
    if not row.is_mean:
        return False
    classes = [one for one in rows if not one.is_mean]
    return row.name != "all" or (
        all(map(is_of_paper, classes)) and len(classes) == len(GROUPS["all"])
    )


def _not_theirs(names: Sequence[str]) -> list[str]:
    """A sentence on classes that only have the names of MVTec AD's; nothing without any."""
    if not names:
        return []
    return [
        f"Not compared: {', '.join(names)}. The numbers of training and test images are not those "
        "of MVTec AD."
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


def _legend(has_unconfirmed: bool, compared: Collection[str]) -> str:
    legend = "In brackets after a published number: our number minus the published one."
    if has_unconfirmed:
        legend += f" {UNCONFIRMED}"
    incomplete = [group for group in GROUPS if group not in compared]
    if incomplete:
        legend += (
            f" Not compared: the means of {', '.join(incomplete)}. "
            "This run does not have exactly the classes of the published means."
        )
    return legend
