"""The options of the entry scripts: the same names and meanings in each of them.

Nothing heavy is imported here, so ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from datasets.layouts.catalogue import CATALOGUE, RD_VERSIONS
from padim.config import PRECISIONS
from utils.reproduction.plan import BACKBONES, DRAWS, TABLES
from utils.system.console import one_line

REDUCTIONS = ("random", "semi_orthogonal", "pca", "none")
WEIGHTS = "imagenet|random|FILE"
MAX_SEED = 2**32 - 1
MAX_SIDE = 8192  # pixels; a mistyped size should not end in the machine's memory


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (--help lists the options)\n")


def get_args_parser(
    description: str, reduction: str, embedding_dim: int
) -> argparse.ArgumentParser:
    """The parser of an entry script.

    Args:
        description: what the script runs.
        reduction: the backbone's default for ``--reduction``.
        embedding_dim: its default for ``--embedding_dim``.
    """
    parser = _parser(description)
    parser.set_defaults(usual_embedding_dim=embedding_dim)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_path",
        type=Path,
        help="folder of the data set; left out, a small demo set is drawn",
    )
    data.add_argument(
        "--dataset", choices=CATALOGUE, default="mvtec", help="the layout of --data_path"
    )
    data.add_argument(
        "--rd_version",
        type=_whole(0, RD_VERSIONS - 1),
        metavar="N",
        help="random version of --dataset rd_mvtec; left out, 0",
    )
    data.add_argument("--save_path", type=Path, default=Path("result"), help="where results go")
    data.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="classes to run; left out, all there are"
    )
    data.add_argument(
        "--resize",
        type=_whole(1, MAX_SIDE),
        default=256,
        help="side in pixels an image is resized to",
    )
    data.add_argument(
        "--crop",
        type=_crop,
        help="side of the centre crop in pixels, or none; left out, what the data set's is",
    )

    method = parser.add_argument_group("method")
    method.add_argument(
        "--weights",
        default="imagenet",
        metavar=WEIGHTS,
        help="imagenet (downloaded once), random (to try the program only), or a file",
    )
    method.add_argument(
        "--layers", nargs="+", metavar="LAYER", help="layers to tap; left out, the paper's"
    )
    method.add_argument(
        "--network_precision",
        choices=PRECISIONS,
        default="float32",
        help="bfloat16: half the network's time where the processor has it, 8 bits of precision",
    )
    method.add_argument(
        "--reduction", choices=REDUCTIONS, default=reduction, help="how channels are reduced"
    )
    method.add_argument(
        "--embedding_dim",
        type=_whole(1),
        default=argparse.SUPPRESS,
        help=f"channels kept; left out, {embedding_dim}, or all with --reduction none",
    )
    seeds = method.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", type=_whole(0, MAX_SEED), default=0, help="of the channels that are drawn"
    )
    seeds.add_argument(
        "--seeds",
        type=_whole(0, MAX_SEED),
        nargs="+",
        metavar="SEED",
        help="several: a run for each, from one pass over the images, and their means",
    )
    method.add_argument(
        "--epsilon",
        type=_real(allow_zero=False, high=1e6),
        default=0.01,
        help="added to the diagonal of every covariance",
    )
    method.add_argument(
        "--sigma", type=_real(allow_zero=True), default=4.0, help="smoothing of the map in pixels"
    )

    _add_rate(method)
    running = _add_running(parser)
    _add_cache(running)
    running.add_argument(
        "--figures",
        type=_figures,
        default="all",
        metavar="all|N|none",
        help="figures a class; N takes the worst ranked images first",
    )
    running.add_argument(
        "--model_precision",
        choices=("float32", "float16"),
        default="float32",
        help="how models are stored; float16 takes half the space",
    )
    running.add_argument(
        "--overwrite", action="store_true", help="do again the classes that are already there"
    )
    return parser


def get_predict_parser() -> argparse.ArgumentParser:
    """The parser of ``predict.py``."""
    parser = _parser("Judge new images with a fitted model: no labels, no masks, any folders")
    data = parser.add_argument_group("data")
    _add_model(data)
    data.add_argument(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR|FILE",
        help="images, or folders that are searched for images, however deep",
    )
    data.add_argument("--save_path", type=Path, required=True, help="where results go")

    judging = parser.add_argument_group("judging")
    _add_rate(judging)
    judging.add_argument(
        "--maps", choices=("all", "none"), default="all", help="anomaly maps as 16-bit PNG"
    )
    judging.add_argument(
        "--map_size",
        choices=("original", "crop"),
        default="original",
        help="of the 16-bit maps: at their place in the original image, or the crop alone",
    )
    judging.add_argument(
        "--npy", action="store_true", help="also the maps of the crops as float32 .npy"
    )
    judging.add_argument(
        "--figures",
        type=_figures,
        default="200",
        metavar="all|N|none",
        help="overlays; N takes the images of the highest scores",
    )
    running = _add_running(parser)
    running.add_argument(
        "--overwrite", action="store_true", help="replace what a prediction left in --save_path"
    )
    return parser


def get_export_parser() -> argparse.ArgumentParser:
    """The parser of ``export.py``."""
    parser = _parser("Write a fitted model and its network as one ONNX graph")
    _add_model(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.onnx", help="the file to write"
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "normalised"),
        default="uint8",
        help="what the graph takes: crops as they are, or float32 normalised as for ImageNet",
    )
    return parser


def get_reproduce_parser() -> argparse.ArgumentParser:
    """The parser of ``reproduce.py``."""
    parser = _parser("Run what the tables of the paper ran, and set ours beside theirs")
    data = parser.add_argument_group("data")
    data.add_argument("--data_path", type=Path, help="folder of classes in the MVTec AD layout")
    data.add_argument(
        "--stc_path", type=Path, help="folder of ShanghaiTech Campus; left out, it is not run"
    )
    data.add_argument(
        "--save_path", type=Path, default=Path("reproduction"), help="where tables and records go"
    )
    data.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="classes to run; left out, all there are"
    )
    method = parser.add_argument_group("method")
    method.add_argument(
        "--tables", nargs="+", choices=TABLES, metavar="TABLE", help=", ".join(TABLES)
    )
    method.add_argument(
        "--backbones",
        nargs="+",
        choices=BACKBONES,
        default=list(BACKBONES),
        metavar="NAME",
        help="those to run: " + ", ".join(BACKBONES),
    )
    method.add_argument(
        "--weights",
        nargs="+",
        default=["imagenet"],
        metavar="NAME=FILE",
        help="files of weights by backbone, imagenet for all, or random to try the program only",
    )
    method.add_argument(
        "--draws",
        type=_whole(1, 1000),
        default=DRAWS,
        help="random draws that a table's means are over",
    )
    running = _add_running(parser)
    _add_cache(running)
    return parser


def parse_reproduce_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse and check the options of ``reproduce.py``; ``weights`` becomes a word or files by name.

    Exits with status 2 and one line on a mistake.
    """
    args = parser.parse_args(argv)
    if args.tables is None:
        args.tables = [table for table in TABLES if table != "stc" or args.stc_path is not None]
    if "stc" in args.tables and args.stc_path is None:
        parser.error("--tables stc needs --stc_path, the folder of ShanghaiTech Campus")
    if set(args.tables) != {"stc"} and args.data_path is None:
        parser.error("--data_path is missing: the folder of MVTec AD's classes")
    if args.weights in (["imagenet"], ["random"]):
        args.weights = args.weights[0]
        return args
    files = dict(item.partition("=")[::2] for item in args.weights)
    for name, file in files.items():
        if name not in BACKBONES or not file:
            given = f"{name}={file}" if file else name
            parser.error(
                f"--weights {given}: give imagenet, random, or NAME=FILE with NAME one of "
                + ", ".join(BACKBONES)
            )
    args.weights = files
    return args


def parse_args(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check what can be checked without looking at the data.

    Exits with status 2 and one line on a mistake.
    """
    args = parser.parse_args(argv)
    if args.dataset != "mvtec" and args.data_path is None:
        parser.error(f"--dataset {args.dataset} needs --data_path, its folder")
    if args.dataset != "rd_mvtec" and args.rd_version is not None:
        parser.error("--rd_version is of --dataset rd_mvtec alone")
    if args.dataset == "rd_mvtec" and args.rd_version is None:
        args.rd_version = 0
    if args.seeds is not None and len(set(args.seeds)) < len(args.seeds):
        parser.error("--seeds names one twice")
    if args.crop is None:
        args.crop = CATALOGUE[args.dataset].crop or args.resize
    if args.crop == "none":
        args.crop = args.resize
    if args.crop > args.resize:
        parser.error(f"--crop {args.crop} is larger than --resize {args.resize}")
    if args.sigma > args.crop:
        parser.error(f"--sigma {args.sigma:g} is larger than the image, {args.crop} pixels")
    if args.layers is not None:  # "a b", "a,b" and "a, b" all name two
        args.layers = [part for name in args.layers for part in name.split(",") if part]
        if not args.layers:
            parser.error("--layers names none; leave it out for the paper's")
    is_given = "embedding_dim" in args
    if args.reduction == "none" and is_given:
        parser.error(
            "--embedding_dim: --reduction none keeps all channels; give another --reduction"
        )
    if not is_given:
        args.embedding_dim = None if args.reduction == "none" else args.usual_embedding_dim
    del args.usual_embedding_dim
    return args


def _parser(description: str) -> argparse.ArgumentParser:
    # Without allow_abbrev=False a prefix such as --data would be taken, and mean something else
    # one day.
    return _Parser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )


def _add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    running = parser.add_argument_group("running")
    running.add_argument("--batch_size", type=_whole(1), default=16, help="images a batch")
    running.add_argument(
        "--num_workers",
        type=_whole(0),
        default=max(1, min(8, _usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))),
        help="processes that decode images; 0 decodes in the main one",
    )
    running.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:N or mps"
    )
    return running


def _add_cache(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--image_cache",
        type=Path,
        metavar="DIR",
        help="folder to keep decoded images in, for other seeds and backbones; left out, none are",
    )


def _add_rate(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--false_alarm_rate",
        type=_rate,
        default=0.01,
        metavar="RATE",
        help="share of normal images, and of normal pixels, that thresholds let be called",
    )


def _add_model(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="FILE",
        help="a fitted model, models/<class>.pt of a run",
    )
    parser.add_argument(
        "--weights",
        metavar=WEIGHTS,
        help="the network's; left out, those the model was fitted with",
    )


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number from {low}" + (f" to {high}" if high else " up")

    def convert(text: str) -> int:
        value = _number(int, text, wanted)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text} is out of range; give {wanted}")
        return value

    return convert


def _real(allow_zero: bool, high: float = math.inf) -> Callable[[str], float]:
    wanted = "a number from 0 up" if allow_zero else "a number above 0"
    wanted += f" and at most {high:g}" if high < math.inf else ""

    def convert(text: str) -> float:
        value = _number(float, text, wanted)
        if not 0 <= value <= high or math.isinf(value) or (value == 0 and not allow_zero):
            raise argparse.ArgumentTypeError(f"{text} is out of range; give {wanted}")
        return value

    return convert


def _rate(text: str) -> float:
    wanted = "a number above 0 and below 1"
    value = _number(float, text, wanted)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range; give {wanted}")
    return value


def _crop(text: str) -> int | str:
    return text if text == "none" else _whole(1, MAX_SIDE)(text)


def _figures(text: str) -> int | None:
    """The number of figures: None for all."""
    words = {"all": None, "none": 0}
    if text in words or text.isdecimal():
        return words[text] if text in words else int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is none of all, none and a whole number from 0 up")


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", text, re.ASCII):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is none of auto, cpu, cuda, cuda:N, mps")


def _number(kind: type, text: str, wanted: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number; give {wanted}") from None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # fewer than cpu_count() in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
