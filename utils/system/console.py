"""What is said to the user on stderr, beside errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence

UNTRAINED = (
    "UNTRAINED WEIGHTS: the network was never trained, so these are not results of PaDiM; "
    "they show that the program runs"
)
DEMO = "DEMO IMAGES: drawn by this program, so the numbers say nothing about real ones"


def warn(warnings: Sequence[str]) -> None:
    """Print what must be read beside the numbers, a line each."""
    sys.stdout.flush()  # so that the lines come in the order they are written
    for warning in warnings:
        print(f"!!! {warning}", file=sys.stderr, flush=True)


def one_line(message: str) -> str:
    """The message with all that would end the line, or steer a terminal, written out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in message
    )
