"""The options of ``reproduce.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.cli import common
from utils.cli.common import Parser, whole_number
from utils.reproduction.options import ReproduceOptions
from utils.reproduction.plan import BACKBONES, DRAWS, TABLES


def parse_reproduce_options(argv: Sequence[str] | None = None) -> ReproduceOptions:
    """Parse and check all that can be checked without looking at the data.

    Args:
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    parser = Parser(
        "Run the configurations of the paper's tables and compare the results",
        "--data_path MVTec --backbones resnet18 --tables layers reduction",
    )
    _add_data(parser.add_argument_group("data"))
    _add_method(parser.add_argument_group("method"))
    common.add_cache(common.add_running(parser))
    args = parser.options(argv)
    if args.tables is None:
        args.tables = [table for table in TABLES if table != "stc" or args.stc_path is not None]
    if "stc" in args.tables and args.stc_path is None:
        parser.error("--tables stc needs --stc_path, the folder of ShanghaiTech Campus")
    if set(args.tables) != {"stc"} and args.data_path is None:
        parser.error("--data_path is missing: the folder of MVTec AD's classes")
    try:
        args.weights = weights_by_backbone(args.weights, args.backbones)
    except ValueError as error:
        parser.error(f"--weights {error}")
    args.classes = None if args.classes is None else tuple(args.classes)
    args.tables, args.backbones = tuple(args.tables), tuple(args.backbones)
    return ReproduceOptions(**vars(args))


def weights_by_backbone(given: Sequence[str], backbones: Sequence[str]) -> dict[str, str]:
    """What ``--weights`` says for each backbone.

    Args:
        given: ``imagenet`` or ``random``, for all backbones; a file, if there is one backbone; or
            items NAME=FILE. Backbones that no item names get ``imagenet``.
        backbones: those that are run.

    Raises:
        ValueError: anything else.
    """
    if len(given) == 1 and given[0] in ("imagenet", "random"):
        return dict.fromkeys(backbones, given[0])
    files = {}
    for item in given:
        name, _, file = item.partition("=")
        if name in BACKBONES and file and file != "random":
            files[name] = file
        elif len(given) == len(backbones) == 1 and name not in BACKBONES:
            files[backbones[0]] = item
        else:
            raise ValueError(
                f"{item}: give imagenet, random, a file if one backbone is run, or NAME=FILE with "
                f"NAME one of {', '.join(BACKBONES)}"
            )
    return {name: files.get(name, "imagenet") for name in backbones}


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument("--data_path", type=Path, help="folder of classes in the MVTec AD layout")
    data.add_argument(
        "--stc_path", type=Path, help="folder of ShanghaiTech Campus; default: do not run it"
    )
    data.add_argument(
        "--save_path",
        type=Path,
        default=Path("reproduction"),
        help="folder for tables and records (default: %(default)s)",
    )
    common.add_classes(data)


def _add_method(method: argparse._ArgumentGroup) -> None:
    method.add_argument(
        "--tables",
        nargs="+",
        choices=TABLES,
        metavar="TABLE",
        help=f"tables to run: {', '.join(TABLES)}; default: all that there is data for",
    )
    method.add_argument(
        "--backbones",
        nargs="+",
        choices=BACKBONES,
        default=list(BACKBONES),
        metavar="NAME",
        help=f"backbones to run: {', '.join(BACKBONES)}; default: all",
    )
    method.add_argument(
        "--weights",
        nargs="+",
        default=["imagenet"],
        metavar=common.WEIGHTS,
        help="imagenet (downloaded once), random (only to try the program), or a file; for "
        "several backbones a file is given as NAME=FILE (default: imagenet)",
    )
    method.add_argument(
        "--draws",
        type=whole_number(1, 1000),
        default=DRAWS,
        help="random draws that a table's means are over (default: %(default)s)",
    )
