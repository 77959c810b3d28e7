"""A model that looks at a part of the images: what it learns, scores, stores and refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CROP, config, draw, draw_image
from hostile_files import pack, read
from PIL import Image

from padim.anomaly_map import AnomalyMap
from padim.backbones import Backbone
from padim.errors import ImageError, ModelError
from padim.model import PaDiM
from padim.region_of_interest import RegionOfInterest, check_shape, read_region

YY, XX = np.mgrid[:CROP, :CROP] + 0.5
DISC = np.hypot(YY - 30, XX - 34) < 20
SMALL = {"sigma": 1.0}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("resnet18", "random")


@pytest.fixture(scope="module")
def model(backbone: Backbone) -> PaDiM:
    return PaDiM(backbone, config(**SMALL)).fit(draw(24, 1), region=DISC)


def test_inside_it_is_the_model_of_everywhere(model: PaDiM, backbone: Backbone) -> None:
    whole = PaDiM(backbone, config(**SMALL)).fit(draw(24, 1))
    positions, test = model.region.positions, draw(5, 2)
    torch.testing.assert_close(model.gaussian.mean, whole.gaussian.mean[positions])
    torch.testing.assert_close(model.gaussian.factor, whole.gaussian.factor[positions])
    (maps, scores), (everywhere, _) = model.score(test), whole.score(test)
    assert maps[:, ~DISC].eq(0).all()
    assert scores.equal(maps.flatten(1).amax(dim=1))
    far = torch.from_numpy(np.hypot(YY - 30, XX - 34) < 6)  # no weight of it is outside
    torch.testing.assert_close(maps[:, far], everywhere[:, far])


def test_a_white_mask_changes_nothing(backbone: Backbone) -> None:
    whole = PaDiM(backbone, config()).fit(draw(6, 1))
    white = PaDiM(backbone, config()).fit(draw(6, 1), region=np.ones((10, 10), bool))
    assert white.region.share == 1
    assert white.score(draw(3, 2))[0].equal(whole.score(draw(3, 2))[0])
    assert white.calibration.pixel_levels.equal(whole.calibration.pixel_levels)


def test_thresholds_are_of_the_pixels_inside(backbone: Backbone) -> None:
    """An outside that is never normal changes no threshold and no score."""
    train, test = draw(8, 1), draw(3, 2)
    mask = torch.zeros(CROP, CROP, dtype=torch.bool)
    mask[:8, :8] = True  # the receptive fields of all else reach it, but here they are left alone
    model = PaDiM(backbone, config(**SMALL))
    features = list(model.feature_batches([train]))
    model.fit_features(features, 8, region=mask)
    before = model.calibration.pixel_levels.clone(), model.calibration.image_scores.clone()
    for feature_map in features[0]:
        side = max(1, feature_map.shape[-1] // 8)
        feature_map[..., side:, :] = torch.randn_like(feature_map[..., side:, :]) * 100
    model.fit_features(features, 8, region=mask)
    assert model.calibration.pixel_levels.equal(before[0])
    assert model.calibration.image_scores.equal(before[1])
    assert before[0][-1] > 0  # the lowest level: no pixel outside is among them
    assert model.score(test)[0][:, ~mask].eq(0).all()


@pytest.mark.parametrize("sigma", [0, 0.7, 4])
@pytest.mark.parametrize("seed", range(4))
def test_the_border_is_neither_dimmed_nor_inflated(sigma: float, seed: int) -> None:
    """Equal distances give an even map; none is above what it could be without a region."""
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((CROP, CROP)) < rng.choice([0.002, 0.05, 0.6]))
    mask[rng.integers(CROP), rng.integers(CROP)] = True
    region = RegionOfInterest(mask, (16, 16))
    ours, whole = (AnomalyMap((16, 16), CROP, sigma, one) for one in (region, None))
    even = ours(torch.ones(1, len(region.positions)))[0]
    bound = (whole.rows.abs() @ torch.ones(16, 16) @ whole.columns.abs()).max()
    assert even[~mask].eq(0).all()
    if sigma == 4:
        torch.testing.assert_close(even[mask], torch.ones(int(mask.sum())), atol=0.02, rtol=0)
    for distances in torch.rand(20, 1, len(region.positions)).round():
        assert ours(distances).abs().max() <= bound + 1e-5


def test_a_position_is_looked_at_if_any_pixel_is() -> None:
    for at in ((0, 0), (31, 7), (63, 63), (12, 50)):
        mask = torch.zeros(CROP, CROP, dtype=torch.bool)
        mask[at] = True
        (position,) = RegionOfInterest(mask, (16, 16)).positions.tolist()
        assert divmod(position, 16) == (at[0] // 4, at[1] // 4)


@pytest.mark.parametrize("kind", ["random", "pca"])
def test_it_is_stored_and_copied(kind: str, tmp_path: Path) -> None:
    backbone, options = Backbone("resnet18", "random", ["layer1"]), config(reduction=kind)
    model = PaDiM(backbone, options).fit(draw(30, 1), region=DISC)
    expected, path = model.score(draw(3, 2))[0], tmp_path / "model.safetensors"
    model.save(path)
    loaded = PaDiM.load(path, backbone)
    assert loaded.region.mask.equal(torch.from_numpy(DISC))
    other = PaDiM(backbone, options).fit(draw(30, 3))
    other.load_state_dict(model.state_dict())
    for again in (loaded, other, copy.deepcopy(model)):
        assert again.score(draw(3, 2))[0].equal(expected)
    assert other.fit(draw(30, 3)).region is None  # fitting again starts afresh
    everywhere = tmp_path / "everywhere.safetensors"
    other.save(everywhere)
    share = model.region.share
    assert path.stat().st_size < (share + 0.2) * everywhere.stat().st_size


def test_a_failed_fit_changes_nothing(model: PaDiM) -> None:
    expected = model.score(draw(2, 2))[0]
    for images, region in ((draw(1, 1), None), (draw(4, 1), np.zeros((64, 64), bool))):
        with pytest.raises(ModelError):
            model.fit(images, region)
    assert model.score(draw(2, 2))[0].equal(expected)


def save(mask: np.ndarray, path: Path, **options: object) -> Path:
    Image.fromarray(mask).save(path, **options)
    return path


def test_every_kind_of_mask_is_the_same_region(tmp_path: Path) -> None:
    grey = np.where(DISC, 255, 0).astype(np.uint8)
    kinds = [
        DISC,
        grey,
        DISC.astype(np.uint8),  # labels
        torch.from_numpy(DISC),
        Image.fromarray(grey),
        save(grey, tmp_path / "grey.png"),
        str(save(np.repeat(grey[:, :, None], 3, axis=2), tmp_path / "rgb.bmp")),
        save(grey.astype(np.uint16) * 257, tmp_path / "deep.png"),
    ]
    for kind in kinds:
        assert (read_region(kind) == DISC).all()
    lossy = read_region(save(grey, tmp_path / "lossy.jpg", quality=90))
    assert (lossy != DISC).mean() < 0.01
    smooth = Image.fromarray(grey).resize((640, 640), Image.Resampling.BICUBIC)
    assert abs(read_region(smooth).mean() - DISC.mean()) < 0.01


@pytest.mark.parametrize(
    ("draw_file", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_text("no image"), "not an image"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: save(np.zeros((9, 9), np.uint8), path), "all black; expected white"),
        (lambda path: save(np.full((9, 9), 128, np.uint8), path), "neither black nor white"),
        (lambda path: draw_image(3).save(path), "neither black nor white"),
        (
            lambda path: save(np.full((9, 12), 255, np.uint8), path),
            "12x9, but image in memory is 64x64",
        ),
    ],
)
def test_masks_that_cannot_be_used(
    draw_file: Callable[[Path], object], words: str, model: PaDiM, tmp_path: Path
) -> None:
    draw_file(tmp_path / "region.png")
    with pytest.raises(ModelError, match="region") as error:
        copy.copy(model).fit(draw(4, 1), region=tmp_path / "region.png")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.parameter == "region"


def test_masks_in_memory_that_cannot_be_used(model: PaDiM) -> None:
    for region in (np.zeros((3, 9, 9, 3), np.uint8), 7, np.random.default_rng(0).random((9, 9))):
        with pytest.raises(ModelError, match="region"):
            copy.copy(model).fit(draw(4, 1), region=region)
    for mask in (torch.ones(CROP, CROP), torch.ones(9, 9, dtype=torch.bool)):
        with pytest.raises(ModelError, match=r"expected torch.bool \(64, 64\)"):
            copy.copy(model).fit_crops([draw(4, 1)], 4, region=mask)
    with pytest.raises(ImageError):
        model.fit("nowhere", region=DISC)


@pytest.mark.parametrize("size", [(64, 64), (1000, 1000), (100, 101)])
def test_a_mask_of_another_size_fits(size: tuple[int, int]) -> None:
    check_shape(DISC, size, "image a.png")


HOSTILE = {
    "no count": ({"n_looked_at": None}, None),
    "count of another mask": ({"n_looked_at": 5}, None),
    "a huge count": ({"n_looked_at": 2**40}, None),
    "no whole number": ({"n_looked_at": True}, None),
    "empty": ({}, ("U8", [512], bytes(512))),
    "all white": ({}, ("U8", [512], b"\xff" * 512)),
    "one row": ({}, ("U8", [8], b"\xff" * 8)),
    "another type": ({}, ("F32", [512], bytes(2048))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_regions_are_refused(name: str, model: PaDiM, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    metadata, tensors = read(path)
    assert tensors["region"][:2] == ("U8", [CROP**2 // 8])
    changed, tensor = HOSTILE[name]
    metadata["header"] = json.dumps(json.loads(metadata["header"]) | changed)
    tensors |= {} if tensor is None else {"region": tensor}
    path.write_bytes(pack(metadata, tensors))
    with pytest.raises(ModelError, match="is damaged, or not a model") as error:
        PaDiM.load(path, model.backbone)
    assert "\n" not in str(error.value)


def test_bits_beyond_the_mask_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    """65 x 65 pixels leave 7 bits of the last byte; they must be 0."""
    path = tmp_path / "model.safetensors"
    mask = np.ones((65, 65), bool)
    PaDiM(backbone, config(resize=65, crop=65)).fit(draw(4, 1), region=mask).save(path)
    metadata, tensors = read(path)
    dtype, shape, data = tensors["region"]
    path.write_bytes(pack(metadata, tensors | {"region": (dtype, shape, data[:-1] + b"\xff")}))
    with pytest.raises(ModelError, match="its region is not as expected"):
        PaDiM.load(path, backbone)


def test_a_file_from_before_there_were_regions_is_read(
    backbone: Backbone, model: PaDiM, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    whole = PaDiM(backbone, config()).fit(draw(6, 1))
    whole.save(path)
    metadata, tensors = read(path)
    header = json.loads(metadata["header"])
    del header["n_looked_at"]
    metadata["header"] = json.dumps(header)
    path.write_bytes(pack(metadata, tensors))
    loaded = PaDiM.load(path, backbone)
    assert loaded.region is None
    assert loaded.score(draw(2, 2))[0].equal(whole.score(draw(2, 2))[0])
