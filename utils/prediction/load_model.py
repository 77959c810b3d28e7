"""A model file and its network, loaded as one model that scores."""

from __future__ import annotations

from pathlib import Path

import torch

from padim.backbones import Backbone
from padim.model import PaDiM
from padim.model_file import read_model_file
from utils.errors import OptionError


def load_fitted(path: Path, weights: str | None, device: torch.device) -> tuple[PaDiM, bool]:
    """Load a fitted model.

    Args:
        path: the model file.
        weights: ``imagenet``, ``random`` or a file; None for those the model was fitted with.
        device: where it will score.

    Returns:
        The model, and whether its network is untrained.

    Raises:
        ModelError: the model file or the weights cannot be used, or do not belong together.
        OptionError: the weights file it was fitted with was moved.
    """
    header, tensors = read_model_file(path)
    chosen = header.weights if weights is None else weights
    is_file = chosen not in ("imagenet", "random")
    if weights is None and is_file and not Path(chosen).is_file():
        raise OptionError(
            f"model {path} was fitted with weights {chosen}, which are not there; "
            "say where they are with --weights FILE"
        )
    precision = header.network_precision
    backbone = Backbone(header.backbone, chosen, header.layers, precision=precision)
    return PaDiM.restore(header, tensors, backbone.to(device), path), chosen == "random"
