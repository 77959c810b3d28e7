"""The decision rule: an image or a pixel is flagged as defective if it scores above a threshold."""

from __future__ import annotations

from typing import overload

import numpy as np


@overload
def is_above(scores: float, threshold: float) -> bool: ...
@overload
def is_above(scores: np.ndarray, threshold: float) -> np.ndarray: ...
def is_above(scores: float | np.ndarray, threshold: float) -> bool | np.ndarray:
    """Whether a score is above the threshold. A score equal to the threshold is not.

    Args:
        scores: image scores or map values, one number or an array of any shape.
        threshold: of the same unit.

    Returns:
        bool, of the shape of ``scores``.
    """
    return scores > threshold
