"""AU-PRO at 0.05, AUPIMO, recall at a rate, and the decision rule: against plain loops."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import draw_maps, measure_pixels, rank, slow_pro
from sklearn.metrics import f1_score, jaccard_score, roc_curve

from utils.evaluation import regions
from utils.evaluation.decisions import PixelCounts, flagged_shares
from utils.evaluation.metric_names import STRICT_PRO_LIMIT


def slow_aupimo(maps: np.ndarray, masks: np.ndarray, is_good: np.ndarray, bounds: tuple) -> float:
    """At every score as a threshold, the share found of each image and flagged of good ones."""
    thresholds = np.unique(maps)[::-1]
    rates = [float(np.mean([np.mean(good >= t) for good in maps[is_good]])) for t in thresholds]
    areas = []
    for image, mask in zip(maps[~is_good], masks[~is_good], strict=True):
        if mask.any():
            shares = [float(np.mean(image[mask] >= threshold)) for threshold in thresholds]
            areas.append(slow_area([(0.0, 0.0), *zip(rates, shares, strict=True)], *bounds))
    return float(np.mean(areas))


def slow_area(points: list[tuple[float, float]], low: float, high: float) -> float:
    """Trapezoids over the logarithm of the rate; before the first rate above 0 a step."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        start, end = max(x0, low), min(x1, high)
        if end <= start:
            continue

        def y(x: float, x0=x0, y0=y0, x1=x1, y1=y1) -> float:
            if x0 == 0:
                return y0
            return y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0)

        area += (y(start) + y(end)) / 2 * math.log(end / start)
    return area / math.log(high / low)


@pytest.mark.parametrize("levels", [None, 40, 5])
@pytest.mark.parametrize("bounds", [(1e-5, 1e-4), (0.002, 0.05), (0.03, 0.4)])
def test_aupimo_is_its_definition(levels: int | None, bounds: tuple, monkeypatch) -> None:
    monkeypatch.setattr(regions, "PIMO_RATES", bounds)
    for seed in range(2):
        maps, masks, is_good = draw_maps(seed, levels, side=12)
        masks[-1] = seed == 0 and masks[-1]  # a defective image without a defect inside the crop
        found = measure_pixels(maps, masks, is_good).aupimo
        assert found == pytest.approx(slow_aupimo(maps, masks, is_good, bounds), abs=1e-9)


def test_aupimo_by_hand() -> None:
    # 10 pixels of a good image score 10, 9, ... 1; the defect's two pixels 9.5 and 8.5.
    maps = np.array([[np.arange(10, 0, -1.0)], [[9.5, 8.5, *np.zeros(8)]]], np.float32)
    masks = np.zeros((2, 1, 10), bool)
    masks[1, 0, :2] = True
    # Nothing is found up to a rate of 0.1, half up to 0.2, all from there: at 1e-5 to 1e-4 nothing.
    assert measure_pixels(maps, masks).aupimo == 0
    assert measure_pixels(maps + 9 * masks.astype(np.float32), masks).aupimo == 1
    rates = np.log(np.array([0.0, 0.1, 0.2, 1]).clip(1e-300))
    shares = np.array([0.0, 0, 0.5, 1])
    # Straight lines between corners, from 0.1 to 1 here; before a first corner at zero a step.
    area = regions.area(rates, shares, math.log(0.1), 0.0)
    assert area == pytest.approx(0.25 * math.log(2) + 0.75 * math.log(5))


def test_without_good_images_there_is_no_aupimo() -> None:
    maps, masks, _ = draw_maps(0, None, n_good=0, side=16)
    measured = measure_pixels(maps, masks)
    assert measured.aupimo is None
    assert measured.pro == pytest.approx(slow_pro(maps, masks), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 7, 1])
@pytest.mark.parametrize("seed", range(3))
def test_pro_at_005_is_its_definition(levels: int | None, seed: int) -> None:
    maps, masks, _ = draw_maps(seed, levels, side=16)
    found = measure_pixels(maps, masks).pro_strict
    assert found == pytest.approx(slow_pro(maps, masks, STRICT_PRO_LIMIT), abs=1e-9)


@pytest.mark.parametrize("n_good", [1, 19, 20, 100, 140])
@pytest.mark.parametrize("levels", [1000, 6])
def test_recall_at_a_rate_is_the_best_of_the_roc_curve(n_good: int, levels: int) -> None:
    rng = np.random.default_rng(n_good)
    labels = np.arange(n_good + 50) >= n_good
    scores = np.round((rng.random(len(labels)) + 0.5 * labels) * levels)
    rates, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    wanted = (0.01, 0.05, 0.5, 1.0)
    expected = [hits[np.round(rates * n_good) <= np.floor(r * n_good + 1e-9)].max() for r in wanted]
    assert rank(scores, labels, wanted).recalls == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [-1.0, 20.0, 40.0, 33.3, 1e9])
def test_the_decision_rule_is_above_the_threshold(threshold: float) -> None:
    maps, masks, _ = draw_maps(1, 40)
    counts = PixelCounts.at(threshold, torch.from_numpy(maps), masks)
    weights = np.array([np.ones(len(maps)), np.arange(len(maps)), np.eye(len(maps))[-1]])
    values = counts.metrics(weights)
    for index, times in enumerate(weights.astype(int)):
        chosen = np.repeat(np.arange(len(maps)), times)
        flagged, truth = maps[chosen].ravel() > threshold, masks[chosen].ravel()
        f1, iou = f1_score(truth, flagged), jaccard_score(truth, flagged)
        assert values["pixel_f1_calibrated"][index] == pytest.approx(f1)
        assert values["pixel_iou_calibrated"][index] == pytest.approx(iou)


def test_flagged_shares_count_an_image_as_often_as_it_is_drawn() -> None:
    flagged, labels = np.array([1, 0, 1, 1, 0], bool), np.array([0, 0, 1, 1, 1], bool)
    values = flagged_shares(flagged, labels, np.array([[1.0] * 5, [2, 0, 0, 1, 2]]))
    assert values["false_alarms"].tolist() == [0.5, 1]
    assert values["detections"].tolist() == [2 / 3, 1 / 3]
