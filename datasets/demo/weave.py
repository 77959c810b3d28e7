"""`weave`, a twill fabric: a texture."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from datasets.demo.drawing import SIZE, Painted, Scene, X, Y, blend, blob, clouds, line_axes, ramp


def draw_weave(rng: Generator) -> Scene:
    """Twill cloth: each thread passes over two others, then under two."""
    pitch = 11.0
    u, v = line_axes(rng.uniform(100, 220), rng.uniform(100, 220), rng.normal(0, 0.02))
    u, v = (t / pitch + 0.22 * clouds(rng, 6) + 50 + rng.uniform() for t in (u, v))
    column, row = u.astype(np.int32), v.astype(np.int32)
    u, v = u - np.floor(u), v - np.floor(v)
    warp_on_top = (column + row) % 4 < 2
    # Position across the visible thread, and along its float (the stretch where it is on top).
    across = np.where(warp_on_top, u, v)
    start = np.where(warp_on_top, (column + row) % 4, (column + row + 2) % 4)
    along = (start + np.where(warp_on_top, v, u)).astype(np.float32) / 2
    height = np.sqrt(np.clip(1 - (2.1 * across - 1.05) ** 2, 0, 1))
    height *= 0.55 + 0.45 * np.sin(np.pi * along)
    fibres = np.sin(2 * np.pi * (2.0 * across + 1.5 * along)) * 0.04
    dye = rng.normal(0, 0.035, (2, 128)).astype(np.float32)
    tone = 0.42 + 0.62 * height + fibres + np.where(warp_on_top, dye[0][column], dye[1][row])
    colour = np.array(((0.80, 0.78, 0.72), (0.47, 0.55, 0.64)), np.float32)[warp_on_top.astype(int)]
    light = rng.normal(1, 0.03) + rng.normal(0, 0.06) * (X / SIZE - 0.5)
    light = light + rng.normal(0, 0.06) * (Y / SIZE - 0.5)
    return Scene(colour * (tone * light)[..., None])


def _cut(scene: Scene, rng: Generator) -> Painted:
    """A slit with ragged edges: dark inside, pale fibres along the lips."""
    u, v = line_axes(rng.uniform(80, 240), rng.uniform(80, 240), rng.uniform(0, np.pi))
    length, width = rng.uniform(18, 45), rng.uniform(2.0, 5.0)
    v = v + 4 * np.sin(u / rng.uniform(15, 30))
    gap = width * np.sqrt(np.clip(1 - (u / length) ** 2, 0, 1)) - np.abs(v) + clouds(rng, 90)
    inside = ramp(gap, 2.0)[..., None]
    paint = inside * (0.07, 0.07, 0.08) + (1 - inside) * (0.86, 0.85, 0.80)
    alpha = 0.95 * ramp(gap + 1.8, 2.5) * ramp(length - np.abs(u), 4.0)
    return blend(scene.image, paint, alpha)


def _stain(scene: Scene, rng: Generator) -> Painted:
    """A dried spill: the cloth shows through, darker towards the rim."""
    x, y, radius = rng.uniform(60, 260), rng.uniform(60, 260), rng.uniform(14, 36)
    edge = blob(rng, x, y, radius) + 3 * clouds(rng, 40)
    rim = np.exp(-((edge - 4) ** 2) / 12)
    strength = rng.uniform(0.4, 0.95) * (0.75 + 0.25 * rim)
    return blend(scene.image, scene.image * (0.62, 0.48, 0.32), strength * ramp(edge, 5.0))


def _thread(scene: Scene, rng: Generator) -> Painted:
    """A loose foreign thread lying on the cloth."""
    u, v = line_axes(rng.uniform(90, 230), rng.uniform(90, 230), rng.uniform(0, np.pi))
    length, width = rng.uniform(25, 70), rng.uniform(1.6, 2.8)
    wave, swing = rng.uniform(14, 30), rng.uniform(4, 9)
    phase = u / wave + rng.uniform(0, 6.3)
    v = (v - swing * np.sin(phase)) / np.hypot(1, swing / wave * np.cos(phase))
    inside = np.minimum(width - np.abs(v), length - np.abs(u)) + 0.5
    shine = 0.65 + 0.35 * np.cos(v / width * 1.4 + 0.5) + 0.1 * np.sin(u * 1.3 + v)
    dyes = np.array([(0.62, 0.13, 0.12), (0.13, 0.14, 0.17), (0.93, 0.90, 0.84)])
    return blend(scene.image, rng.choice(dyes) * shine[..., None], ramp(inside, 1.0))


DEFECTS = {"cut": _cut, "stain": _stain, "thread": _thread}
