"""The tables of the pages: headings and cells, with the numbers that sorting goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORDS = {
    **{name: name.upper() for name in ("auroc", "ap", "f1", "pro", "aupimo")},
    **{"iou": "IoU", "fpr1": "at 1 % FPR", "fpr5": "at 5 % FPR"},
}
LABELS = {"n_train": "train images", "n_test": "test images"}


@dataclass(frozen=True)
class Heading:
    """The heading of a column; ``note`` stands small below it."""

    label: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        value: the number that sorting goes by; None if there is none.
        is_best: whether it is the best of its row.
        note: what stands small below the text, such as its error.
    """

    text: str
    value: float | None = None
    is_best: bool = False
    note: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row; ``position`` is that of its class in the gallery, None if there is none."""

    label: str
    cells: tuple[Cell, ...]
    position: int | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        name: what is read out for it; unique on its page.
        headings: of all columns, that of the row labels first.
        rows: those that can be sorted.
        means: those that stay at the foot.
    """

    name: str
    headings: tuple[Heading, ...]
    rows: tuple[TableRow, ...]
    means: tuple[TableRow, ...] = ()


def metric_heading(name: str) -> Heading:
    """The heading of a column of results; oracle numbers are marked."""
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return Heading(LABELS.get(name, words), "oracle" if name.endswith("_f1") else "")


def best_of(values: Sequence[float | None], is_lower_better: bool) -> list[bool]:
    """Which of the values are the best, ties among them; none if there is nothing to compare."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return [False] * len(values)
    best = min(known) if is_lower_better else max(known)
    return [value == best for value in values]
