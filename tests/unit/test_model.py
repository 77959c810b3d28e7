"""The whole method on small images, against the paper's steps written plainly in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CROP, config, draw, random_backbone
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from padim.backbones import Backbone, normalise
from padim.errors import ModelError
from padim.model import PaDiM


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return random_backbone()


def oracle(backbone: Backbone, ids: np.ndarray, train: torch.Tensor, test: torch.Tensor) -> tuple:
    """Distances squared and maps: embeddings in float32, everything after them in float64."""

    def embeddings(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            taps = [tap.double().numpy() for tap in backbone(normalise(images))]
        size = taps[0].shape[-1]
        whole = [
            tap.repeat(size // tap.shape[-1], axis=2).repeat(size // tap.shape[-1], axis=3)
            for tap in taps
        ]
        return np.concatenate(whole, axis=1)[:, ids]

    normal, new = embeddings(train), embeddings(test)
    n, d, height, width = new.shape
    squared = np.empty((n, height, width))
    for y in range(height):
        for x in range(width):
            rows = normal[:, :, y, x]
            covariance = np.cov(rows, rowvar=False) + 0.01 * np.eye(d)
            delta = new[:, :, y, x] - rows.mean(axis=0)
            squared[:, y, x] = np.sum(delta * np.linalg.solve(covariance, delta.T).T, axis=1)
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(np.sqrt(squared))[None], size=(CROP, CROP), mode="bicubic"
    )[0]
    return squared, np.stack([gaussian_filter(one, 4) for one in upsampled.numpy()])


@pytest.mark.parametrize(("n_train", "dim"), [(30, 20), (12, 100)])
def test_maps_are_those_of_the_plain_method(backbone: Backbone, n_train: int, dim: int) -> None:
    train, test = draw(n_train, seed=1), draw(3, seed=2)
    test[0, :, 20:36, 24:40] = 255
    model = PaDiM(backbone, config(embedding_dim=dim)).fit_crops(train.split(7), n_train)
    maps, scores = model.score(test)
    with torch.inference_mode():
        distances = model.gaussian(model.embedding(model.features(test)).flatten(1, 2))
    squared, expected = oracle(backbone, model.embedding.ids.numpy(), train, test)
    np.testing.assert_allclose(distances.double().square(), squared.reshape(3, -1), rtol=1e-3)
    np.testing.assert_allclose(maps, expected, rtol=1e-3)
    np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), rtol=1e-3)
    assert scores.argmax() == 0


@pytest.mark.parametrize("reduction", ["random", "semi_orthogonal", "pca", "none"])
def test_a_saved_model_scores_to_the_last_digit(
    backbone: Backbone, reduction: str, tmp_path: Path
) -> None:
    model = PaDiM(backbone, config(reduction=reduction)).fit_crops(draw(9, 1).split(4), 9)
    model.save(tmp_path / "model.safetensors")
    loaded = PaDiM.load(tmp_path / "model.safetensors", backbone)
    test = draw(3, 2)
    assert loaded.config == model.config
    for ours, theirs in zip(model.score(test), loaded.score(test), strict=True):
        assert ours.equal(theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_same_seed_gives_the_same_digits(backbone: Backbone) -> None:
    maps = [
        PaDiM(backbone, config(seed=seed)).fit_crops(draw(30, 1).split(8), 30).score(draw(2, 2))[0]
        for seed in (3, 3, 4)
    ]
    assert maps[0].equal(maps[1])
    assert not maps[0].equal(maps[2])


def test_models_that_do_not_fit_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    PaDiM(backbone, config()).fit_crops(draw(4, 1).split(4), 4).save(path)
    with pytest.raises(ModelError, match="was fitted with resnet18"):
        PaDiM.load(path, Backbone("resnet18", "random", seed=9))
    with pytest.raises(ModelError, match="in float32, .* in bfloat16, "):
        PaDiM.load(path, Backbone("resnet18", "random", precision="bfloat16"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        PaDiM.load(path, backbone)
    torch.save({"format": "padim-model", "version": 2}, path)
    with pytest.raises(ModelError, match="earlier version"):
        PaDiM.load(path, backbone)
    save_file({"weights": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="not a model"):
        PaDiM.load(path, backbone)


def test_more_channels_than_there_are(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="embedding_dim 449: .* 448 channels"):
        PaDiM(backbone, config(embedding_dim=449))
