"""The decision rule: an image or a pixel is flagged as defective if it scores above a threshold."""

from __future__ import annotations

import numpy as np


def is_above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each score is above the threshold. A score equal to the threshold is not.

    Args:
        scores: image scores or map values, float, any shape.
        threshold: of the same unit.

    Returns:
        bool, the shape of ``scores``.
    """
    return scores > threshold
