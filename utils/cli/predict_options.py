"""The options of ``predict.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.cli import common
from utils.cli.common import Parser
from utils.prediction.options import PredictOptions


def parse_predict_options(argv: Sequence[str] | None = None) -> PredictOptions:
    """Parse the options.

    Args:
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    parser = Parser(
        "Judge new images with a fitted model: no labels, no masks, any folders",
        "--model result/resnet18_rd100/models/bottle.safetensors --input photos --save_path judged",
    )
    _add_data(parser.add_argument_group("data"))
    _add_judging(parser.add_argument_group("judging"))
    running = common.add_running(parser)
    running.add_argument(
        "--overwrite", action="store_true", help="replace an earlier prediction in --save_path"
    )
    running.add_argument(
        "--watch",
        action="store_true",
        help="go on until stopped and judge images as they arrive in the folders of --input; what "
        "is in --save_path already is not judged again",
    )
    args = parser.options(argv)
    args.input = tuple(args.input)
    if args.maps == "mvtec_ad2" and args.map_size != "original":
        parser.error("--maps mvtec_ad2 covers the original image: leave --map_size out")
    if args.watch and args.maps == "mvtec_ad2":
        parser.error("--watch does not go with --maps mvtec_ad2, which is for a whole test set")
    return PredictOptions(**vars(args))


def _add_data(data: argparse._ArgumentGroup) -> None:
    common.add_model(data)
    data.add_argument(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR|FILE",
        help="images, or folders that are searched for images at any depth",
    )
    data.add_argument("--save_path", type=Path, required=True, help="folder for results")


def _add_judging(judging: argparse._ArgumentGroup) -> None:
    common.add_rate(judging)
    judging.add_argument(
        "--maps",
        choices=("all", "none", "mvtec_ad2"),
        default="all",
        help="anomaly maps as 16-bit PNG; mvtec_ad2 writes the files that the evaluation server of "
        "MVTec AD 2 takes instead (default: %(default)s)",
    )
    judging.add_argument(
        "--map_size",
        choices=("original", "crop"),
        default="original",
        help="what a 16-bit map covers: the original image, or the crop (default: %(default)s)",
    )
    judging.add_argument(
        "--npy", action="store_true", help="also write the maps of the crops as float32 .npy"
    )
    judging.add_argument(
        "--figures",
        type=common.figures,
        default="200",
        metavar="all|N|none",
        help="overlays; N takes the images with the highest scores (default: %(default)s)",
    )
    judging.add_argument(
        "--min_area",
        type=common.whole_number(1),
        default=1,
        metavar="PIXELS",
        help="smallest region above the pixel threshold that is listed and gets a box, in pixels "
        "of the anomaly map (default: %(default)s)",
    )
