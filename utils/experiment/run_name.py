"""The name of a run, and the settings that decide its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from padim.backbones import Backbone, find_spec
from padim.config import PaDiMConfig
from padim.model import PaDiM
from utils.experiment.conditions import Conditions
from utils.experiment.options import RunOptions
from utils.system.names import shortened

_SHORT = {"random": "rd", "semi_orthogonal": "so", "pca": "pca"}


def run_name(backbone: Backbone, config: PaDiMConfig) -> str:
    """The name of a configuration, the key of its published numbers, such as resnet18_rd100."""
    return _name(backbone.name, backbone.layers, config.reduction, config.embedding_dim)


def folder_name(
    backbone_name: str, layers: Sequence[str] | None, options: RunOptions, conditions: Conditions
) -> str:
    """The name of a run's folder, with everything that needs tables of its own.

    A name that is too long for a file system is cut, and ends in a checksum.

    Args:
        backbone_name: as in ``padim.Backbone``.
        layers: its feature layers; None for its default ones.
        options: of the run.
        conditions: of the run.
    """
    parts = [_name(backbone_name, layers, options.reduction, options.embedding_dim)]
    parts += [options.network_precision] * (options.network_precision != "float32")
    if options.dataset != "mvtec":
        version = "" if options.rd_version is None else str(options.rd_version)
        parts.append(options.dataset + version)
    parts += ["untrained"] * conditions.is_untrained + ["demo"] * conditions.is_demo
    return shortened("_".join(parts))


def run_settings(model: PaDiM, options: RunOptions, conditions: Conditions) -> dict[str, object]:
    """The settings that decide the numbers, by the option's name if there is one.

    Args:
        model: of the run, not fitted.
        options: of the run.
        conditions: of the run.
    """
    kept = None
    if model.embedding is not None:
        kept = hashlib.sha256(model.embedding.values().tobytes()).hexdigest()[:16]
    return {
        "backbone": model.backbone.name,
        "weights": "random" if conditions.is_untrained else "trained",
        "weights_checksum": model.backbone.checksum,
        "network_precision": model.backbone.precision,
        "layers": list(model.backbone.layers),
        "channels": list(model.backbone.channels),
        "channel_ids_checksum": kept,
        **asdict(model.config),
        "dataset": options.dataset,
        "rd_version": options.rd_version,
        "false_alarm_rate": options.false_alarm_rate,
    }


def _name(backbone: str, layers: Sequence[str] | None, reduction: str, dim: int | None) -> str:
    parts = [backbone.replace("/", "_")]  # of timm/NAME, which no folder could be called
    has_own_layers = layers is not None and tuple(layers) != find_spec(backbone).layers
    if has_own_layers:
        parts += layers or ()
    if reduction != "none":
        parts.append(f"{_SHORT.get(reduction, reduction)}{dim}")
    elif not has_own_layers and backbone != "efficientnet_b5":
        parts.append("all_channels")  # the paper's own configuration is a reduced one
    return "_".join(parts)
