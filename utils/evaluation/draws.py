"""The values of a metric in all draws of the bootstrap, and the interval that they give."""

from __future__ import annotations

import base64
import binascii

import numpy as np

Interval = tuple[float, float]
COVERED = (0.025, 0.975)  # quantiles: 95 % lie between
DIGITS = 6  # of the ends of an interval


def pack(values: np.ndarray) -> str:
    """Values (n,) as the text that a record holds: base64 of float32, the lowest byte first."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    """The values of ``pack``, float64 (n,).

    Raises:
        ValueError: the text is not from ``pack``.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(float)
    except binascii.Error as error:
        raise ValueError("base64 of float32 is expected") from error


def interval(values: np.ndarray) -> Interval | None:
    """The 95 % percentile interval; None if the metric exists in no draw."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, COVERED)
    return round(float(low), DIGITS), round(float(high), DIGITS)
