"""The measuring of a class: the decision rule, and what exists without labels or masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.types import AnomalyClass, Sample
from padim.calibration import Calibration, is_above
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.measure import measure_class

SIDE = 8


def measure(
    defects: list[str], calibration: Calibration | None = None, rate: float = 0.2, seed: int = 0
) -> tuple[ClassRecord, ClassScores]:
    """The record of a class of these test images, with random scores of many ties."""
    rng = np.random.default_rng(seed)
    n = len(defects)
    masks = np.zeros((n, SIDE, SIDE), bool)
    masks[[defect != "good" for defect in defects], 2:4, 2:4] = True
    maps = torch.from_numpy(rng.integers(0, 9, (n, SIDE, SIDE)).astype(np.float32))
    scores = rng.integers(0, 9, n).astype(np.float32)
    root = Path("root")
    test = tuple(
        Sample(root / f"test/{d}/{i}.png", d, None if d == "good" else Path("mask.png"))
        for i, d in enumerate(defects)
    )
    item = AnomalyClass("mine", root, (Sample(Path("a")), Sample(Path("b"))), test)
    scored = ClassScores(np.zeros((n, SIDE, SIDE, 3), np.uint8), masks, maps, scores)
    return measure_class(item, scored, calibration, rate), scored


def calibration_of(scores: np.ndarray) -> Calibration:
    return Calibration(torch.from_numpy(scores.astype(np.float32)), torch.linspace(9, 0, 601))


@pytest.mark.parametrize("n_train", [2, 9, 99])
def test_an_image_is_flagged_exactly_if_its_p_value_is_at_most_the_rate(n_train: int) -> None:
    calibration = calibration_of(np.random.default_rng(n_train).integers(0, 9, n_train))
    for rate in (1e-6, 0.01, 0.05, 0.07, 0.1, 0.29, 0.3, 1 / 3, 0.99):
        record, _ = measure(["good"] * 40 + ["spot"] * 30, calibration, rate, n_train)
        limit = max(rate, calibration.finest_rate)
        for name, label in (("false_alarms", 0), ("detections", 1)):
            p_values = [image.p_value for image in record.images if image.label == label]
            assert record.metrics[name] == np.mean([p <= limit for p in p_values])


def test_the_oracle_threshold_flags_the_pixels_of_the_best_f1() -> None:
    record, scored = measure(["good", "good", "spot", "spot"])
    assert record.threshold.name == "oracle: best pixel F1"
    flagged = is_above(scored.maps.numpy(), record.threshold.value)
    f1 = 2 * (flagged & scored.masks).sum() / (flagged.sum() + scored.masks.sum())
    assert f1 == pytest.approx(record.metrics["pixel_f1"])


@pytest.mark.parametrize("defects", [["good"] * 3, ["spot"] * 3])
def test_one_kind_of_image_has_no_ranking_and_says_so(defects: list[str]) -> None:
    record, _ = measure(defects, calibration_of(np.arange(5)))
    assert record.metrics["image_auroc"] is None
    assert record.curves["image_roc"] is None
    assert {image.misranked for image in record.images} == {None}
    assert record.notes[0].startswith("all test images are")


def test_without_a_calibration_there_are_no_p_values_and_no_flags() -> None:
    record, _ = measure(["good", "spot"])
    assert {image.p_value for image in record.images} == {None}
    assert record.metrics["false_alarms"] is None and record.metrics["detections"] is None
