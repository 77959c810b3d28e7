"""Putting the map of a crop back into the original image, and drawing it there.

The model sees a crop of the resized image and never the border around it. The border is 0 in a map,
and grey and hatched in an overlay, so that nobody takes it for normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from padim.calibration import is_above
from padim.regions import Region
from utils.report.figures import PREDICTED, heat_colours, outline

LEVELS_PER_UNIT = 65535 / 8  # a 16-bit map saturates at 8 times the pixel threshold
LONG_SIDE = 1024  # pixels; overlays of larger images are reduced
BRIGHTEST = 4.0  # units of the threshold at the bright end of the colours; 0 is at the dark one
HEAT_ALPHA = 0.55
BORDER_LIGHT = 0.45
BOX = (0, 230, 255)  # of a region
HATCH, LINE_LIGHT = 10, 50  # pixels between two lines, and the levels by which they are lighter


@dataclass(frozen=True)
class Placement:
    """Where ``padim.preprocessing.Preprocessing`` cuts the crop.

    Attributes:
        resize: side in pixels of the resized image.
        crop: side in pixels of the crop in its centre.
    """

    resize: int
    crop: int

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the crop in an image: the pixels whose centres are inside."""
        first = (self.resize - self.crop) // 2
        left, right = (self._edge(at, width) for at in (first, first + self.crop))
        top, bottom = (self._edge(at, height) for at in (first, first + self.crop))
        return left, top, right, bottom

    def on_image(self, crop_map: np.ndarray, width: int, height: int) -> np.ndarray:
        """Place a map (crop, crop) in an image: float32 (height, width), 0 around the crop."""
        before = (self.resize - self.crop) // 2
        padding = (before, self.resize - self.crop - before)
        # The edge values continue into the border, so that interpolation at the edge is right.
        padded = Image.fromarray(np.pad(crop_map, padding, mode="edge"))
        whole = np.asarray(padded.resize((width, height), Image.Resampling.BILINEAR))
        left, top, right, bottom = self.box(width, height)
        placed = np.zeros_like(whole)
        placed[top:bottom, left:right] = whole[top:bottom, left:right]
        return placed

    def _edge(self, at: int, side: int) -> int:
        return min(max(math.ceil(at * side / self.resize - 0.5), 0), side)


def map_levels(units: np.ndarray) -> np.ndarray:
    """A map in units of the pixel threshold as 16-bit levels, uint16, saturated."""
    return np.clip(np.rint(units * LEVELS_PER_UNIT), 0, 65535).astype(np.uint16)


def draw_overlay(
    image: np.ndarray,
    crop_map: np.ndarray,
    placement: Placement,
    regions: Sequence[Region] | None,
) -> Image.Image:
    """The image with its heat where the map is above the threshold, outlined.

    Args:
        image: uint8 (height, width, 3).
        crop_map: (crop, crop), in units of the pixel threshold.
        placement: of the crop.
        regions: which get a box; None if the unit is no threshold: nothing is outlined then.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
    width, height = picture.size
    units = placement.on_image(crop_map, width, height)
    flagged = is_above(units, 1)
    levels = np.clip(units * (255 / BRIGHTEST), 0, 255).astype(np.uint8)
    heat = Image.blend(picture, Image.fromarray(heat_colours()[levels]), HEAT_ALPHA)
    picture.paste(heat, mask=Image.fromarray(flagged))
    if regions is not None:
        picture.paste(PREDICTED, mask=Image.fromarray(outline(flagged)))
    box = placement.box(width, height)
    shown = _hatched(picture)
    shown.paste(picture.crop(box), box[:2])
    _draw_boxes(shown, regions or (), image.shape[1], image.shape[0])
    return shown


def _draw_boxes(picture: Image.Image, regions: Sequence[Region], width: int, height: int) -> None:
    """Draw the boxes of regions of an image (height, width) into a picture that may be smaller."""
    draw, across, down = ImageDraw.Draw(picture), picture.width / width, picture.height / height
    for region in regions:
        left, top, right, bottom = region.box
        x, y = int(left * across), int(top * down)
        corner = max(x, math.ceil(right * across) - 1), max(y, math.ceil(bottom * down) - 1)
        draw.rectangle((x, y, *corner), outline=BOX)


def _hatched(picture: Image.Image) -> Image.Image:
    """The picture in dark grey with lighter diagonal lines."""
    dark = picture.convert("L").point(lambda level: level * BORDER_LIGHT)
    lines = (np.arange(picture.height)[:, None] + np.arange(picture.width)) % HATCH == 0
    dark.paste(dark.point(lambda level: level + LINE_LIGHT), mask=Image.fromarray(lines))
    return dark.convert("RGB")
