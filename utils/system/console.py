"""What the user is told apart from errors and results: warnings, lines and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from utils.system.stop import check_stop

UNTRAINED = (
    "UNTRAINED WEIGHTS: the network was never trained, so these are not results of PaDiM; "
    "they show that the program runs"
)
DEMO = "DEMO IMAGES: drawn by this program, so the numbers say nothing about real ones"

LOG_SECONDS = 30  # between two lines of progress where there is no terminal
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


class Pace:
    """How far a piece of work is, and when it will probably end.

    Args:
        total: units of work in all.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._started = time.monotonic()

    def left(self) -> str:
        """Such as ``about 3 min left``; nothing if all is done or nothing is known."""
        if not 0 < self.done < self.total:
            return ""
        elapsed = time.monotonic() - self._started
        return f"about {duration(elapsed / self.done * (self.total - self.done))} left"


def duration(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def progress(
    items: Iterable[Item],
    total: int,
    class_name: str,
    phase: str,
    unit: str = "image",
    is_shown: bool = True,
) -> Iterator[Item]:
    """Go through items under a progress bar; without a terminal, a line every ``LOG_SECONDS``.

    Before every item it is seen whether the script is to stop.

    Args:
        items: items, or batches, which count by their length.
        total: items in all.
        class_name: what is worked on, such as "bottle".
        phase: what is done, such as "fit".
        unit: what is counted.
        is_shown: whether anything is shown.
    """
    from tqdm import tqdm  # not at the top, so that --help is instant

    label = f"{class_name}: {phase}"
    has_bar = is_shown and sys.stderr.isatty()
    pace, last_line = Pace(total), time.monotonic()
    with tqdm(total=total, desc=label, unit=unit, disable=not has_bar, leave=False) as bar:
        for item in items:
            check_stop()
            yield item
            count = len(item) if hasattr(item, "__len__") else 1
            bar.update(count)
            pace.done += count
            if is_shown and not has_bar and time.monotonic() - last_line >= LOG_SECONDS:
                last_line = time.monotonic()
                say(", ".join(filter(None, (f"{label} {pace.done} of {total}", pace.left()))))


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line, to stderr if no file is given, above the progress bar if there is one."""
    from tqdm import tqdm

    file = file or sys.stderr
    tqdm.write(line, file=file)
    file.flush()
