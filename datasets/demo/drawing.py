"""Tools to draw with.

An image is a float32 array of shape (SIZE, SIZE, 3), RGB in 0..1, lengths are in pixels and angles
in radians. A defect is painted over a finished good image, on a boolean support of shape
(SIZE, SIZE); that support is the ground truth, so masks are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

SIZE = 320

Painted = tuple[np.ndarray, np.ndarray]  # an image, and the support of what was painted on it
X = np.arange(SIZE, dtype=np.float32)  # pixel coordinates: X of a row, Y of a column
Y = X[:, None]


class Scene(NamedTuple):
    """A good product, and what a defect needs to know of it.

    image: the finished picture, without camera noise.
    body: (SIZE, SIZE) signed distance to an object's outline, positive on it; empty for a texture.
    repaint: draws the same object, under the same light, with another outline.
    """

    image: np.ndarray
    body: np.ndarray = np.empty(0)
    repaint: Callable[[np.ndarray], np.ndarray] = np.copy


def ramp(value: np.ndarray, width: float) -> np.ndarray:
    """Smooth step from 0 to 1 as value goes from 0 to width."""
    t = np.clip(value / width, 0, 1)
    return t * t * (3 - 2 * t)


def clouds(rng: Generator, cells: int) -> np.ndarray:
    """Smooth random field of shape (SIZE, SIZE), about -1..1, with blotches of SIZE / cells."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def blob(rng: Generator, x: float, y: float, radius: float) -> np.ndarray:
    """Signed distance (positive inside) to an irregular round outline about (x, y)."""
    angle = np.arctan2(Y - y, X - x)
    outline = sum(
        rng.uniform(-0.3, 0.3) / k * np.sin(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7)
    )
    return radius * (1 + outline) - np.hypot(X - x, Y - y)


def line_axes(x: float, y: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (along, across) a line through (x, y) at the angle turn."""
    dx, dy, c, s = X - x, Y - y, math.cos(turn), math.sin(turn)
    return dx * c + dy * s, dy * c - dx * s


def blend(image: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> Painted:
    """Paint over an image, with the support where the paint is thick enough to be seen."""
    support = alpha > 0.1
    painted = image + alpha[..., None] * (paint - image)
    return np.where(support[..., None], painted, image).astype(np.float32), support
