"""`gear`, a metal part on a plain plate: an object."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from datasets.demo.drawing import SIZE, Painted, Scene, X, blend, blob, clouds, line_axes, ramp

TEETH, TIP, ROOT = 20, 132.0, 112.0


def draw_gear(rng: Generator) -> Scene:
    """A turned steel gear, nearly centred and nearly aligned, on a grey plate."""
    x, y = rng.normal(SIZE / 2, 1.5), rng.normal(SIZE / 2, 1.5)
    u, v = line_axes(x, y, rng.normal(0, 0.015))
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    step = 2 * np.pi / TEETH
    sideways = np.abs(angle - step * np.rint(angle / step)) * r  # from the nearest tooth's axis
    tooth = np.minimum(11.5 - 0.30 * (r - ROOT) - sideways, TIP - r)
    body = np.maximum(ROOT - r, tooth)
    bore = np.minimum(r - 26, np.maximum(np.abs(u) - 6, np.abs(v + 24) - 11))
    for k in range(5):
        a = 2 * math.pi * (k + 0.5) / 5
        body = np.minimum(body, np.hypot(u - 72 * math.cos(a), v - 72 * math.sin(a)) - 17)
    body = np.minimum(body, bore)

    rings = np.interp(r, np.arange(0, 240, 0.9), rng.normal(0, 0.022, 267)).astype(np.float32)
    # Turned metal reflects light in two opposite fans, which stay put when the part turns.
    fan = (line_axes(x, y, rng.normal(0.9, 0.05))[0] / (r + 1)) ** 2
    sheen = 0.52 + 0.20 * fan * fan * fan + 0.05 * fan + rings + 0.015 * clouds(rng, 12)
    web = ramp(r - 42, 4) * ramp(103 - r, 4)  # the recessed ring between hub and rim
    exposure = rng.normal(1, 0.03) * (1 + rng.normal(0, 0.04) * (X / SIZE - 0.5))
    plate = 0.30 + 0.012 * clouds(rng, 60) + 0.03 * clouds(rng, 3)

    def repaint(body: np.ndarray) -> np.ndarray:
        shadow = ramp(np.roll(body, (7, 6), (0, 1)) + 5, 12)
        ground = (plate * (1 - 0.6 * shadow))[..., None] * np.array((0.95, 1.0, 1.06), np.float32)
        slope_y, slope_x = np.gradient(3.2 * ramp(body, 5.0) - 3.0 * web)
        tone = sheen * (1 - 0.10 * web) + 0.28 * (slope_x + slope_y)
        metal = tone[..., None] * np.array((1.0, 1.0, 1.02), np.float32)
        alpha = np.clip(body + 0.5, 0, 1)[..., None]
        return ((ground + alpha * (metal - ground)) * exposure[..., None]).astype(np.float32)

    return Scene(repaint(body), body, repaint)


def _on_gear(rng: Generator) -> tuple[float, float]:
    """A point (x, y) on the face of the gear, between two of its five holes."""
    r, a = rng.uniform(48, 100), 2 * math.pi * (rng.integers(5) + rng.uniform(-0.25, 0.25)) / 5
    return SIZE / 2 + r * np.cos(a), SIZE / 2 + r * np.sin(a)


def _broken_tooth(scene: Scene, rng: Generator) -> Painted:
    """One tooth snapped off, wholly or in part; its shadow goes with it."""
    a = 2 * np.pi * rng.integers(TEETH) / TEETH
    u, v = line_axes(SIZE / 2, SIZE / 2, a)
    fracture = rng.uniform(ROOT - 2, TIP - 8) + rng.normal(0, 0.3) * v + 2 * clouds(rng, 60)
    lost = np.abs(v) < 20
    body = np.where(lost, np.minimum(scene.body, np.where(u > 0, fracture - u, SIZE)), scene.body)
    broken = scene.repaint(body)
    change = Image.fromarray(np.abs(broken - scene.image).max(axis=-1) > 0.02)
    # Where old and new happen to look alike is still part of the defect: no pinholes in the mask.
    closed = change.convert("L").filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))
    support = np.asarray(closed) > 0
    return blend(scene.image, broken, support.astype(np.float32))


def _scratch(scene: Scene, rng: Generator) -> Painted:
    """A thin score in the metal: a bright groove with a dark flank."""
    u, v = line_axes(*_on_gear(rng), rng.uniform(0, np.pi))
    length, width = rng.uniform(22, 50), rng.uniform(1.8, 3.0)
    v = v + rng.uniform(-0.004, 0.004) * u**2
    taper = width * np.sqrt(np.clip(1 - (u / length) ** 2, 0, 1))
    alpha = ramp(taper - np.abs(v), 1.2) * (scene.body > 1) * rng.uniform(0.55, 0.95)
    paint = scene.image + np.where(v > 0.2 * width, -0.22, 0.30)[..., None]
    return blend(scene.image, paint, alpha)


def _rust(scene: Scene, rng: Generator) -> Painted:
    """A mottled patch of corrosion."""
    edge = blob(rng, *_on_gear(rng), rng.uniform(9, 24)) + 3.5 * clouds(rng, 50)
    alpha = ramp(edge, 5.0) * (scene.body > 0) * rng.uniform(0.5, 0.9)
    tone = 0.75 + 0.30 * clouds(rng, 80)
    return blend(scene.image, tone[..., None] * (0.50, 0.27, 0.13), alpha)


DEFECTS = {"broken_tooth": _broken_tooth, "scratch": _scratch, "rust": _rust}
