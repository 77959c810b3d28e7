"""Thresholds and p-values from the scores of normal images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import config, draw, random_backbone

from padim import calibration
from padim.calibration import Calibration
from padim.model import PaDiM


def drawn(n_images: int, side: int = 50, seed: int = 0) -> tuple[torch.Tensor, Calibration]:
    maps = torch.from_numpy(np.random.default_rng(seed).gamma(4, size=(n_images, side, side)))
    maps = maps.float()
    return maps, Calibration.from_maps(maps.split(7), maps.numel())


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 1.0])
def test_thresholds_let_their_share_through(rate: float) -> None:
    maps, found = drawn(400)
    called = (maps > found.pixel_threshold(rate)).double().mean().item()
    assert called == pytest.approx(rate, rel=0.02)
    scores = maps.flatten(1).amax(dim=1)
    assert (scores > found.image_threshold(rate)).double().mean() <= rate
    assert (scores >= found.image_threshold(rate)).double().mean() >= rate - 1 / 400


def test_by_hand() -> None:
    found = Calibration(torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.zeros(601))
    assert found.finest_rate == 0.2
    p_values = found.p_values(torch.tensor([0.5, 1.0, 2.5, 4.0, 9.0]))
    np.testing.assert_allclose(p_values, [1, 1, 0.6, 0.4, 0.2])
    assert found.image_threshold(0.2) == 4  # one of five, the new one, may lie above
    assert found.image_threshold(0.4) == 3
    assert found.image_threshold(0.001) == 4
    assert found.image_threshold(1.0) == 1


def test_a_decision_and_its_p_value_agree() -> None:
    _, found = drawn(60)
    scores = torch.cat([found.image_scores, found.image_scores + 1e-3, torch.tensor([0.0, 99.0])])
    for rate in (0.02, 0.05, 0.1, 0.3):
        called = scores > found.image_threshold(rate)
        assert called.equal(found.p_values(scores) <= rate)


def test_new_normal_images_are_called_as_often_as_promised() -> None:
    """Over many draws of calibration and new image, as conformal prediction has it."""
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(2000):
        scores = torch.from_numpy(rng.normal(size=40)).float()
        found = Calibration(scores[:39], torch.zeros(601))
        called += int(found.p_values(scores[39:]) <= 0.1)
    assert called / 2000 == pytest.approx(0.1, abs=0.025)


def test_of_many_pixels_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, whole = drawn(200)
    monkeypatch.setattr(calibration, "MAX_PIXELS", 50_000)
    part = Calibration.from_maps(maps.split(7), maps.numel())
    assert part.image_scores.equal(whole.image_scores)
    assert part.pixel_threshold(0.05) == pytest.approx(whole.pixel_threshold(0.05), rel=0.02)


@pytest.mark.parametrize("reduction", ["random", "none"])
def test_image_scores_are_those_of_refitting(reduction: str) -> None:
    backbone, images = random_backbone(), draw(24, 1)
    options = config(reduction=reduction)
    model = PaDiM(backbone, options).fit_crops(images.split(5), len(images))
    found = []
    for i in range(len(images)):
        rest = torch.cat((images[:i], images[i + 1 :]))
        refitted = PaDiM(backbone, options).fit_crops(rest.split(8), len(rest))
        found.append(refitted.score(images[i : i + 1])[1])
    torch.testing.assert_close(
        model.calibration.image_scores, torch.cat(found).sort().values, rtol=1e-3, atol=0
    )


def test_two_images_give_no_calibration() -> None:
    model = PaDiM(random_backbone(), config()).fit(draw(2, 1))
    assert model.calibration is None
    assert torch.isfinite(model.score(draw(1, 2))[0]).all()


@pytest.mark.parametrize("side", [224, 256, 49, 105, 1])
def test_sampled_pixels_see_every_column_and_row(side: int) -> None:
    for n_images in (3, 60, 119, 120, 140, 159, 160, 267, 391):
        step = calibration.sampling_step(n_images * side**2, side)
        pixels = np.arange(0, n_images * side**2, step)
        if step > 1:
            assert len(np.unique(pixels % side)) == side
            assert len(np.unique(pixels // side % side)) == side
        assert len(pixels) <= max(
            2 * calibration.MAX_PIXELS, n_images * side**2 // max(1, step) + 1
        )
