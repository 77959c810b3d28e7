"""Training images that the others call defective, and equal images, against counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.types import AnomalyClass, Sample
from padim.calibration import Calibration
from padim.fitting import GaussianLearner
from utils.evaluation.training_images import (
    TrainingImage,
    _scored,
    checksums,
    duplicate_notes,
    equal_images,
    judge_training,
    odd_line,
)

ROOT = Path("/data/part")


def item(n_train: int, n_test: int = 0) -> AnomalyClass:
    train = tuple(Sample(ROOT / f"train/{i:03d}.png", "good", None) for i in range(n_train))
    test = tuple(Sample(ROOT / f"test/{i:03d}.png", "good", None) for i in range(n_test))
    return AnomalyClass("part", ROOT, train, test)


def calibration(scores: list[float]) -> Calibration:
    return Calibration.from_maps([torch.tensor(scores).view(-1, 1, 1)])


def test_images_are_ranked_by_their_leave_one_out_score() -> None:
    images = judge_training(item(4), calibration([2.0, 5.0, 5.0, 1.0]), [])
    assert [(one.path, one.score, one.p_value) for one in images] == [
        ("train/001.png", 5.0, 0.5),
        ("train/002.png", 5.0, 0.5),
        ("train/000.png", 2.0, 0.75),
        ("train/003.png", 1.0, 1.0),
    ]


@pytest.mark.parametrize(("n_images", "n_odd"), [(20, 0), (99, 0), (100, 1), (199, 1), (200, 2)])
def test_those_called_defective_at_1_percent_are_named(n_images: int, n_odd: int) -> None:
    """The same as the rule of a threshold: of n leave-one-out scores at most 1 % are as high."""
    scores = np.random.default_rng(n_images).permutation(n_images).astype(float)
    images = judge_training(item(n_images), calibration(scores.tolist()), [])
    assert sum(one.is_odd for one in images) == n_odd
    line = odd_line(images)
    assert (line is None) == (n_odd == 0)
    if line:
        worst = int(scores.argmax())
        assert f"train/{worst:03d}.png ({n_images - 1})" in line
        assert f"({n_odd} would be if all are normal)" in line


def test_without_a_calibration_there_are_no_scores() -> None:
    images = judge_training(item(2), None, [])
    assert [(one.path, one.score, one.p_value) for one in images] == [
        ("train/000.png", None, None),
        ("train/001.png", None, None),
    ]
    assert odd_line(images) is None


@pytest.mark.parametrize(("n_images", "n_kept"), [(7, 7), (7, 3), (12, 5), (10, 2), (3, 3)])
def test_scores_belong_to_the_images_that_a_learner_keeps(n_images: int, n_kept: int) -> None:
    learner = GaussianLearner(n_images, 0.01)
    learner._n_kept = n_kept
    rows = [learner._row(i) for i in range(n_images + 1)]
    assert _scored(n_images, n_kept) == [i for i in range(n_images) if rows[i] < rows[i + 1]]
    assert len(_scored(n_images, n_kept)) == n_kept


def test_equal_images_are_found_within_and_between_the_splits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    pixels[2] = pixels[0]  # in training
    pixels[5] = pixels[1]  # in training and test
    pixels[6] = pixels[3]
    pixels[6, 0, 0, 0] ^= 1  # nearly
    sums = checksums(pixels)
    one = item(4, 3)
    same = equal_images(one, sums[:4], sums[4:])
    assert same == [("train/000.png", "train/002.png"), ("train/001.png", "test/001.png")]
    images = judge_training(one, calibration([4.0, 3.0, 2.0, 1.0]), same)
    assert [image.same_as for image in images] == [
        ("train/002.png",),
        ("test/001.png",),
        ("train/000.png",),
        (),
    ]
    leak, twice = duplicate_notes(one, same)
    assert leak.endswith("too good: train/001.png = test/001.png")
    assert twice == "the same image twice: train/000.png = train/002.png"
    assert duplicate_notes(one, []) == ()


def test_an_image_is_read_back_as_it_was_written() -> None:
    image = TrainingImage("a/\udcff.png", 1.5, 0.25, ("b.png",))
    content = json.loads(json.dumps(vars(image)))
    assert TrainingImage.from_json(content) == image
    with pytest.raises(ValueError, match="score"):
        TrainingImage.from_json(content | {"score": "high"})
