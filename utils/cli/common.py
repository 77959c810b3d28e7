"""What the scripts' options share: the parser, the types and the groups found in several scripts.

Nothing heavy is imported, so ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import padim
from padim.errors import nearest_name
from utils.cli.errors import BAD_INPUT
from utils.evaluation.metric_names import DEFAULT_METRICS, METRICS
from utils.system.console import one_line
from utils.system.environment import local_world_size
from utils.system.stop import is_first_process

WEIGHTS = "imagenet|random|FILE"

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line instead of the usage.

    Args:
        description: what the script does, shown by ``--help``.
        example: of its options, shown too.
    """

    def __init__(self, description: str, example: str) -> None:
        super().__init__(
            description=description,
            epilog=f"example:  python %(prog)s {example}",
            allow_abbrev=False,  # --data would be accepted now and mean something else later
        )
        version = getattr(padim, "__version__", "(version unknown)")
        self.add_argument("--version", action="version", version=f"padim {version}")

    def error(self, message: str) -> NoReturn:
        line = f"{self.prog}: error: {one_line(message)} (--help lists the options)\n"
        self.exit(BAD_INPUT, line if is_first_process() else None)

    def options(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The options of a command line. Every one has a value where it needs one.

        argparse takes ``--`` after ``=`` for the end of the options, and gives an empty list or
        nothing for a value. An empty value is an empty variable of a shell: as a path it would be
        the working directory.
        """
        for argument in sys.argv[1:] if argv is None else argv:
            name, sign, value = argument.partition("=")
            if not argument or (name.startswith("--") and sign and value in ("", "--")):
                self.error(f"argument {name or repr(argument)}: '{value}' is no value")
        args, unknown = self.parse_known_args(argv)
        if unknown:
            hint = nearest_name(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unknown argument {unknown[0]}{hint}")
        return args

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """As argparse, whose message does not name the nearest choice before Python 3.14."""
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            hint = nearest_name(value, map(str, action.choices)) or ";"
            raise argparse.ArgumentError(
                action, f"'{value}' is unknown{hint} expected one of {known}"
            )


def add_running(parser: Parser) -> argparse._ArgumentGroup:
    """Add the group of options that say how a script runs, not what it computes."""
    running = parser.add_argument_group("running")
    running.add_argument(
        "--batch_size",
        type=whole_number(1),
        default=16,
        help="images per batch (default: %(default)s)",
    )
    running.add_argument(
        "--num_workers",
        type=whole_number(0),
        default=_default_workers(),
        help="processes that decode images; 0 decodes in the main process (default: as many as "
        "there are cores, at most 8)",
    )
    running.add_argument(
        "--device",
        type=device,
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)",
    )
    return running


def add_classes(group: argparse._ActionsContainer) -> None:
    """Add ``--classes``."""
    group.add_argument("--classes", nargs="+", metavar="CLASS", help="classes to run; default: all")


def add_cache(group: argparse._ActionsContainer) -> None:
    """Add ``--image_cache``."""
    group.add_argument(
        "--image_cache",
        type=Path,
        metavar="DIR",
        help="keep decoded images in this folder, for other seeds and backbones",
    )


def add_rate(group: argparse._ActionsContainer) -> None:
    """Add ``--false_alarm_rate``."""
    group.add_argument(
        "--false_alarm_rate",
        type=rate,
        default=0.01,
        metavar="RATE",
        help="false positive rate of the thresholds: the share of normal images, and of normal "
        "pixels, that may exceed them (default: %(default)s)",
    )


def add_metrics(group: argparse._ActionsContainer) -> None:
    """Add ``--metrics``."""
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        default=list(DEFAULT_METRICS),
        help="columns of the printed table, results.md and the page; results.csv and results.json "
        f"have all. Names: {', '.join(METRICS)} (default: the first {len(DEFAULT_METRICS)})",
    )


def metric_names(parser: Parser, given: Sequence[str]) -> tuple[str, ...]:
    """The names that ``--metrics`` gives; an unknown one, or one given twice, is a mistake."""
    names = split_names(given)
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        what = f"{unknown[0]} is no metric" if unknown else "names no metric"
        parser.error(f"--metrics {what}; expected some of {', '.join(METRICS)}")
    if len(set(names)) < len(names):
        parser.error("--metrics names one twice")
    return tuple(names)


def split_names(given: Sequence[str]) -> list[str]:
    """The names in what was given: "a b", "a,b" and "a, b" all are two."""
    return [part for name in given for part in name.split(",") if part]


def add_model(group: argparse._ActionsContainer) -> None:
    """Add ``--model`` and the weights of its network."""
    group.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="FILE",
        help="a fitted model: models/CLASS.safetensors of a run",
    )
    group.add_argument(
        "--weights",
        metavar=WEIGHTS,
        help="weights of the network; default: those the model was fitted with",
    )


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: whole numbers from ``low`` to ``high``."""
    expected = f"a whole number from {low}" + (" up" if high is None else f" to {high}")

    def convert(text: str) -> int:
        value = _number(int, text, expected)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text} is out of range; give {expected}")
        return value

    return convert


def real_number(allow_zero: bool, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: finite numbers from 0 to ``high``."""
    expected = "a number from 0 up" if allow_zero else "a number above 0"
    expected += f" and at most {high:g}" if high < math.inf else ""

    def convert(text: str) -> float:
        value = _number(float, text, expected)
        if not 0 <= value <= high or math.isinf(value) or (value == 0 and not allow_zero):
            raise argparse.ArgumentTypeError(f"{text} is out of range; give {expected}")
        return value

    return convert


def rate(text: str) -> float:
    """An argparse type: numbers above 0 and below 1."""
    expected = "a number above 0 and below 1"
    value = _number(float, text, expected)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range; give {expected}")
    return value


def figures(text: str) -> int | None:
    """An argparse type: a number of figures, ``none`` for 0, ``all`` for None."""
    words = {"all": None, "none": 0}
    if text in words or text.isdecimal():
        return words[text] if text in words else int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not all, none or a whole number from 0 up")


def device(text: str) -> str:
    """An argparse type: the name of a device."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", text, re.ASCII):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is not auto, cpu, cuda, cuda:N or mps")


def _number(kind: Callable[[str], Number], text: str, expected: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; give {expected}") from None


def _default_workers() -> int:
    if hasattr(os, "sched_getaffinity"):  # in a container these are fewer than cpu_count()
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    return max(1, min(8, n_cores // local_world_size()))
