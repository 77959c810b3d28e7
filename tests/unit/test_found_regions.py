"""The regions of a prediction, against scipy.ndimage and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import CROP, config, draw, random_backbone
from scipy import ndimage

from padim.calibration import PIXEL_RATES, Calibration
from padim.errors import ModelError
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from padim.regions import RegionFinder


def finder(threshold: float = 0.5, resize: int = 20, crop: int = 20) -> RegionFinder:
    normal = torch.linspace(0, 1, 400).view(1, 20, 20)
    return RegionFinder(Calibration.from_maps([normal]), threshold, Preprocessing(resize, crop))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_area", [1, 4, 30])
def test_regions_are_those_of_scipy(seed: int, min_area: int) -> None:
    noise = np.random.default_rng(seed).random((40, 40))
    values = ndimage.gaussian_filter(noise, 1.3 if seed % 2 else 0.4).astype(np.float32)
    threshold = float(np.quantile(values, 0.7 + 0.05 * seed))
    labels, count = ndimage.label(values > threshold, structure=np.ones((3, 3)))
    expected = set()
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        area = int((labels == number).sum())
        y, x = ndimage.maximum_position(values, labels, number)
        if area >= min_area:
            box = (columns.start, rows.start, columns.stop, rows.stop)
            expected.add((box, area, float(values[y, x]), (int(x), int(y))))
    found = finder(threshold, 40, 40).find(values, (40, 40), min_area)
    assert {(one.box, one.area, one.peak, one.position) for one in found} == expected
    assert count > 1
    assert [one.peak for one in found] == sorted((one.peak for one in found), reverse=True)


def test_a_box_is_in_pixels_of_the_original_image() -> None:
    """Resized from 100 x 40 to 20 x 20, cropped to 10 x 10: from 5 on, 5 and 2 pixels a pixel."""
    values = np.zeros((10, 10), np.float32)
    values[2:4, 6:9] = 0.8
    values[3, 7] = 0.9
    (region,) = finder(0.5, 20, 10).find(values, (100, 40))
    assert region.box == (55, 14, 70, 18)
    assert (region.area, region.peak) == (6, pytest.approx(0.9))
    assert region.position == (62, 17)  # the middle of the pixel: 12.5 * 5 and 8.5 * 2


@pytest.mark.parametrize("size", [(7, 5), (20, 20), (900, 33), (1, 1)])
def test_no_box_is_empty_or_outside(size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).random((14, 14)).astype(np.float32)
    for region in finder(0.9, 20, 14).find(values, size):
        left, top, right, bottom = region.box
        assert 0 <= left <= region.position[0] < right <= size[0]
        assert 0 <= top <= region.position[1] < bottom <= size[1]


def test_regions_that_touch_at_a_corner_are_one_and_negative_peaks_are_found() -> None:
    values = np.full((20, 20), -3, np.float32)
    values[4, 4], values[5, 5], values[9, 9] = -1, -0.5, -2
    found = finder(-2.5).find(values, (20, 20))
    assert [(one.area, one.peak, one.position) for one in found] == [
        (2, -0.5, (5, 5)),
        (1, -2, (9, 9)),
    ]


def test_the_p_value_of_a_pixel_is_the_share_of_normal_pixels_as_high() -> None:
    normal = torch.rand(2, 100, 100, generator=torch.Generator().manual_seed(0))
    calibration = Calibration.from_maps([normal])
    values = torch.tensor([-1.0, 0.0, 0.3, 0.9, 0.99, 0.999, 5.0])
    exact = [float((normal >= value).double().mean()) for value in values]
    found = calibration.pixel_p_values(values).tolist()
    for given, true in zip(found[:-1], exact, strict=False):
        assert true <= given <= max(true * 10**0.01, true + 1 / 20000)
    assert found[0] == found[1] == 1
    assert found[-1] == PIXEL_RATES[0]


def test_a_prediction_has_its_regions() -> None:
    model = PaDiM(random_backbone(), config()).fit(draw(6, 1))
    image = draw(1, 2)
    image[..., 20:40, 10:30] = 255
    wide = image.repeat_interleave(3, dim=-1)[0].permute(1, 2, 0).numpy()  # resized back by 3
    (result,) = model.predict([wide], 0.2)
    assert result.size == (3 * CROP, CROP)
    threshold = model.calibration.pixel_threshold(0.2)
    values = result.anomaly_map.numpy()
    labels, count = ndimage.label(values > threshold, structure=np.ones((3, 3)))
    regions = result.regions()
    assert len(regions) == count > 0
    rows, columns = ndimage.find_objects(labels)[labels.flat[values.argmax()] - 1]
    assert regions[0].peak == result.score
    assert regions[0].box == (3 * columns.start, rows.start, 3 * columns.stop, rows.stop)
    assert len(result.regions(min_area=CROP**2)) == (count == 1 and (labels > 0).all())
    with pytest.raises(ModelError, match="min_area 0"):
        result.regions(0)


def test_a_model_without_calibration_has_no_regions() -> None:
    model = PaDiM(random_backbone(), config()).fit(draw(2, 1))
    (result,) = model.predict(draw(1, 2))
    assert result.regions() is None
