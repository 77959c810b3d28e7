"""What a fitted model gets before its ``state_dict`` fills it: parts of the right shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from padim.calibration import Calibration
from padim.crop_model import CropModel
from padim.gaussian import PatchGaussian
from padim.reduction import Reduction


def make_parts(model: CropModel, state: Mapping[str, Any]) -> None:
    """Make the parts that are in a state; one without Gaussians changes nothing.

    Args:
        model: whose parts are replaced.
        state: its ``state_dict``.
    """

    def like(name: str) -> torch.Tensor | None:
        tensor = state.get(name)
        return None if tensor is None else torch.empty_like(tensor, device=model.device)

    if not any(name.startswith("gaussian.") for name in state):
        return
    ids, projection = state.get("embedding.ids"), like("embedding.projection")
    mask = state.get("region.mask")
    model.look_at(None if mask is None else mask.clone())
    if ids is not None or projection is not None:  # the ids decide how many a layer has
        reduction = Reduction(None if ids is None else ids.clone(), projection)
        model.embedding = model.embedding_of(reduction, model.region)
    mean, factor = like("gaussian.mean"), like("gaussian.factor")
    model.gaussian = model.calibration = None
    if mean is not None and factor is not None:
        model.gaussian = PatchGaussian(mean, factor, False, model.config.epsilon)
    scores, levels = like("calibration.image_scores"), like("calibration.pixel_levels")
    if scores is not None and levels is not None:
        model.calibration = Calibration(scores, levels)
