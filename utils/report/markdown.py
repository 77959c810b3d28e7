"""Markdown tables, and published numbers in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.report.published import Published
from utils.report.text import DASH, LONGEST, format_number, printable

UNCONFIRMED = "`?` marks a published number that was recalled but not found in its source."


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table with its first column left-aligned, the others right-aligned."""
    ruler = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *lines))


def markdown_text(name: str) -> str:
    """A name with nothing in it that Markdown or a terminal would act on."""
    shown = printable(name, LONGEST)
    return "".join("\\" + letter if letter in r"\`*|<>[]" else letter for letter in shown)


def checksums_line(checksums: Mapping[str, str | None]) -> str:
    """One line with the checksum of the images of every class."""
    known = (f"{markdown_text(name)} {checksum or DASH}" for name, checksum in checksums.items())
    return f"Checksums of the images: {', '.join(known)}"


def system_title(system: str) -> str:
    """The heading of a published system's column."""
    return "the paper" if system == "paper" else system


def with_difference(metric: str, ours: float | None, published: Published | None) -> str:
    """A published number, and in brackets our number minus the published one."""
    if published is None:
        return DASH
    shown = format_number(metric, published.value) + ("" if published.confirmed else " ?")
    if ours is None:
        return shown
    return f"{shown} ({format_number(metric, ours - published.value, sign='+')})"
