"""Image and mask files of every kind, against Pillow and hand-made pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.io
from PIL import ExifTags, Image, ImageCms, ImageOps

from datasets.masks import read_mask
from padim.errors import ImageError
from padim.preprocessing import Preprocessing
from padim.reading.image_file import image_size, read_image

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "TIFF"])
def test_lossless_rgb_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(read_image(path), RGB)


def test_the_papers_crop_is_the_centre(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    crop = Preprocessing().image(tmp_path / "image.png").permute(1, 2, 0)
    np.testing.assert_array_equal(crop, pixels[16:240, 16:240])
    Image.fromarray(pixels[:, :, 0] // 128).save(tmp_path / "mask.png")
    mask = Preprocessing().crop_of_mask(read_mask(tmp_path / "mask.png"))
    np.testing.assert_array_equal(mask, pixels[16:240, 16:240, 0] >= 128)


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 40).astype(np.uint8)[None, :, None], (30, 1, 3))
    Image.fromarray(smooth).save(tmp_path / "image.JPG", quality=95)
    assert np.abs(read_image(tmp_path / "image.JPG").astype(int) - smooth).max() < 8


def test_grey_palette_and_alpha(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.dstack([GREY] * 3))

    alpha = np.dstack([RGB, np.full_like(GREY, 7)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), RGB)

    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"deep.{suffix}"), np.dstack([GREY] * 3))


def test_png_of_every_make_is_read_as_pillow_does(tmp_path: Path) -> None:
    photograph = Image.fromarray(RGB)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    makes = {
        "optimised": (photograph, {"optimize": True, "dpi": (72, 72)}),
        "turned": (photograph, {"exif": turned}),
        "transparent": (photograph, {"transparency": (0, 0, 0)}),
        "transparent_grey": (Image.fromarray(GREY), {"transparency": 3}),
        "with_a_profile": (photograph, {"icc_profile": srgb.tobytes()}),
        "black_and_white": (Image.fromarray(GREY).convert("1"), {}),
        "four_bits": (photograph.quantize(9), {"bits": 4}),
    }
    for name, (image, options) in makes.items():
        path = tmp_path / f"{name}.png"
        image.save(path, **options)
        with Image.open(path) as read:
            expected = np.asarray(ImageOps.exif_transpose(read).convert("RGB"))
        np.testing.assert_array_equal(read_image(path), expected, err_msg=name)


def test_a_png_with_a_wrong_byte_is_no_image_of_noise(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.png cannot be read"):
        read_image(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(tmp_path / "image.png")


def test_16_bit_colour_tiff(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    skimage.io.imsave(path, RGB.astype(np.uint16) * 257, check_contrast=False)
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (40, 30)


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert read_image(tmp_path / "turned.jpg").shape == (40, 30, 3)
    assert image_size(tmp_path / "turned.jpg") == (30, 40)


def test_the_crop_is_pillows_resize_to_a_grey_level(tmp_path: Path) -> None:
    # Smooth content, as photographs have it: on noise the two libraries round further apart.
    y, x = np.mgrid[:90, :120]
    pixels = np.dstack([127 + 120 * np.sin(x / 9), 2 * x, 2 * y]).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    ours = Preprocessing(64, 56).image(tmp_path / "image.png")
    theirs = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC))
    difference = ours.permute(1, 2, 0).numpy().astype(int) - theirs[4:60, 4:60]
    assert ours.shape == (3, 56, 56)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.02


def test_the_mask_follows_its_image(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[30:50, 60:90] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "mask.png")
    crop = Preprocessing(60, 50)
    bright = crop.image(tmp_path / "image.png").float().mean(dim=0) > 127
    np.testing.assert_array_equal(
        crop.crop_of_mask(read_mask(tmp_path / "mask.png")).numpy(), bright.numpy()
    )


def test_masks_of_every_kind(tmp_path: Path) -> None:
    defect = np.zeros((20, 30), bool)
    defect[5:12, 8:20] = True
    values = {
        "white.png": Image.fromarray(defect.astype(np.uint8) * 255),
        "labels.png": Image.fromarray(defect.astype(np.uint8) * 3),
        "one_bit.png": Image.fromarray(defect),
        "rgb.bmp": Image.fromarray(np.dstack([defect.astype(np.uint8) * 255] * 3)),
        "lossy.jpg": Image.fromarray(defect.astype(np.uint8) * 255),
    }
    palette = Image.fromarray(defect.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    values["palette.png"] = palette
    alpha = np.dstack([defect.astype(np.uint8) * 255] * 3 + [np.full_like(defect, 255, np.uint8)])
    values["alpha.png"] = Image.fromarray(alpha)
    for name, image in values.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), defect, err_msg=name)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(RGB).save(whole)
    damaged = {
        "cut.png": whole.read_bytes()[:1500],
        "empty.png": b"",
        "text.png": b"not an image at all",
        "text.tif": b"not an image at all",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)


def test_floating_point_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)).save(
        tmp_path / "float.tif"
    )
    with pytest.raises(ImageError, match=r"float\.tif.*16 bits"):
        read_image(tmp_path / "float.tif")


def test_content_of_another_format_is_not_decoded(tmp_path: Path) -> None:
    """A name does not choose the decoder, so that content must not choose an undocumented one."""
    picture = Image.new("RGB", (8, 8), "red")
    for kind in ("EPS", "GIF", "PPM", "JPEG2000", "ICO", "PCX", "TGA", "SGI"):
        path = tmp_path / f"{kind}.png"
        picture.save(path, format=kind)
        for read in (read_image, read_mask, image_size):
            with pytest.raises(ImageError, match=f"{kind}.png is not an image"):
                read(path)
