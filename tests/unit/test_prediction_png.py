"""The PNG files of maps and overlays hold what was given, with and without imagecodecs."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from utils.prediction import png
from utils.prediction.overlay import Placement, draw_overlay


@pytest.fixture(params=["libdeflate", "zlib"])
def compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    png._compressor.cache_clear()
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    yield
    png._compressor.cache_clear()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (30, 1), (41, 33)])
@pytest.mark.parametrize("kind", ["map", "overlay"])
@pytest.mark.usefixtures("compressor")
def test_pixels_come_back(shape: tuple[int, int], kind: str) -> None:
    draw = np.random.default_rng(0)
    deep = draw.integers(0, 2**16, shape, dtype=np.uint16)
    pixels = deep if kind == "map" else draw.integers(0, 256, (*shape, 3), dtype=np.uint8)
    content = png.encode_png(pixels)
    with Image.open(io.BytesIO(content)) as image:
        image.verify()  # all checksums
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


@pytest.mark.usefixtures("compressor")
def test_files_are_no_larger_than_pillows() -> None:
    y, x = np.mgrid[:200, :200] / 40
    noise = np.random.default_rng(0).normal(0, 2, (200, 200, 3))
    photo = (120 + 60 * np.sin(x * y)[..., None] + noise).clip(0, 255).astype(np.uint8)
    smooth = (9000 + 8000 * np.sin(x) * np.cos(y)).astype(np.uint16)
    for pixels, most in ((photo, 1.1), (smooth, 1.0)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
        assert len(png.encode_png(pixels)) < most * len(file.getvalue())


@pytest.mark.parametrize("is_flagged", [True, False])
def test_an_overlay_is_heat_inside_and_grey_outside(is_flagged: bool) -> None:
    image = np.full((90, 120, 3), (200, 100, 50), np.uint8)
    crop_map = np.zeros((224, 224), np.float32)
    if is_flagged:
        crop_map[100:140, 60:100] = 3
    placement = Placement(256, 224)
    drawn = np.asarray(draw_overlay(image, crop_map, placement, ()))
    whole = placement.on_image(crop_map, 120, 90)
    again = draw_overlay(image, crop_map, placement, (), whole)
    np.testing.assert_array_equal(np.asarray(again), drawn)
    left, top, right, bottom = placement.box(120, 90)
    inside = drawn[top:bottom, left:right]
    is_changed = (inside != (200, 100, 50)).any(axis=2)
    assert is_changed.any() == is_flagged
    assert not is_changed[:9].any()  # far from it
    border = np.ones((90, 120), bool)
    border[top:bottom, left:right] = False
    greys = drawn[border]
    assert (greys == greys[:, :1]).all()
    assert len(np.unique(greys)) == 2  # dark, and the lines
    lines = (np.add.outer(np.arange(90), np.arange(120)) % 10 == 0)[border]
    assert (greys[lines] > greys[~lines].max()).all()
