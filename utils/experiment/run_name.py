"""What a run is called, what decides its numbers, and what these may be compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from datasets.layouts.catalogue import CATALOGUE
from padim.backbones import BACKBONES, Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from utils.experiment.options import RunOptions
from utils.system.console import DEMO, UNTRAINED


def run_name(backbone: Backbone, config: PaDiMConfig) -> str:
    """The name of a configuration, as the published numbers have it, such as resnet18_rd100."""
    parts = [backbone.name]
    has_own_layers = backbone.layers != BACKBONES[backbone.name].taps
    if has_own_layers:
        parts += backbone.layers
    if config.reduction != "none":
        short = {"random": "rd", "semi_orthogonal": "so", "pca": "pca"}[config.reduction]
        parts.append(f"{short}{config.embedding_dim}")
    elif not has_own_layers and backbone.name != "efficientnet_b5":
        parts.append("all_channels")  # said where the paper's own configuration is a reduced one
    return "_".join(parts)


def folder_name(backbone: Backbone, args: RunOptions, warnings: Sequence[str]) -> str:
    """The name of a run's folder: what must not get into others' tables says so in it."""
    config = PaDiMConfig(args.reduction, args.embedding_dim)
    parts = [run_name(backbone, config)]
    parts += [backbone.precision] * (backbone.precision != "float32")
    if args.dataset != "mvtec":
        parts.append(args.dataset + ("" if args.rd_version is None else str(args.rd_version)))
    return "_".join(parts + ["untrained"] * (UNTRAINED in warnings) + ["demo"] * (DEMO in warnings))


def obstacle(args: RunOptions, warnings: Sequence[str]) -> str | None:
    """Why the numbers of a run may not be set beside published ones; None where they may."""
    if DEMO in warnings:
        return "the images are drawn"
    if UNTRAINED in warnings:
        return "the weights are untrained"
    if args.dataset != "mvtec":
        return f"the data set is {CATALOGUE[args.dataset].title}, theirs MVTec AD"
    paper = PaDiMConfig()
    other = [
        f"--{name} {getattr(args, name):g}"
        for name in ("resize", "crop", "epsilon", "sigma")
        if getattr(args, name) != getattr(paper, name)
    ]
    if args.network_precision != "float32":
        other.append(f"--network_precision {args.network_precision}")
    return f"they are of another protocol than the paper's ({', '.join(other)})" if other else None


def settings(model: PaDiM, is_untrained: bool, args: RunOptions) -> dict[str, object]:
    """All that decides the numbers, by the option's name where there is one."""
    kept = None
    if model.reduction is not None:
        kept = hashlib.sha256(model.reduction.checksum_source().tobytes()).hexdigest()[:16]
    return {
        "backbone": model.backbone.name,
        "weights": "random" if is_untrained else "trained",
        "weights_checksum": model.backbone.checksum(),
        "network_precision": model.backbone.precision,
        "layers": list(model.backbone.layers),
        "channels": list(model.backbone.channels),
        "channel_ids_checksum": kept,
        **asdict(model.config),
        "dataset": args.dataset,
        "rd_version": args.rd_version,
        "false_alarm_rate": args.false_alarm_rate,
    }


def printable_options(args: RunOptions) -> Mapping[str, object]:
    return {
        name: value if isinstance(value, (int, float, tuple, type(None))) else str(value)
        for name, value in vars(args).items()
    }
