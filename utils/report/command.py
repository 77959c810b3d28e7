"""Options as the command line that makes a run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

UNSAID = ("overwrite",)  # it says what happens to earlier results, not what the results are


def command_line(script: str, options: Any, *others: str) -> str:
    """The command line of some options, each spelled out, for a POSIX shell.

    Args:
        script: such as ``main_resnet.py``.
        options: a dataclass whose fields have the names of the options.
        others: words that are no fields, put before them.
    """
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    if values.get("seeds") is not None:
        values.pop("seed")
    words = ["python", script, *others]
    for name, value in values.items():
        if name not in UNSAID:
            words += _words(f"--{name}", value, name)
    return shlex.join(words)


def _words(option: str, value: object, name: str) -> Iterator[str]:
    if name == "figures" and value in (None, 0):
        value = "all" if value is None else "none"
    if value is None or value is False:
        return
    items = [] if value is True else list(_items(value))
    if len(items) == 1 and items[0].startswith("-"):  # argparse would take it for an option
        yield f"{option}={items[0]}"
    else:
        yield from (option, *items)


def _items(value: object) -> Iterable[str]:
    if isinstance(value, Mapping):  # of weights: one for all, or one for each backbone
        different = set(value.values())
        if len(different) == 1 and different <= {"imagenet", "random"}:
            return [str(*different)]
        return [f"{name}={item}" for name, item in value.items()]
    if isinstance(value, (tuple, list)):
        return [str(item) for item in value]
    return [str(value)]
