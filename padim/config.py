"""The choices of a model."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16")  # that a network multiplies in; its sums are float32 in either


@dataclass(frozen=True)
class PaDiMConfig:
    """What, beside the backbone, decides how a model scores an image.

    Attributes:
        reduction: ``random``, ``semi_orthogonal``, ``pca`` or ``none``.
        embedding_dim: channels kept, d; of no meaning with ``none``.
        seed: of the channels or the projection drawn.
        resize: side in pixels an image is resized to before the crop.
        crop: side in pixels of the image the model sees and of the map it gives.
        epsilon: added to the diagonal of every covariance.
        sigma: smoothing of the map in pixels.
    """

    reduction: str = "random"
    embedding_dim: int | None = 100
    seed: int = 0
    resize: int = 256
    crop: int = 224
    epsilon: float = 0.01
    sigma: float = 4.0
