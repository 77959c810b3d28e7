"""The options of the ``main_*.py`` scripts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.layouts import LAYOUTS, RD_VERSIONS
from padim.config import (
    MAX_BITS,
    MAX_SEED,
    MAX_SIDE,
    MIN_BITS,
    PRECISIONS,
    REDUCTIONS,
    TIMM,
    TITLES,
    PaDiMConfig,
)
from utils.cli import common
from utils.cli.common import Parser, real_number, split_names, whole_number
from utils.experiment.options import RunOptions

PAPER = PaDiMConfig()


def parse_run_options(backbone: str, argv: Sequence[str] | None = None) -> RunOptions:
    """Parse and check all that can be checked without looking at the data.

    Args:
        backbone: a key of ``padim.config.TITLES``.
        argv: arguments; None for the command line's.

    Raises:
        SystemExit: after ``--help`` and ``--version``; with status 2 and one line on a mistake.
    """
    defaults = PaDiMConfig.of_paper(backbone)
    parser = Parser(
        f"PaDiM with {TITLES[backbone]} on MVTec AD or data in its layout",
        "--data_path MVTec --save_path result --classes bottle",
    )
    _add_groups(parser, defaults)
    if backbone == "efficientnet_b5":
        _set_help(parser, layers="of stem, block1 to block39; default: block7 block20 block26")
    args = parser.options(argv)
    return _complete(parser, args, defaults)


def parse_timm_options(
    config_of: Callable[[str, Sequence[str] | None], PaDiMConfig],
    argv: Sequence[str] | None = None,
) -> tuple[str, RunOptions]:
    """Parse the options of ``main_timm.py``, whose defaults are the network's own.

    Args:
        config_of: the default configuration of a backbone with some feature layers. It is asked
            when the arguments are known to be good, for it imports timm.
        argv: arguments; None for the command line's.

    Returns:
        The backbone, and the options of its run.

    Raises:
        ModelError: the backbone or a layer is unknown, or timm is not installed.
        SystemExit: as ``parse_run_options``.
    """
    parser = _timm_parser()
    args = parser.options(argv)
    backbone = TIMM + args.backbone.removeprefix(TIMM)
    del args.backbone
    _split_layers(parser, args)
    defaults = config_of(backbone, args.layers)
    has_crop = LAYOUTS[args.dataset].crop is not None and args.crop != "none"
    if args.crop is None and has_crop:
        args.crop = defaults.crop
    if args.resize is None:
        of_crop = args.crop if isinstance(args.crop, int) else defaults.crop
        args.resize = round(of_crop * PAPER.resize / PAPER.crop) if has_crop else of_crop
    return backbone, _complete(parser, args, defaults)


def _timm_parser() -> Parser:
    parser = Parser(
        "PaDiM with any network of timm on MVTec AD or data in its layout",
        "--backbone convnext_tiny --data_path MVTec --save_path result",
    )
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="NAME",
        help="a network of timm, such as convnext_tiny or, with its weights named, "
        "resnet50.a1_in1k",
    )
    _add_groups(parser, PAPER)
    of_network = "default: as the network was trained"
    parser.set_defaults(resize=None)
    _set_help(parser, resize=f"side in pixels an image is resized to; {of_network}")
    _set_help(parser, crop=f"side of the centre crop in pixels, or none; {of_network}")
    _set_help(parser, weights="imagenet (timm's own), random (only to try the program), or a file")
    _set_help(
        parser, layers="feature layers; default: those of stride 4, 8 and 16, or three blocks"
    )
    return parser


def _add_groups(parser: Parser, defaults: PaDiMConfig) -> None:
    _add_data(parser.add_argument_group("data"))
    _add_method(parser.add_argument_group("method"), defaults)
    _add_running(parser)


def _set_help(parser: Parser, **texts: str) -> None:
    """Say something else of an option than the scripts of the paper's networks do."""
    for action in parser._actions:
        action.help = texts.get(action.dest, action.help)


def _complete(parser: Parser, args: argparse.Namespace, defaults: PaDiMConfig) -> RunOptions:
    _split_layers(parser, args)
    _complete_data(parser, args)
    _complete_method(parser, args, defaults)
    args.metrics = common.metric_names(parser, args.metrics)
    for name in ("classes", "layers", "seeds"):
        if getattr(args, name) is not None:
            setattr(args, name, tuple(getattr(args, name)))
    return RunOptions(**vars(args))


def _split_layers(parser: Parser, args: argparse.Namespace) -> None:
    if args.layers is not None:
        args.layers = split_names(args.layers)
        if not args.layers:
            parser.error("--layers names no layer; leave it out for the default ones")


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--data_path", type=Path, help="folder of the data set; default: draw a small demo set"
    )
    data.add_argument(
        "--dataset",
        choices=LAYOUTS,
        default="mvtec",
        help="the layout of --data_path, as the data set is published; docs/data_sets.md shows "
        "each (default: %(default)s)",
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
        type=whole_number(1, MAX_SIDE),
        default=PAPER.resize,
        help="side in pixels an image is resized to (default: %(default)s)",
    )
    data.add_argument(
        "--crop",
        type=_crop,
        help="side of the centre crop in pixels, or none for the whole image; default: "
        f"{LAYOUTS['mvtec'].crop} for the classes of MVTec AD and Rd-MVTec AD, none for all others",
    )
    data.add_argument(
        "--bits",
        type=whole_number(MIN_BITS, MAX_BITS),
        default=MAX_BITS,
        help="bits that hold the values of 16-bit images, such as 10 or 12 for a camera of so many "
        "(default: %(default)s)",
    )
    data.add_argument(
        "--region",
        metavar="FILE",
        help="a mask of the images' shape, white where to look: all else is not learned, and 0 in "
        "maps; none looks everywhere; default: CLASS/region.png in --data_path for a class that "
        "has it",
    )


def _add_method(method: argparse._ArgumentGroup, defaults: PaDiMConfig) -> None:
    method.add_argument(
        "--weights",
        default="imagenet",
        metavar=common.WEIGHTS,
        help="imagenet (downloaded once), random (only to try the program), or a file "
        "(default: %(default)s)",
    )
    method.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="of stem, layer1 to layer4; default: layer1 layer2 layer3",
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
        default=PAPER.epsilon,
        help="added to the diagonal of every covariance (default: %(default)s)",
    )
    method.add_argument(
        "--sigma",
        type=real_number(allow_zero=True),
        default=PAPER.sigma,
        help="standard deviation in pixels that smooths the map (default: %(default)s)",
    )
    common.add_rate(method)


def _add_reduction(method: argparse._ArgumentGroup, defaults: PaDiMConfig) -> None:
    method.add_argument(
        "--reduction",
        choices=REDUCTIONS,
        default=defaults.reduction,
        help="how channels are reduced (default: %(default)s)",
    )
    method.add_argument(
        "--embedding_dim",
        type=whole_number(1),
        help=f"channels kept; default: {_usual_dim(defaults)}, or all with --reduction none",
    )
    seeds = method.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed",
        type=whole_number(0, MAX_SEED),
        default=PAPER.seed,
        help="seed of the channels drawn (default: %(default)s)",
    )
    seeds.add_argument(
        "--seeds",
        type=whole_number(0, MAX_SEED),
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
    common.add_metrics(running)
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
    if args.dataset == "rd_mvtec" and args.region not in (None, "none"):
        parser.error(
            "--region: the images of --dataset rd_mvtec are turned and cropped at random, each in "
            "its own way; leave it out"
        )
    layout = LAYOUTS[args.dataset]
    if args.crop is None and not layout.is_crop_published:
        args.crop = layout.crop or args.resize  # else the classes decide, when they are known
    if args.crop == "none":
        args.crop = args.resize
    if args.crop is not None and args.crop > args.resize:
        parser.error(f"--crop {args.crop} is larger than --resize {args.resize}")


def _complete_method(parser: Parser, args: argparse.Namespace, defaults: PaDiMConfig) -> None:
    if args.seeds is not None and len(set(args.seeds)) < len(args.seeds):
        parser.error("--seeds names one twice")
    side = args.crop or args.resize
    if args.sigma > side:
        parser.error(f"--sigma {args.sigma:g} is larger than the image, {side} pixels")
    if args.reduction == "none" and args.embedding_dim is not None:
        parser.error(
            "--embedding_dim: --reduction none keeps all channels; give another --reduction"
        )
    if args.reduction != "none" and args.embedding_dim is None:
        args.embedding_dim = _usual_dim(defaults)


def _crop(text: str) -> int | str:
    return text if text == "none" else whole_number(1, MAX_SIDE)(text)


def _usual_dim(defaults: PaDiMConfig) -> int:
    """The channels that a reduction keeps: the paper's or, if it reduces nothing, the usual 100."""
    return defaults.embedding_dim or PAPER.embedding_dim or 100
