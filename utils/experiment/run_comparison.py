"""Compare two runs over the same test images: are their differences more than noise?

Both runs have the same images in each draw, so most of the variation between draws cancels in the
difference of their metrics.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from utils.errors import OptionError
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.draws import interval
from utils.experiment.options import CompareOptions
from utils.experiment.record_store import read_records
from utils.report.markdown import markdown_table, markdown_text
from utils.report.rows import Row, result_rows
from utils.report.text import DASH, format_number

LEGEND = (
    "Second run minus first, with the 95 % interval of the difference over the same bootstrap "
    "draws of the test images. `*` marks an interval without zero: the difference is more than the "
    "noise of these test images. One interval in twenty leaves zero out by chance. "
    f"{DASH} marks a number that one of the runs does not have."
)


def compare_runs(options: CompareOptions) -> str:
    """The differences as Markdown.

    Raises:
        OptionError: a folder holds no records, or the runs have no class with the same images.
    """
    first, second = (_records(folder) for folder in (options.first, options.second))
    reasons = {
        name: _reason_not_comparable(first.get(name), second.get(name)) for name in first | second
    }
    same = [name for name, reason in reasons.items() if reason is None]
    left_out = [f"{markdown_text(name)}: {reason}" for name, reason in reasons.items() if reason]
    if not same:
        raise OptionError(
            f"--runs {options.first} {options.second}: no class can be compared "
            f"({'; '.join(left_out)}); give two runs over the same test images"
        )
    before, after = (result_rows([run[name] for name in same]) for run in (first, second))
    lines = [_line(*pair, options.metrics) for pair in zip(before, after, strict=True)]
    parts = [
        f"# {options.second} minus {options.first}",
        markdown_table(("class", *options.metrics), lines),
        LEGEND,
        *(f"- Not compared: {line}." for line in left_out),
    ]
    return "\n\n".join(parts)


def _records(folder: Path) -> dict[str, ClassRecord]:
    stored, _ = read_records(folder / "records")
    found = []
    for one in stored:
        with suppress(ValueError):  # it is not whole
            found.append(ClassRecord.from_json(one.content))
    if not found:
        raise OptionError(
            f"--runs {folder}: no records of this version in {folder / 'records'}; expected the "
            "folder of a run, such as result/resnet18_rd100"
        )
    found.sort(key=lambda one: (one.order, one.class_name))
    return {one.class_name: one for one in found}


def _reason_not_comparable(first: ClassRecord | None, second: ClassRecord | None) -> str | None:
    if first is None or second is None:
        return f"it is in the {'first' if second is None else 'second'} run alone"
    if first.image_checksum != second.image_checksum:
        return f"other images, checksum {first.image_checksum} and {second.image_checksum}"
    labels = [[(image.path, image.label) for image in one.images] for one in (first, second)]
    return None if labels[0] == labels[1] else "the test images have other names or another order"


def _line(first: Row, second: Row, metrics: tuple[str, ...]) -> tuple[str, ...]:
    return (markdown_text(first.label), *(_difference(first, second, name) for name in metrics))


def _difference(first: Row, second: Row, name: str) -> str:
    """Such as ``+0.012 [+0.003, +0.020] *``."""
    ours, theirs = first.metrics[name], second.metrics[name]
    if ours is None or theirs is None:
        return DASH
    shown = format_number(name, theirs - ours, sign="+")
    ends = None
    if name in first.draws and name in second.draws:
        ends = interval(second.draws[name] - first.draws[name])
    if ends is None:
        return shown
    is_more = ends[0] > 0 or ends[1] < 0
    between = ", ".join(format_number(name, end, sign="+") for end in ends)
    return f"{shown} [{between}]{' *' * is_more}"
