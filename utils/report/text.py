"""Names of files and folders as they are shown: on one line, in letters that can be drawn."""

from __future__ import annotations

LONGEST = 40  # letters; what stands in a legend or a table column should not push the rest away


def printable(name: str, longest: int | None = None) -> str:
    """The name with a replacement character for every letter that cannot be shown.

    Args:
        name: of a file or folder, which may hold newlines, controls and bytes that are no text.
        longest: letters to keep, the middle of a longer name left out; None for all.
    """
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if longest is None or len(shown) <= longest:
        return shown
    return f"{shown[: longest // 2]}\u2026{shown[-(longest - longest // 2 - 1) :]}"
