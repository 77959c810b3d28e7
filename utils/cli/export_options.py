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
        choices=("image", "uint8", "normalised"),
        default="image",
        help="what the graph takes: uint8 images (B, h, w, 3) of any size, uint8 crops, or float32 "
        "crops normalised as the network takes them (default: %(default)s)",
    )
    common.add_rate(parser)
    parser.add_argument(
        "--float16",
        action="store_true",
        help="store large tensors as float16: half the size; they are computed with in float32",
    )
    parser.add_argument(
        "--verify",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR|FILE",
        help="compare the graph with the model on these images, print the largest differences, and "
        "write no graph if they are too large",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing --output")
    args = parser.options(argv)
    args.verify = tuple(args.verify)
    return ExportOptions(**vars(args))
