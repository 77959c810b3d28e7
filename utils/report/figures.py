"""Localisation figures: image, ground truth, anomaly map, predicted mask and segmentation.

Pillow composes a figure from arrays. What all figures of a class share (captions, colour bar) is
drawn once, so a figure takes a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from padim.calibration import is_above
from utils.evaluation.class_record import Threshold
from utils.report.text import printable

PANELS = ("image", "ground truth", "anomaly map", "predicted mask", "segmentation")
PANEL_SIDE = (192, 384)  # pixels, smallest and largest; a crop in between is not resized
MARGIN = 12
HEADER = 50
BAR_WIDTH = 14
BAR_SPACE = 66
HATCH, HATCH_LIGHT = 10, 50  # pixels between two lines, and the levels by which they are lighter
NOT_LOOKED_AT = 0.45  # of the lightness that is left of what a model does not look at
INK, FAINT, PAPER = (20, 20, 20), (120, 120, 120), (255, 255, 255)
PREDICTED, TRUE = (255, 60, 0), (0, 230, 255)


class FigureMaker:
    """Draws the figures of one class, on one colour scale.

    Args:
        side: side of images, masks and maps in pixels.
        low: map value at the dark end of the scale.
        high: map value at the bright end.
        threshold: map value above which a pixel is predicted defective.
        region: bool (side, side), true where the model looks; None for everywhere.
    """

    def __init__(
        self,
        side: int,
        low: float,
        high: float,
        threshold: Threshold,
        region: np.ndarray | None = None,
    ) -> None:
        self._panel = _panel_side(side)
        self._low = low
        self._span = max(high - low, float(np.finfo(np.float32).tiny))
        self._threshold = threshold.value
        self._outside = None if region is None else Image.fromarray(~region)
        self._lefts = panel_lefts(side)
        self._template = self._draw_template(side, high, threshold.name)

    def draw(
        self,
        title: str,
        image: np.ndarray,
        anomaly_map: np.ndarray,
        mask: np.ndarray | None,
    ) -> Image.Image:
        """One figure.

        Args:
            title: the line above the panels.
            image: uint8 (side, side, 3).
            anomaly_map: float (side, side).
            mask: bool (side, side), all false for a good image; None if there is no ground truth.
        """
        heat = np.clip((anomaly_map - self._low) / self._span, 0, 1) * 255
        predicted = np.zeros(anomaly_map.shape, dtype=bool)
        if self._threshold is not None:
            predicted = is_above(anomaly_map, self._threshold)
        figure = self._template.copy()
        _text(figure, (MARGIN, 8), title, INK, 15)
        truth = np.zeros_like(predicted) if mask is None else mask
        panels = (
            image,
            _black_and_white(truth),
            self._hatched(heat_colours()[heat.astype(np.uint8)]),
            self._hatched(_black_and_white(predicted)),
            _outlined(self._hatched(image), predicted, truth),
        )
        for left, panel in zip(self._lefts, panels, strict=True):
            figure.paste(self._sized(panel), (left, HEADER))
        if mask is None:
            _text(figure, (self._lefts[1] + 8, HEADER + 8), "no mask", PAPER, 13)
        return figure

    def _hatched(self, panel: np.ndarray) -> np.ndarray:
        """A panel, hatched where the model does not look."""
        if self._outside is None:
            return panel
        picture = Image.fromarray(panel)
        picture.paste(hatched(picture), mask=self._outside)
        return np.asarray(picture)

    def _sized(self, panel: np.ndarray) -> Image.Image:
        image = Image.fromarray(panel)
        if image.width == self._panel:
            return image
        return image.resize((self._panel, self._panel), Image.Resampling.BILINEAR)

    def _draw_template(self, side: int, high: float, threshold_name: str) -> Image.Image:
        template = Image.new("RGB", figure_size(side), PAPER)
        for left, caption in zip(self._lefts, PANELS, strict=True):
            _text(template, (left, 30), caption, FAINT, 12)
        value = "" if self._threshold is None else f" {self._threshold:.2f}"
        _text(template, (self._lefts[3], 8), f"threshold{value} ({threshold_name})", FAINT, 13)
        right = _text(template, (self._lefts[4] + 86, 30), "predicted", PREDICTED, 12)
        _text(template, (right + 8, 30), "true", (0, 150, 170), 12)
        self._draw_colour_bar(template, high)
        return template

    def _draw_colour_bar(self, template: Image.Image, high: float) -> None:
        left = self._lefts[2] + self._panel + 6
        ramp = np.linspace(255, 0, self._panel).round().astype(np.uint8)
        bar = np.repeat(heat_colours()[ramp][:, None], BAR_WIDTH, axis=1)
        template.paste(Image.fromarray(bar), (left, HEADER))
        if self._threshold is not None:  # a tick across the bar
            y = HEADER + round((high - self._threshold) / self._span * (self._panel - 1))
            ImageDraw.Draw(template).line((left - 3, y, left + BAR_WIDTH + 2, y), PREDICTED, 2)
        values = [high - self._span * i / 4 for i in range(5)]
        for i, value in enumerate(values):
            y = HEADER + round(i * (self._panel - 12) / 4) - 1
            _text(template, (left + BAR_WIDTH + 5, y), f"{value:.3g}", INK, 11)


def _panel_side(side: int) -> int:
    return int(np.clip(side, *PANEL_SIDE))


def panel_lefts(side: int) -> list[int]:
    """The left edges of the panels in pixels, for maps of this side."""
    step = _panel_side(side) + MARGIN
    return [MARGIN + i * step + BAR_SPACE * (i > 2) for i in range(len(PANELS))]


def figure_size(side: int) -> tuple[int, int]:
    """Width and height of a figure in pixels, for maps of this side."""
    return panel_lefts(side)[-1] + _panel_side(side) + MARGIN, HEADER + _panel_side(side) + MARGIN


@dataclass(frozen=True)
class PanelBoxes:
    """Where the panels are in a figure, in pixels.

    Attributes:
        width: of the figure.
        height: of the figure.
        side: of each panel.
        top: upper edge of all panels.
        lefts: left edge of each of ``PANELS``.
    """

    width: int
    height: int
    side: int
    top: int
    lefts: tuple[int, ...]


def panel_boxes(side: int) -> PanelBoxes:
    """Where the panels are, for maps of this side."""
    return PanelBoxes(*figure_size(side), _panel_side(side), HEADER, tuple(panel_lefts(side)))


@cache
def heat_colours() -> np.ndarray:
    """256 RGB colours from low to high, uint8 (256, 3)."""
    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _black_and_white(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255


def hatched(picture: Image.Image, place: int = 0) -> Image.Image:
    """What a model does not look at: a picture in dark grey with lighter diagonal lines.

    Args:
        picture: the picture.
        place: pixels from the first line to its left upper corner.
    """
    dark = picture.convert("L").point(lambda level: level * NOT_LOOKED_AT)
    lines = (np.arange(picture.height)[:, None] + np.arange(picture.width) + place) % HATCH == 0
    dark.paste(dark.point(lambda level: level + HATCH_LIGHT), mask=Image.fromarray(lines))
    return dark.convert("RGB")


def _outlined(image: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The image with the outlines of the true and the predicted regions, two pixels wide."""
    drawn = image.copy()
    drawn[outline(truth)] = TRUE
    drawn[outline(predicted)] = PREDICTED
    return drawn


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels on either side of the edge of a region, bool like ``mask``."""
    found = np.zeros_like(mask)
    edges = mask[1:] != mask[:-1]
    found[1:] |= edges
    found[:-1] |= edges
    edges = mask[:, 1:] != mask[:, :-1]
    found[:, 1:] |= edges
    found[:, :-1] |= edges
    return found


def _text(
    image: Image.Image, at: tuple[int, int], text: str, colour: tuple[int, int, int], size: int
) -> int:
    """Write a line of text; returns its right end in pixels."""
    line = printable(text)
    draw = ImageDraw.Draw(image)
    draw.text(at, line, fill=colour, font=_font(size))
    return int(at[0] + draw.textlength(line, font=_font(size)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
