"""PaDiM, a Patch Distribution Modeling framework (Defard et al., arXiv 2011.08785): the method.

One module per step, in the order of the data:

    reading        image files      -> uint8 pixels (h, w, 3), upright
    preprocessing  pixels           -> uint8 crop (3, crop, crop)
    backbones      crops            -> feature maps, one per layer
    embedding      feature maps     -> patch embeddings (B, H, W, d); C to d: ``reduction``
    gaussian       patch embeddings -> Mahalanobis distances (B, P)          equations 1 and 2
    anomaly_map    distances        -> anomaly map (B, crop, crop) and image score
    calibration    leave-one-out scores of the training images -> thresholds and p-values
    regions        anomaly map      -> defect regions in pixels of the original image
    crop_model     these steps in order: crops -> maps and scores
    model          all steps as one object: fit, score, predict, save, load

``reference`` has the equations in NumPy float64, one function each. ``fitting`` and ``linalg``
learn and factorise the Gaussians. A ``region_of_interest`` makes P fewer than H * W positions. A
reader may skip ``weights``, ``onnx_graph``, and the packages ``reading`` (images), ``storage``
(model files) and ``parallel`` (blocks, threads, processes).

Symbols: N training images, B batch, d channels kept, H x W grid, P = H * W positions.

The package does not change the global state of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from padim.backbones import Backbone
    from padim.config import PaDiMConfig
    from padim.errors import ImageError, ModelError, NotFittedError, PaDiMError
    from padim.model import PaDiM
    from padim.prediction import Prediction
    from padim.regions import Region

__version__ = "1.0.0"
__all__ = [
    "Backbone",
    "ImageError",
    "ModelError",
    "NotFittedError",
    "PaDiM",
    "PaDiMConfig",
    "PaDiMError",
    "Prediction",
    "Region",
    "__version__",
]

_MODULES = {
    "Backbone": "backbones",
    "ImageError": "errors",
    "ModelError": "errors",
    "NotFittedError": "errors",
    "PaDiM": "model",
    "PaDiMConfig": "config",
    "PaDiMError": "errors",
    "Prediction": "prediction",
    "Region": "regions",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``padim.config`` imports no PyTorch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'padim' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"padim.{_MODULES[name]}"), name)
