"""What the user is told on stderr apart from errors: warnings, lines and progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from utils.system.stop import check_stop

UNTRAINED = (
    "UNTRAINED WEIGHTS: the network was never trained, so these are not results of PaDiM; "
    "they show that the program runs"
)
DEMO = "DEMO IMAGES: drawn by this program, so the numbers say nothing about real ones"

Item = TypeVar("Item")


def warn(warnings: Sequence[str]) -> None:
    """Print what must be read with the numbers, one line each."""
    sys.stdout.flush()  # keeps the lines in the order they are written
    for warning in warnings:
        print(f"!!! {warning}", file=sys.stderr, flush=True)


def one_line(message: str) -> str:
    """Escape everything in a message that would end the line or steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in message
    )


def progress(
    items: Iterable[Item],
    total: int,
    class_name: str,
    phase: str,
    unit: str = "image",
    is_shown: bool = True,
) -> Iterator[Item]:
    """Go through items under a progress bar. Without a terminal there is no bar.

    Before every item it is seen whether the script is to stop.

    Args:
        items: items, or batches, which count by their length.
        total: items in all.
        class_name: what is worked on, such as "bottle".
        phase: what is done, such as "fit".
        unit: what is counted.
        is_shown: whether there is a bar on a terminal.
    """
    from tqdm import tqdm  # not at the top, so that --help is instant

    is_disabled = None if is_shown else True  # None: disabled without a terminal
    label = f"{class_name}: {phase}"
    with tqdm(total=total, desc=label, unit=unit, disable=is_disabled, leave=False) as bar:
        for item in items:
            check_stop()
            yield item
            bar.update(len(item) if hasattr(item, "__len__") else 1)


def say(line: str) -> None:
    """Print a line to stderr, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
