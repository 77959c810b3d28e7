"""The options of ``export.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.cli import common
from utils.cli.common import Parser
from utils.prediction.options import ExportOptions


def parse_export_options(argv: Sequence[str] | None = None) -> ExportOptions:
    """Parse the options.

    Args:
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    parser = Parser(
        "Write a fitted model and its network as one ONNX graph",
        "--model result/resnet18_rd100/models/bottle.safetensors --output bottle.onnx",
    )
    common.add_model(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.onnx", help="the file to write"
    )
    parser.add_argument(
        "--input_type",
        choices=("uint8", "normalised"),
        default="uint8",
        help="what the graph takes: uint8 crops, or float32 crops normalised as the network "
        "takes them (default: %(default)s)",
    )
    return ExportOptions(**vars(parser.options(argv)))
