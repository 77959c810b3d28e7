"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    items: Iterable[Item],
    total: int,
    class_name: str,
    phase: str,
    unit: str = "image",
    is_shown: bool = True,
) -> Iterator[Item]:
    """Go through items under a bar that counts images, quiet when nobody is watching.

    Args:
        items: images, or batches, which count by their length.
        total: images in all.
        class_name, phase: what is going on, such as "bottle" and "fit".
        unit: what is counted.
        is_shown: whether there is a bar at all, on a terminal.
    """
    description = f"{class_name}: {phase}"
    with tqdm(
        total=total, desc=description, unit=unit, disable=None if is_shown else True, leave=False
    ) as bar:
        for item in items:
            yield item
            bar.update(len(item) if hasattr(item, "__len__") else 1)


def say(line: str) -> None:
    """Print a line to stderr, above the bar where there is one."""
    tqdm.write(line, file=sys.stderr)
