"""Names and numbers as they are shown: on one line, in letters that can be drawn."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

LONGEST = 40  # letters of a name in a legend or a column; a longer one pushes the rest away
DASH = "\u2013"  # in place of a number that does not exist
FORMATS = {"seconds": ".1f", "seconds_per_image": ".4f", "score": ".5g", "p_value": ".4f"}


def printable(name: str, longest: int | None = None) -> str:
    """The name with a replacement character for every letter that cannot be shown.

    Args:
        name: of a file or folder. It may hold newlines, controls and bytes that are no text.
        longest: letters to keep; the middle of a longer name is left out. None keeps all.
    """
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if longest is None or len(shown) <= longest:
        return shown
    return f"{shown[: longest // 2]}\u2026{shown[-(longest - longest // 2 - 1) :]}"


def format_number(name: str, value: float | int | None, sign: str = "") -> str:
    """A number as it is shown.

    Args:
        name: of the metric or column, which decides the digits.
        value: counts are shown whole, None as a dash.
        sign: ``+`` shows the sign of positive numbers too.
    """
    if value is None:
        return DASH
    return format(value, sign + ("d" if isinstance(value, int) else FORMATS.get(name, ".3f")))


def format_with_interval(
    name: str, value: float | int | None, ends: tuple[float, float] | None
) -> str:
    """A number and, in brackets, its interval if there is one: ``0.995 [0.984, 1.000]``."""
    shown = format_number(name, value)
    if value is None or ends is None:
        return shown
    return f"{shown} [{', '.join(format_number(name, end) for end in ends)}]"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV table with numbers in full precision; None is an empty field.

    Args:
        columns: names and order of the columns.
        rows: by column; other keys are ignored.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
