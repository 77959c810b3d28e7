"""Model files: exact, compact, and refused with one line when anything is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config, draw, random_backbone
from hostile_files import pack, read

from padim.backbones import Backbone
from padim.errors import ModelError
from padim.model import PaDiM
from padim.storage.model_file import read_model_file


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return random_backbone()


@pytest.fixture(scope="module")
def model(backbone: Backbone) -> PaDiM:
    return PaDiM(backbone, config(embedding_dim=8)).fit_crops(draw(20, 1).split(7), 20)


@pytest.mark.parametrize("n_images", [9, 30])  # low rank and dense
def test_calibration_and_half_precision(backbone: Backbone, n_images: int, tmp_path: Path) -> None:
    model = PaDiM(backbone, config()).fit_crops(draw(n_images, 1).split(8), n_images)
    sizes, maps = [], [model.score(draw(3, 2))[0]]
    for is_half in (False, True):
        path = tmp_path / "model.safetensors"
        model.save(path, is_half)
        loaded = PaDiM.load(path, backbone)
        assert loaded.calibration.image_scores.equal(model.calibration.image_scores)
        assert loaded.calibration.pixel_levels.equal(model.calibration.pixel_levels)
        sizes.append(path.stat().st_size)
        maps.append(loaded.score(draw(3, 2))[0])
    assert maps[0].equal(maps[1])
    torch.testing.assert_close(maps[2], maps[0], rtol=0.02, atol=0)
    mean = 4 * 16 * 16 * 20
    assert sizes[1] - mean < 0.6 * (sizes[0] - mean)
    # A dense factor is a triangle, and its zeros are not stored.
    values = 20 * 21 // 2 if n_images > 20 else n_images * 20
    assert sizes[0] < 1.05 * (4 * 16 * 16 * (values + 20)) + 20_000


def test_what_float16_cannot_hold_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    """Of a channel that is the same in all images, with an epsilon of 1e-12, F is 1e6."""
    black = torch.zeros(30, 3, 64, 64, dtype=torch.uint8)
    model = PaDiM(backbone, config(epsilon=1e-12)).fit_crops(black.split(8), 30)
    with pytest.raises(ModelError, match="epsilon 1e-12 .* as float32"):
        model.save(tmp_path / "model.safetensors", is_half=True)
    assert not list(tmp_path.iterdir())
    model.save(tmp_path / "model.safetensors")


def test_a_changed_byte_is_found(model: PaDiM, backbone: Backbone, tmp_path: Path) -> None:
    """Cuts and flips anywhere: refused with one line, or, in bytes that mean nothing, the same."""
    whole, path = tmp_path / "whole.safetensors", tmp_path / "changed.safetensors"
    model.save(whole)
    content, test = whole.read_bytes(), draw(1, 2)
    expected = model.score(test)[0]
    rng, refused = np.random.default_rng(0), 0
    for trial in range(1000):
        changed = bytearray(content)
        if trial % 3 == 0:
            del changed[rng.integers(len(changed)) :]
        for at in rng.integers(max(1, len(changed)), size=rng.integers(1, 4)):
            if changed and trial % 3:
                changed[at] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(changed))
        try:
            maps = PaDiM.load(path, backbone).score(test)[0]
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert maps.equal(expected)
    assert refused > 900


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"grid": [4, 4]}, "mean"),
        ({"grid": [-16, -16]}, "grid"),
        ({"grid": "ab"}, "grid"),
        ({"channels": [64, 128]}, "channels"),
        ({"channels": [1, 1, 1]}, "config"),
        ({"is_low_rank": True}, "factor"),
        ({"is_low_rank": 1}, "form"),
        ({"backbone": "../resnet18"}, "backbone"),
        ({"config": {"crop": 10**9}}, "config"),
        ({"layers": [["layer1"]]}, "layers"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    model: PaDiM, tmp_path: Path, change: dict, problem: str
) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    metadata, tensors = read(path)
    header = json.loads(metadata["header"]) | change
    path.write_bytes(pack(metadata | {"header": json.dumps(header)}, tensors))
    with pytest.raises(ModelError, match=f"damaged.*{problem}"):
        read_model_file(path)


@pytest.mark.parametrize("place", ["", "models", "resnet18_rd100/models"])
def test_of_a_folder_the_models_in_it_are_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(ModelError, match="is a folder; expected a file .safetensors"):
        read_model_file(tmp_path)
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(10):
        (folder / f"{i}.safetensors").touch()
    first = str(Path(place, "0.safetensors"))
    with pytest.raises(ModelError, match=f"one of the models in it: {first}, .* and 2 more"):
        read_model_file(tmp_path)
