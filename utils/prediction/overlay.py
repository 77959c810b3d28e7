"""Place the map of a crop in the original image, and draw it there.

The model does not see the border around the crop, nor pixels outside its region, if it has one.
These are 0 in a map, and grey and hatched in an overlay, so that nobody takes them for normal.
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
from utils.report.figures import PREDICTED, hatched, heat_colours, outline

LEVELS_PER_UNIT = 65535 / 8  # a 16-bit map saturates at 8 times the pixel threshold
LONG_SIDE = 1024  # pixels; overlays of larger images are reduced
BRIGHTEST = 4.0  # units of the threshold at the bright end of the colours; 0 is at the dark one
HEAT_ALPHA = 0.55
BOX = (0, 230, 255)  # of a region


@dataclass(frozen=True)
class Placement:
    """Where ``padim.preprocessing.Preprocessing`` cuts the crop.

    Attributes:
        resize: side in pixels of the resized image.
        crop: side in pixels of the crop in its centre.
        region: bool (crop, crop), true where the model looks; None for everywhere.
    """

    resize: int
    crop: int
    region: np.ndarray | None = None

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the crop in an image: the pixels whose centres are inside."""
        first = (self.resize - self.crop) // 2
        left, right = (self._edge(at, width) for at in (first, first + self.crop))
        top, bottom = (self._edge(at, height) for at in (first, first + self.crop))
        return left, top, right, bottom

    def on_image(self, crop_map: np.ndarray, width: int, height: int) -> np.ndarray:
        """Place a map (crop, crop) in an image: float32 (height, width), 0 where not scored."""
        whole = self._resized(crop_map, width, height)
        if self.region is not None:  # zeros outside do not count: the weights are raised
            share = self._resized(self.region.astype(np.float32), width, height)
            whole = np.divide(whole, share, out=np.zeros_like(whole), where=share > 0)
        left, top, right, bottom = self.box(width, height)
        placed = np.zeros_like(whole)
        placed[top:bottom, left:right] = whole[top:bottom, left:right]
        if self.region is not None:
            placed[~self.looked_at(width, height)] = 0
        return placed

    def looked_at(self, width: int, height: int) -> np.ndarray:
        """Where the model looks in an image, bool (height, width): at the centre of each pixel."""
        looked_at = np.ones((self.crop, self.crop), bool) if self.region is None else self.region
        padded = Image.fromarray(np.pad(looked_at, self._padding))
        return np.asarray(padded.resize((width, height), Image.Resampling.NEAREST))

    @property
    def _padding(self) -> tuple[int, int]:
        before = (self.resize - self.crop) // 2
        return before, self.resize - self.crop - before

    def _resized(self, crop_map: np.ndarray, width: int, height: int) -> np.ndarray:
        """A map (crop, crop) in an image, with edge values continued into the border.

        This keeps the interpolation at the edge correct.
        """
        padded = Image.fromarray(np.pad(crop_map, self._padding, mode="edge"))
        return np.asarray(padded.resize((width, height), Image.Resampling.BILINEAR))

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
        regions: drawn as boxes; None if the unit is not a threshold: nothing is outlined then.
        whole: the map placed in the image, if already computed.
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
    if placement.region is None:
        _draw_border(picture, placement.box(width, height))
    else:
        outside = Image.fromarray(~placement.looked_at(width, height))
        picture.paste(hatched(picture), mask=outside)
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
    """Make the area around the box dark grey with lighter diagonal lines."""
    left, top, right, bottom = box
    width, height = picture.size
    for strip in (
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, top, left, bottom),
        (right, top, width, bottom),
    ):
        if strip[0] < strip[2] and strip[1] < strip[3]:
            picture.paste(hatched(picture.crop(strip), strip[0] + strip[1]), strip[:2])


def _draw_boxes(picture: Image.Image, regions: Sequence[Region], width: int, height: int) -> None:
    """Draw the boxes of regions of an image (height, width) into a picture that may be smaller."""
    draw, across, down = ImageDraw.Draw(picture), picture.width / width, picture.height / height
    for region in regions:
        left, top, right, bottom = region.box
        x, y = int(left * across), int(top * down)
        corner = max(x, math.ceil(right * across) - 1), max(y, math.ceil(bottom * down) - 1)
        draw.rectangle((x, y, *corner), outline=BOX)
