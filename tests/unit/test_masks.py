"""Masks of every encoding and orientation, against the shape that was drawn."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

from datasets.doubts import doubts_of
from datasets.layouts.files import check_mask_size
from datasets.masks import read_mask
from datasets.types import AnomalyClass, DataError, Sample
from padim.errors import ImageError
from padim.reading.image_file import read_image
from padim.reading.image_metadata import INVERSE, turned

SHAPE = np.zeros((32, 48), bool)
SHAPE[8:16, 16:40] = True  # whole blocks of a JPEG file
SHAPE[24:, :8] = True
WHITE = SHAPE.astype(np.uint8) * 255
COLOURS = np.dstack([WHITE, WHITE // 2, WHITE * 0])


# Pillow before 13 cannot read the YCbCr TIFF files that it writes.
OLD_PILLOW = int(PIL.__version__.partition(".")[0]) < 13


def draw(levels: np.ndarray, mode: str | None = None) -> Image.Image:
    image = Image.fromarray(levels)
    return image if mode is None else image.convert(mode)


def with_alpha(colour: int, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((*SHAPE.shape, 3), colour, np.uint8), alpha]))


def transparent_palette() -> Image.Image:
    image = Image.fromarray(SHAPE.astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 255, 255, 255])
    image.info["transparency"] = b"\x00\xff"
    return image


MASKS = {
    "grey.png": (draw(WHITE), {}),
    "labels.png": (draw(WHITE // 85), {}),
    "one_bit.png": (draw(WHITE, "1"), {}),
    "one_bit.tif": (draw(WHITE, "1"), {"compression": "group4"}),
    "labels_16.png": (draw(WHITE.astype(np.uint16) // 255), {}),
    "float.tif": (draw(SHAPE.astype(np.float32)), {}),
    "int.tif": (draw(SHAPE.astype(np.int32)), {}),
    "colours.png": (draw(COLOURS), {}),
    "colours.webp": (draw(COLOURS), {"lossless": True}),
    "cmyk.tif": (draw(COLOURS, "CMYK"), {}),
    "cmyk_lzw.tif": (draw(WHITE, "CMYK"), {"compression": "tiff_lzw"}),
    "cmyk.jpg": (draw(WHITE, "CMYK"), {"quality": 95}),
    "lab.tif": (Image.merge("LAB", [draw(WHITE), *[draw(WHITE * 0 + 128)] * 2]), {}),
    **({} if OLD_PILLOW else {"ycbcr.tif": (draw(WHITE, "YCbCr"), {})}),
    "lossy.jpg": (draw(WHITE), {"quality": 60}),
    "lossy_colours.jpg": (draw(COLOURS), {"quality": 60}),
    "lossy.webp": (draw(WHITE), {"quality": 60}),
    "jpeg.tif": (draw(WHITE), {"compression": "jpeg"}),
    "jpeg_colours.tif": (draw(COLOURS), {"compression": "jpeg"}),
    "palette.png": (draw(COLOURS).quantize(4), {}),
    "opaque.png": (draw(COLOURS, "RGBA"), {}),
    "faint.png": (Image.fromarray(np.dstack([COLOURS, WHITE * 0 + 7])), {}),
    "unseen.png": (Image.fromarray(np.dstack([COLOURS, WHITE * 0])), {}),
    "shape_in_white.png": (with_alpha(255, WHITE), {}),
    "shape_in_black.png": (with_alpha(0, WHITE), {}),
    "shape_in_black.tif": (with_alpha(0, WHITE), {}),
    "shape_in_red.webp": (with_alpha(200, WHITE), {"lossless": True}),
    "grey_alpha.png": (Image.fromarray(np.dstack([WHITE * 0, WHITE]), mode="LA"), {}),
    "transparent_palette.png": (transparent_palette(), {}),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_shape_is_read(tmp_path: Path, name: str) -> None:
    image, options = MASKS[name]
    image.save(tmp_path / name, **options)
    np.testing.assert_array_equal(read_mask(tmp_path / name), SHAPE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_white_is_zero(tmp_path: Path, dtype: type) -> None:
    levels = np.where(SHAPE, 0, np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(tmp_path / "mask.tif", levels, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), SHAPE)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_deep_colours_lose_no_label(tmp_path: Path, planes: str) -> None:
    levels = np.dstack([SHAPE * 0, SHAPE * 1, SHAPE * 0]).astype(np.uint16)
    if planes == "separate":
        levels = np.moveaxis(levels, 2, 0)
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, levels, photometric="rgb", planarconfig=planes)
    np.testing.assert_array_equal(read_mask(path), SHAPE)


def test_a_black_mask_is_empty_in_every_encoding(tmp_path: Path) -> None:
    black = np.zeros(SHAPE.shape, np.uint8)
    for name, image in {
        "black.png": draw(black),
        "black.jpg": draw(black),
        "opaque.png": draw(black, "RGBA"),
        "transparent_black.png": with_alpha(0, black),
        "transparent_white.png": with_alpha(255, black),
        "cmyk.tif": draw(black, "CMYK"),
        **({} if OLD_PILLOW else {"ycbcr.tif": draw(black, "YCbCr")}),
    }.items():
        image.save(tmp_path / name)
        assert not read_mask(tmp_path / name).any(), name


def test_a_mask_that_cannot_be_understood_is_refused(tmp_path: Path) -> None:
    refused = {
        "nan.tif": draw(np.where(SHAPE, np.nan, 0).astype(np.float32)),
        "negative.tif": draw(-SHAPE.astype(np.float32)),
        "dim.jpg": draw(WHITE // 3),
    }
    for name, image in refused.items():
        image.save(tmp_path / name)
        with pytest.raises(ImageError, match=name):
            read_mask(tmp_path / name)


def save_turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """A file whose pixels, as shown, are these."""
    stored = turned(pixels, INVERSE.get(orientation, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, **({"exif": exif} if orientation > 1 else {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_mask_is_turned_as_its_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = tmp_path / f"image.{suffix}"
    save_turned(image, np.dstack([WHITE] * 3), orientation)
    bright = read_image(image)[:, :, 0] > 127
    assert (bright == SHAPE).mean() > 0.98
    upright, tagged, stored = (tmp_path / f"{name}.png" for name in ("upright", "tagged", "stored"))
    Image.fromarray(WHITE).save(upright)
    save_turned(tagged, WHITE, orientation)
    Image.fromarray(turned(WHITE, INVERSE.get(orientation, orientation))).save(stored)
    masks = [upright, tagged] + [stored] * (orientation in (1, 5, 6, 7, 8))
    for mask in masks:
        check_mask_size(image, mask)
        np.testing.assert_array_equal(read_mask(mask, image), SHAPE, err_msg=mask.name)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_tag_of_the_mask_that_does_not_fit_is_not_followed(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(WHITE).save(tmp_path / "image.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = tmp_path / f"mask.{suffix}"
    Image.fromarray(WHITE).save(mask, exif=exif)
    check_mask_size(tmp_path / "image.png", mask)
    np.testing.assert_array_equal(read_mask(mask, tmp_path / "image.png"), SHAPE)


def test_a_mask_that_fits_in_no_way_is_named(tmp_path: Path) -> None:
    save_turned(tmp_path / "image.jpg", WHITE, 6)
    Image.fromarray(WHITE[:, :40]).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png is 40x32 but .* is 48x32"):
        check_mask_size(tmp_path / "image.jpg", tmp_path / "mask.png")


def make_class(tmp_path: Path, sample: Sample) -> AnomalyClass:
    return AnomalyClass("tiles", tmp_path, (sample,), (sample, sample))


def test_a_square_that_is_turned_is_said_once(tmp_path: Path) -> None:
    square, image, mask = WHITE[:, :32], tmp_path / "image.png", tmp_path / "mask.png"
    save_turned(image, square, 6)
    Image.fromarray(square).save(mask)
    (doubt,) = doubts_of(make_class(tmp_path, Sample(image, "spot", mask)), 16)
    assert "2 images" in doubt and "upright" in doubt and str(image) in doubt
    save_turned(mask, square, 6)
    assert not doubts_of(make_class(tmp_path, Sample(image, "spot", mask)), 16)
    np.testing.assert_array_equal(read_mask(mask, image), SHAPE[:, :32])


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_nearly_black_images_are_said_with_their_bits(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    path = tmp_path / f"deep.{suffix}"
    values = np.linspace(0, 2**bits - 1, SHAPE.size).reshape(SHAPE.shape).astype(np.uint16)
    Image.fromarray(values).save(path)
    (doubt,) = doubts_of(make_class(tmp_path, Sample(path)), 16)
    assert f"end at {2**bits - 1} of 65535" in doubt and doubt.endswith(f"--bits {bits}")
    assert not doubts_of(make_class(tmp_path, Sample(path)), bits)
    shallow = (values.astype(np.uint32) * 255 + (2**bits - 1) // 2) // (2**bits - 1)
    np.testing.assert_array_equal(read_image(path, bits)[:, :, 0], shallow)


def test_bits_that_are_too_few_are_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 1024, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"bits 10 .* 1023, but image .*deep.png has 1024"):
        read_image(tmp_path / "deep.png", 10)
    Image.fromarray(WHITE).save(tmp_path / "usual.png")
    assert read_image(tmp_path / "usual.png", 10).max() == 255


def test_packed_12_bits_are_scaled_by_what_the_file_says(tmp_path: Path) -> None:
    values = [0, 4095] * 4
    packed = b"".join(
        bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
        for a, b in zip(values[::2], values[1::2], strict=True)
    )
    tags = {256: 4, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<4sI", b"II*\0", 8 + len(packed)) + packed
    (tmp_path / "packed.tif").write_bytes(
        head + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    )
    pixels = read_image(tmp_path / "packed.tif")
    np.testing.assert_array_equal(pixels[:, :, 0], [[0, 255, 0, 255]] * 2)
