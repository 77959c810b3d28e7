"""The resize that an exported graph computes, beside the one of the preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim.onnx_resize import ResizeAndCrop
from padim.preprocessing import Preprocessing


@pytest.mark.parametrize("preprocessing", [Preprocessing(), Preprocessing(61, 40)])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 700), (5, 3), (61, 61), (97, 64), (256, 256), (300, 417), (900, 901)]
)
def test_every_value_is_that_of_the_preprocessing(
    size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    image = np.random.default_rng(size[1]).integers(0, 256, (*size, 3), dtype=np.uint8)
    image[: size[0] // 2] //= 64  # flat beside noisy, and overshoots that are clipped
    found = ResizeAndCrop(preprocessing)(torch.from_numpy(image)[None])
    expected = preprocessing.crop_of(image)
    assert found.dtype == torch.float32
    assert torch.equal(found[0], expected.float())


def test_sums_beyond_float32_differ_by_one_level_at_most() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2600, 1900, 3), dtype=np.uint8)
    found = ResizeAndCrop(Preprocessing())(torch.from_numpy(image)[None])[0]
    differences = (found - Preprocessing().crop_of(image).float()).abs()
    assert differences.max() <= 1
    assert differences.count_nonzero() <= 1e-4 * differences.numel()


def test_images_of_a_batch_do_not_mix() -> None:
    images = torch.randint(0, 256, (3, 70, 50, 3), dtype=torch.uint8)
    resized = ResizeAndCrop(Preprocessing(64, 56))
    each = torch.cat([resized(image[None]) for image in images])
    assert torch.equal(resized(images), each)
