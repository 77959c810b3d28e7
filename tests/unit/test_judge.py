"""Decisions on images: one rule, and the rate that was used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.loading.unlabelled import FoundImage
from padim.calibration import PIXEL_RATES, Calibration
from utils.prediction.judge import Judge, Thresholds


def calibration(n_images: int = 9) -> Calibration:
    levels = torch.linspace(5, 1, len(PIXEL_RATES))
    return Calibration(torch.arange(1.0, n_images + 1), levels)


def found(count: int) -> list[FoundImage]:
    return [FoundImage(Path(f"{i}.png"), f"{i}.png") for i in range(count)]


def test_an_image_at_the_threshold_is_normal() -> None:
    judge = Judge(calibration(), 0.2, embedding_dim=4)
    assert judge.thresholds is not None
    limit = judge.thresholds.image
    scores = torch.tensor([limit, limit * 1.001, limit - 1])
    judged = judge.judge(found(3), scores)
    assert [item.is_defective for item in judged] == [False, True, False]
    assert [item.decision for item in judged] == ["normal", "defective", "normal"]
    assert judge.doubts() == []


@pytest.mark.parametrize(("requested", "used"), [(0.5, 0.5), (0.1, 0.1), (0.01, 0.1)])
def test_the_rate_that_was_used_is_stated(requested: float, used: float) -> None:
    thresholds = Thresholds.at(calibration(n_images=9), requested)
    assert (thresholds.requested_rate, thresholds.rate) == (requested, used)
    doubts = Judge(calibration(n_images=9), requested, embedding_dim=4).doubts()
    assert len(doubts) == (requested != used)


def test_without_calibration_there_are_scores_and_no_decisions() -> None:
    judge = Judge(None, 0.01, embedding_dim=16)
    assert judge.thresholds is None
    assert judge.unit == 4
    (item,) = judge.judge(found(1), torch.tensor([3.0]))
    assert (item.score, item.p_value, item.is_defective, item.decision) == (3.0, None, None, "")
    assert "NO DECISIONS" in judge.doubts()[0]


def test_a_pixel_level_of_0_is_no_unit() -> None:
    blank = Calibration(torch.arange(1.0, 10), torch.zeros(len(PIXEL_RATES)))
    judge = Judge(blank, 0.2, embedding_dim=16)
    assert (judge.thresholds.pixel, judge.unit) == (0, 4)
