"""The options of ``compare.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.cli import common
from utils.cli.common import Parser
from utils.experiment.options import CompareOptions


def parse_compare_options(argv: Sequence[str] | None = None) -> CompareOptions:
    """Parse and check all that can be checked without reading the runs.

    Args:
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    parser = Parser(
        "The differences of two runs over the same test images, with their intervals",
        "--runs result/resnet18_rd100 result/resnet18_all_channels",
    )
    parser.add_argument(
        "--runs",
        nargs=2,
        type=Path,
        required=True,
        metavar="DIR",
        help="the folders of two runs, each with its records; shown is the second minus the first",
    )
    common.add_metrics(parser)
    args = parser.options(argv)
    first, second = args.runs
    return CompareOptions(first, second, common.metric_names(parser, args.metrics))
