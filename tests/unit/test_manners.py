"""What a user of the library may do in passing: each works, or is refused in one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CROP, config, draw, random_backbone

from padim import Backbone, ImageError, ModelError, NotFittedError, PaDiM, PaDiMConfig
from padim.backbones import normalise
from padim.fitting import GaussianLearner
from padim.reduction import Reduction


@pytest.fixture(scope="module")
def network() -> Backbone:
    return random_backbone()


@pytest.fixture(scope="module")
def model(network: Backbone) -> PaDiM:
    return PaDiM(network, config()).fit(draw(6, 1))


@pytest.mark.parametrize("reduction", ["random", "pca"])
def test_empty_batches_are_passed_over(network: Backbone, reduction: str) -> None:
    images, empty = draw(6, 1), draw(6, 1)[:0]
    models = [
        PaDiM(network, config(reduction=reduction)).fit_crops(batches, 6)
        for batches in ([images], [empty, images[:4], empty, images[4:], empty])
    ]
    assert models[0].score(draw(2, 2))[0].equal(models[1].score(draw(2, 2))[0])
    features = [list(models[0].features(part)) for part in (empty, images)]
    again = PaDiM(network, config(reduction=reduction)).fit_features(features, 6)
    assert again.score(draw(2, 2))[0].isfinite().all()
    for none in (empty, [], [empty]):
        maps, scores = models[0].score(none)
        assert (maps.shape, scores.shape) == ((0, CROP, CROP), (0,))
        assert not list(models[0].predict(none))


def test_another_default_dtype_changes_nothing(network: Backbone, tmp_path: Path) -> None:
    train, test = draw(6, 1), draw(2, 2)
    expected = PaDiM(network, config(reduction="pca")).fit(train).score(test)
    torch.set_default_dtype(torch.float64)
    try:
        model = PaDiM(random_backbone(), config(reduction="pca")).fit(train)
        model.save(tmp_path / "model")
        for this in (model, PaDiM.load(tmp_path / "model")):
            assert all(map(torch.equal, this.score(test), expected))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_results_are_ordinary_tensors(model: PaDiM) -> None:
    maps, scores = model.score(draw(2, 2))
    features = model.features(draw(2, 2))
    found = next(iter(model.predict(draw(1, 2)))).anomaly_map
    for tensor in (maps, scores, found, *features, *model.state_dict().values()):
        if isinstance(tensor, torch.Tensor):
            assert not tensor.is_inference()
    maps += 1
    weight = torch.ones(1, requires_grad=True)
    (maps * weight + features[0].mean()).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_given_stays_as_it_is(model: PaDiM, layout: torch.memory_format) -> None:
    crops = draw(4, 2).contiguous(memory_format=layout)
    floats = torch.randn(2, 3, CROP, CROP).contiguous(memory_format=layout)
    for tensor, use in ((crops, model), (crops, normalise), (floats, model.backbone)):
        before = tensor.clone()
        use(tensor)
        assert tensor.equal(before)


def test_numpy_numbers_are_numbers(model: PaDiM) -> None:
    given = PaDiMConfig(
        embedding_dim=np.int64(20), seed=np.uint8(0), resize=np.int32(CROP), crop=np.int16(CROP),
        epsilon=np.float32(0.25), sigma=np.float64(4),
    )  # fmt: skip
    assert given == config(epsilon=0.25)
    kinds = {type(getattr(given, name)) for name in ("seed", "crop", "epsilon", "sigma")}
    assert kinds == {int, float}
    assert model.calibration.image_threshold(np.float32(0.5)) > 0
    for wrong in (np.bool_(True), np.float64(3), "3", None):
        with pytest.raises(ModelError, match="seed .*expected a whole number"):
            PaDiMConfig(seed=wrong)


@pytest.mark.parametrize(
    "change", [lambda m: m.half(), lambda m: m.double(), lambda m: m.to(torch.bfloat16)]
)
def test_other_types_are_refused(model: PaDiM, change: Callable) -> None:
    before = model.score(draw(1, 2))[0]
    for module in (model, model.backbone):
        with pytest.raises(ModelError, match="computes in float32"):
            change(module)
    model.float().to("cpu")
    assert model.score(draw(1, 2))[0].equal(before)


def test_a_refit_that_fails_leaves_the_model_as_it_was(network: Backbone) -> None:
    for reduction in ("random", "pca"):
        model = PaDiM(network, config(reduction=reduction)).fit(draw(6, 1))
        expected = model.score(draw(2, 2))[0]

        def broken() -> object:
            yield draw(4, 3)
            raise OSError("the disk is gone")

        for batches, count in ((broken(), 6), ([draw(3, 3)], 6), ([draw(9, 3)], 6), ([], 0)):
            with pytest.raises((OSError, ModelError)):
                model.fit_crops(batches, count)
            assert model.score(draw(2, 2))[0].equal(expected)
            assert model.calibration is not None


def test_finishing_twice() -> None:
    learner = GaussianLearner(4).update(torch.randn(4, 3, 2))
    learner.finish()
    for call in (learner.finish, learner.state, lambda: learner.update(torch.randn(1, 3, 2))):
        with pytest.raises(ModelError, match="is finished"):
            call()


def test_crops_of_mixed_sizes_are_refused(network: Backbone) -> None:
    batches = [draw(3, 1), draw(3, 1)[:, :, :32, :32]]
    with pytest.raises(ImageError, match=r"shape \(3, 3, 32, 32\); expected"):
        PaDiM(network, config()).fit_crops(batches, 6)


def test_a_reduction_is_given_only_where_one_is_learned(model: PaDiM) -> None:
    features = [model.features(draw(6, 1))]
    with pytest.raises(ModelError, match="'random' is drawn, not learned"):
        model.fit_features(features, 6, reduction=Reduction(ids=torch.arange(20)))


def test_an_unfitted_model_is_not_saved(network: Backbone, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        PaDiM(network, config()).save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_load_takes_a_device_and_weights(model: PaDiM, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    loaded = PaDiM.load(str(tmp_path / "model.safetensors"), device="cpu", weights="random")
    assert loaded.score(draw(2, 2))[0].equal(model.score(draw(2, 2))[0])
