"""Putting the map of a crop back into the original image, and drawing it there.

The model sees a crop of the resized image and never the border around it. The border is 0 in a map,
and grey and hatched in an overlay, so that nobody takes it for normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

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
    whole: np.ndarray | None = None,
) -> Image.Image:
    """The image with its heat where the map is above the threshold, outlined.

    Args:
        image: uint8 (height, width, 3).
        crop_map: (crop, crop), in units of the pixel threshold.
        placement: of the crop.
        regions: which get a box; None if the unit is no threshold: nothing is outlined then.
        whole: the map placed in the image, if it is there already.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
    width, height = picture.size
    if whole is None or whole.shape != (height, width):
        whole = placement.on_image(crop_map, width, height)
    flagged = is_above(whole, 1)
    _draw_heat(picture, whole, flagged)
    if regions is not None:
        picture.paste(PREDICTED, mask=Image.fromarray(outline(flagged)))
    _draw_border(picture, placement.box(width, height))
    _draw_boxes(picture, regions or (), image.shape[1], image.shape[0])
    return picture


def _draw_heat(picture: Image.Image, units: np.ndarray, flagged: np.ndarray) -> None:
    """Draw the heat of the flagged pixels, computed in the smallest box around them."""
    rows, columns = (np.flatnonzero(flagged.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    levels = units[top:bottom, left:right] * (255 / BRIGHTEST)
    colours = _heat_colours()[np.clip(levels, 0, 255).astype(np.uint8)]
    part = picture.crop((left, top, right, bottom))
    heat = Image.blend(part, Image.fromarray(colours), HEAT_ALPHA)
    mask = Image.fromarray(flagged[top:bottom, left:right])
    picture.paste(heat, (left, top), mask)


@cache
def _heat_colours() -> np.ndarray:
    return heat_colours()


def _draw_border(picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Make what is around the box dark grey with lighter diagonal lines."""
    left, top, right, bottom = box
    width, height = picture.size
    for strip in (
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, top, left, bottom),
        (right, top, width, bottom),
    ):
        if strip[0] < strip[2] and strip[1] < strip[3]:
            picture.paste(_hatched(picture.crop(strip), strip[0] + strip[1]), strip[:2])


def _draw_boxes(picture: Image.Image, regions: Sequence[Region], width: int, height: int) -> None:
    """Draw the boxes of regions of an image (height, width) into a picture that may be smaller."""
    draw, across, down = ImageDraw.Draw(picture), picture.width / width, picture.height / height
    for region in regions:
        left, top, right, bottom = region.box
        x, y = int(left * across), int(top * down)
        corner = max(x, math.ceil(right * across) - 1), max(y, math.ceil(bottom * down) - 1)
        draw.rectangle((x, y, *corner), outline=BOX)


def _hatched(picture: Image.Image, place: int) -> Image.Image:
    """A picture in dark grey with lines, ``place`` pixels from the first of them."""
    dark = picture.convert("L").point(lambda level: level * BORDER_LIGHT)
    lines = (np.arange(picture.height)[:, None] + np.arange(picture.width) + place) % HATCH == 0
    dark.paste(dark.point(lambda level: level + LINE_LIGHT), mask=Image.fromarray(lines))
    return dark.convert("RGB")
