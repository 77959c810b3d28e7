"""Markdown tables, and how a number is set beside a published one in them."""

from __future__ import annotations

from collections.abc import Sequence

from utils.report.published import Published
from utils.report.text import LONGEST, printable

DASH = "\u2013"
UNCONFIRMED = "`?` marks a published number that was recalled but not found in its source."


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The first column left-aligned, the others right."""
    ruler = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *lines))


def plain(name: str) -> str:
    """A folder's name with nothing in it that Markdown or a terminal would act on."""
    shown = printable(name, LONGEST)
    return "".join("\\" + letter if letter in r"\`*|<>[]" else letter for letter in shown)


def of_system(system: str) -> str:
    """What a system's column is headed with."""
    return "the paper" if system == "paper" else system


def beside(ours: float | None, theirs: Published | None, digits: int = 3) -> str:
    """A published number, and in brackets ours minus theirs."""
    if theirs is None:
        return DASH
    mark = "" if theirs.confirmed else " ?"
    difference = "" if ours is None else f" ({ours - theirs.value:+.{digits}f})"
    return f"{theirs.value:.{digits}f}{mark}{difference}"
