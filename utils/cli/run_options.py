"""The options of ``main_resnet.py``, ``main_wide_resnet.py`` and ``main_eff_net.py``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.layouts.catalogue import CATALOGUE, RD_VERSIONS
from padim.config import PRECISIONS
from utils.cli import common
from utils.cli.common import Parser, real_number, whole_number
from utils.experiment.options import RunOptions

REDUCTIONS = ("random", "semi_orthogonal", "pca", "none")


@dataclass(frozen=True)
class PaperDefaults:
    """What the paper runs a backbone with.

    Attributes:
        title: the network's name as the literature writes it.
        reduction: how channels are reduced.
        embedding_dim: channels kept, if they are reduced.
    """

    title: str
    reduction: str
    embedding_dim: int


PAPER_DEFAULTS: Mapping[str, PaperDefaults] = {
    "resnet18": PaperDefaults("ResNet-18", "random", 100),
    "wide_resnet50_2": PaperDefaults("Wide ResNet-50-2", "random", 550),
    "efficientnet_b5": PaperDefaults("EfficientNet-B5", "none", 100),
}


def parse_run_options(backbone: str, argv: Sequence[str] | None = None) -> RunOptions:
    """Parse and check all that can be checked without looking at the data.

    Args:
        backbone: a key of ``PAPER_DEFAULTS``.
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    defaults = PAPER_DEFAULTS[backbone]
    parser = Parser(f"PaDiM with {defaults.title} on MVTec AD or data in its layout")
    _add_data(parser.add_argument_group("data"))
    _add_method(parser.add_argument_group("method"), defaults)
    _add_running(parser)
    args = parser.parse_args(argv)
    _complete_data(parser, args)
    _complete_method(parser, args, defaults)
    for name in ("classes", "layers", "seeds"):
        if getattr(args, name) is not None:
            setattr(args, name, tuple(getattr(args, name)))
    return RunOptions(**vars(args))


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--data_path", type=Path, help="folder of the data set; default: draw a small demo set"
    )
    data.add_argument(
        "--dataset",
        choices=CATALOGUE,
        default="mvtec",
        help="the layout of --data_path (default: %(default)s)",
    )
    data.add_argument(
        "--rd_version",
        type=whole_number(0, RD_VERSIONS - 1),
        metavar="N",
        help="random version of --dataset rd_mvtec (default: 0)",
    )
    data.add_argument(
        "--save_path",
        type=Path,
        default=Path("result"),
        help="folder for results (default: %(default)s)",
    )
    common.add_classes(data)
    data.add_argument(
        "--resize",
        type=whole_number(1, common.MAX_SIDE),
        default=256,
        help="side in pixels an image is resized to (default: %(default)s)",
    )
    data.add_argument(
        "--crop",
        type=_crop,
        help="side of the centre crop in pixels, or none; default: 224 for MVTec AD and Rd-MVTec "
        "AD, none for other data sets",
    )


def _add_method(method: argparse._ArgumentGroup, defaults: PaperDefaults) -> None:
    method.add_argument(
        "--weights",
        default="imagenet",
        metavar=common.WEIGHTS,
        help="imagenet (downloaded once), random (only to try the program), or a file "
        "(default: %(default)s)",
    )
    method.add_argument(
        "--layers", nargs="+", metavar="LAYER", help="feature layers; default: the paper's"
    )
    method.add_argument(
        "--network_precision",
        choices=PRECISIONS,
        default="float32",
        help="bfloat16 takes half the network's time on processors that support it, at 8 bits of "
        "precision (default: %(default)s)",
    )
    _add_reduction(method, defaults)
    method.add_argument(
        "--epsilon",
        type=real_number(allow_zero=False, high=1e6),
        default=0.01,
        help="added to the diagonal of every covariance (default: %(default)s)",
    )
    method.add_argument(
        "--sigma",
        type=real_number(allow_zero=True),
        default=4.0,
        help="standard deviation in pixels that smooths the map (default: %(default)s)",
    )
    common.add_rate(method)


def _add_reduction(method: argparse._ArgumentGroup, defaults: PaperDefaults) -> None:
    method.add_argument(
        "--reduction",
        choices=REDUCTIONS,
        default=defaults.reduction,
        help="how channels are reduced (default: %(default)s)",
    )
    method.add_argument(
        "--embedding_dim",
        type=whole_number(1),
        help=f"channels kept; default: {defaults.embedding_dim}, or all with --reduction none",
    )
    seeds = method.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed",
        type=whole_number(0, common.MAX_SEED),
        default=0,
        help="seed of the channels drawn (default: %(default)s)",
    )
    seeds.add_argument(
        "--seeds",
        type=whole_number(0, common.MAX_SEED),
        nargs="+",
        metavar="SEED",
        help="several seeds: a run for each, from one pass over the images, and their means",
    )


def _add_running(parser: Parser) -> None:
    running = common.add_running(parser)
    common.add_cache(running)
    running.add_argument(
        "--figures",
        type=common.figures,
        default="all",
        metavar="all|N|none",
        help="figures per class; N takes the worst ranked images first (default: %(default)s)",
    )
    running.add_argument(
        "--model_precision",
        choices=("float32", "float16"),
        default="float32",
        help="how models are stored; float16 takes half the space (default: %(default)s)",
    )
    running.add_argument(
        "--overwrite", action="store_true", help="run classes again that are already finished"
    )


def _complete_data(parser: Parser, args: argparse.Namespace) -> None:
    if args.dataset != "mvtec" and args.data_path is None:
        parser.error(f"--dataset {args.dataset} needs --data_path, its folder")
    if args.dataset != "rd_mvtec" and args.rd_version is not None:
        parser.error("--rd_version applies to --dataset rd_mvtec only")
    if args.dataset == "rd_mvtec" and args.rd_version is None:
        args.rd_version = 0
    if args.crop is None:
        args.crop = CATALOGUE[args.dataset].crop or args.resize
    if args.crop == "none":
        args.crop = args.resize
    if args.crop > args.resize:
        parser.error(f"--crop {args.crop} is larger than --resize {args.resize}")


def _complete_method(parser: Parser, args: argparse.Namespace, defaults: PaperDefaults) -> None:
    if args.seeds is not None and len(set(args.seeds)) < len(args.seeds):
        parser.error("--seeds names one twice")
    if args.sigma > args.crop:
        parser.error(f"--sigma {args.sigma:g} is larger than the image, {args.crop} pixels")
    if args.layers is not None:  # "a b", "a,b" and "a, b" all name two
        args.layers = [part for name in args.layers for part in name.split(",") if part]
        if not args.layers:
            parser.error("--layers names no layer; leave it out for the paper's")
    if args.reduction == "none" and args.embedding_dim is not None:
        parser.error(
            "--embedding_dim: --reduction none keeps all channels; give another --reduction"
        )
    if args.reduction != "none" and args.embedding_dim is None:
        args.embedding_dim = defaults.embedding_dim


def _crop(text: str) -> int | str:
    return text if text == "none" else whole_number(1, common.MAX_SIDE)(text)
