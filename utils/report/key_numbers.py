"""The numbers at the top of a page: what the run is worth, in five tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from utils.evaluation.class_record import ClassRecord
from utils.report.comparison import published_for
from utils.report.rows import GROUPS, Row, result_rows
from utils.report.text import DASH, format_number

TITLES = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC", "pro": "PRO"}


@dataclass(frozen=True)
class KeyNumber:
    """A tile.

    Attributes:
        title: what the number is.
        text: the number.
        lines: what is said below it, such as group means and published numbers.
        link: words that lead to the images behind it; None without any.
        show: the filter that the link sets.
    """

    title: str
    text: str
    lines: tuple[str, ...] = ()
    link: str | None = None
    show: str = ""


def key_numbers(
    records: Sequence[ClassRecord], run_name: str, reason_not_comparable: str | None
) -> list[KeyNumber]:
    """The tiles of a run: three metrics, and what the threshold finds and flags wrongly.

    Args:
        records: the finished classes.
        run_name: the key of the published numbers.
        reason_not_comparable: why the numbers must not be compared; None if they may.
    """
    rows = result_rows(records)
    tiles = metric_tiles(rows, run_name, reason_not_comparable, _number)
    counted = [(record, _Counts.of(record)) for record in records if record.image_threshold]
    if not counted:
        return [*tiles, KeyNumber("Detections", DASH, ("there is no threshold",))]
    total = _Counts.sum([counts for _, counts in counted])
    thresholds = [record.image_threshold for record, _ in counted if record.image_threshold]
    rate = rate_text([one.rate for one in thresholds], [one.requested_rate for one in thresholds])
    return [
        *tiles,
        KeyNumber(
            "Defects found",
            _share(total.n_defective - total.n_missed, total.n_defective),
            (*_group_lines(rows, "detections"), rate),
            *(f"{total.n_missed} missed", "missed") if total.n_missed else (None, ""),
        ),
        KeyNumber(
            "False alarms",
            _share(total.n_false_alarms, total.n_good),
            (*_group_lines(rows, "false_alarms"), rate),
            *("show them", "false") if total.n_false_alarms else (None, ""),
        ),
    ]


def metric_tiles(
    rows: Sequence[Row],
    run_name: str,
    reason_not_comparable: str | None,
    shown: Callable[[Row, str], str],
) -> list[KeyNumber]:
    """The tiles of the metrics, each with its group means and the published number.

    Args:
        rows: of the classes and their means.
        run_name: the key of the published numbers.
        reason_not_comparable: why the numbers must not be compared; None if they may.
        shown: the text of a metric of a row.
    """
    main = _main_row(rows)
    return [
        KeyNumber(
            title,
            shown(main, name),
            (
                *_group_lines(rows, name),
                *published_for(run_name, name, main, rows, reason_not_comparable),
            ),
        )
        for name, title in TITLES.items()
    ]


def _number(row: Row, name: str) -> str:
    return format_number(name, row.value(name))


def _main_row(rows: Sequence[Row]) -> Row:
    """The only class, or the mean of all."""
    classes = [row for row in rows if not row.is_mean]
    return classes[0] if len(classes) == 1 else rows[-1]


def _group_lines(rows: Sequence[Row], name: str) -> list[str]:
    """The means of the groups that are not all classes."""
    means = [row for row in rows if row.is_mean]
    smaller = [row for row in means[:-1] if len(GROUPS[row.name]) < len(rows) - len(means)]
    return [f"{row.name} {_number(row, name)}" for row in smaller]


@dataclass(frozen=True)
class _Counts:
    n_good: int
    n_defective: int
    n_missed: int
    n_false_alarms: int

    @classmethod
    def of(cls, record: ClassRecord) -> _Counts:
        pairs = [(image.label, image.is_defective) for image in record.images]
        n_missed, n_false_alarms = pairs.count((1, False)), pairs.count((0, True))
        return cls(record.n_good, record.n_defective, n_missed, n_false_alarms)

    @classmethod
    def sum(cls, every: Sequence[_Counts]) -> _Counts:
        return cls(
            sum(one.n_good for one in every),
            sum(one.n_defective for one in every),
            sum(one.n_missed for one in every),
            sum(one.n_false_alarms for one in every),
        )


def _share(count: int, total: int) -> str:
    return f"{count} of {total}" if total else DASH


def rate_text(rates: Sequence[float], requested: Sequence[float]) -> str:
    """The rates asked for, and those that the thresholds are for if they differ.

    Args:
        rates: of the thresholds.
        requested: what was asked for, a number for each of them.
    """
    asked = _percent(requested, " and ")
    others = [rate for rate, wish in zip(rates, requested, strict=True) if rate > wish]
    if not others:
        return f"at a false alarm rate of {asked}"
    used = _percent((min(others), max(others)), " to ")
    return f"at a false alarm rate of {used} ({asked} asked for)"


def _percent(rates: Sequence[float], between: str) -> str:
    shown = dict.fromkeys(f"{100 * rate:.3g}" for rate in sorted(set(rates)))
    return f"{between.join(shown)} %"
