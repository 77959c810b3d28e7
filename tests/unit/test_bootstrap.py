"""Intervals: every draw against the exact metrics of the images drawn, and against DeLong's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import draw_maps, measure_pixels, rank

from utils.evaluation import bootstrap, pixel_table
from utils.evaluation.bootstrap import N_DRAWS, ScoredSet
from utils.evaluation.bootstrap import draw as draw_weights
from utils.evaluation.decisions import PixelCounts
from utils.evaluation.draws import interval, pack, unpack
from utils.evaluation.metric_names import METRICS, RECALL_RATES
from utils.evaluation.pixel_table import PixelTables

THRESHOLD = 0.8


def scored_set(maps: np.ndarray, masks: np.ndarray, is_good: np.ndarray) -> ScoredSet:
    scores = maps.max(axis=(1, 2))
    tensors = (torch.from_numpy(part) for part in (maps, masks, is_good))
    tables = PixelTables.of_maps(*tensors)
    counts = PixelCounts.at(THRESHOLD, torch.from_numpy(maps), masks)
    return ScoredSet("mine", ~is_good, scores, scores > THRESHOLD, tables, counts)


def exact(maps: np.ndarray, masks: np.ndarray, is_good: np.ndarray) -> dict[str, float]:
    """The metrics of these images by the exact code; an image may be there several times."""
    images = rank(maps.max(axis=(1, 2)), ~is_good, tuple(RECALL_RATES.values()))
    measured = measure_pixels(maps, masks, is_good)
    values = {**dict(zip(RECALL_RATES, images.recalls, strict=True)), "pro": measured.pro}
    for level, one in (("image", images), ("pixel", measured.ranking)):
        values |= {f"{level}_auroc": one.auroc, f"{level}_ap": one.average_precision}
        values[f"{level}_f1"] = one.best_f1
    return values | {"pro_fpr5": measured.pro_strict, "aupimo": measured.aupimo}


@pytest.mark.parametrize("levels", [None, 30])
def test_every_draw_has_the_metrics_of_the_images_drawn(levels: int | None) -> None:
    maps, masks, is_good = draw_maps(0, levels, n_good=6, n_bad=9, side=64)
    images = scored_set(maps, masks, is_good)
    weights = np.concatenate((np.ones((1, 15)), next(draw_weights("mine", ~is_good))[:6]))
    values = images.weighted(weights)
    assert set(values) == set(METRICS) - {"spro"}  # see test_saturation
    for index, times in enumerate(weights.astype(int)):
        chosen = np.repeat(np.arange(15), times)
        for name, expected in exact(maps[chosen], masks[chosen], is_good[chosen]).items():
            # Curves of pixels are straight between a few hundred thresholds.
            tolerance = {"i": 1e-12, "a": 1e-2}.get(name[0], 1e-3)
            assert values[name][index] == pytest.approx(expected, abs=tolerance), name


def test_thresholds_that_are_fewer_still_follow_the_curves(monkeypatch) -> None:
    """More pixels than are sampled, and more levels than thresholds."""
    monkeypatch.setattr(pixel_table, "N_SAMPLED", 500)
    maps, masks, is_good = draw_maps(3, None, n_good=6, n_bad=9, side=72)
    values = scored_set(maps, masks, is_good).weighted(np.ones((1, 15)))
    for name, expected in exact(maps, masks, is_good).items():
        assert values[name][0] == pytest.approx(expected, abs=5e-3), name


def test_draws_are_stratified_and_depend_on_the_class_alone() -> None:
    labels = np.arange(30) >= 11
    weights = np.concatenate(list(draw_weights("mine", labels)))
    assert weights.shape == (N_DRAWS, 30)
    assert (weights[:, ~labels].sum(axis=1) == 11).all()
    assert (weights[:, labels].sum(axis=1) == 19).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.15)
    again = np.concatenate(list(draw_weights("mine", labels)))
    other = np.concatenate(list(draw_weights("yours", labels)))
    assert (weights == again).all() and (weights != other).any()


def delong(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """DeLong et al. 1988: the area and the standard error that its two U-statistics have."""
    wins = (scores[labels][:, None] > scores[~labels]) + (
        scores[labels][:, None] == scores[~labels]
    ) / 2
    parts = (wins.mean(axis=axis).var(ddof=1) / wins.shape[1 - axis] for axis in (0, 1))
    return float(wins.mean()), float(sum(parts)) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_image_auroc_is_delongs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(150) >= 60
    scores = np.round(rng.normal(labels * 1.2, 1.0), 2)
    area, error = delong(scores, labels)
    low, high = interval(ScoredSet("c", labels, scores, None, None, None).drawn()["image_auroc"])
    assert low < area < high
    # The noise of 2,000 draws at these quantiles is about a twelfth of a standard error.
    assert low == pytest.approx(area - 1.96 * error, abs=0.5 * error)
    assert high == pytest.approx(area + 1.96 * error, abs=0.5 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12)


def test_a_direct_bootstrap_has_the_same_mean_and_spread() -> None:
    maps, masks, is_good = draw_maps(5, None, n_good=6, n_bad=6, side=16)
    drawn = scored_set(maps, masks, is_good).drawn()
    rng, found = np.random.default_rng(99), []
    kinds = np.flatnonzero(is_good), np.flatnonzero(~is_good)
    for _ in range(60):
        chosen = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        found.append(exact(maps[chosen], masks[chosen], is_good[chosen]))
    for name in found[0]:
        direct = np.array([values[name] for values in found])
        ours = drawn[name]
        # Four standard errors of a mean, and of a standard deviation, of 60 draws.
        assert abs(direct.mean() - ours.mean()) < 4 * ours.std() / 60**0.5 + 1e-3, name
        assert direct.std() == pytest.approx(ours.std(), rel=4 / 120**0.5, abs=2e-3), name


def test_one_kind_of_image_and_no_masks_have_fewer_metrics() -> None:
    scores = np.arange(5.0)
    alone = ScoredSet("c", np.zeros(5, bool), scores, scores > 2, None, None).drawn()
    assert set(alone) == {"false_alarms", "detections"}
    assert np.isnan(alone["detections"]).all() and interval(alone["detections"]) is None
    both = ScoredSet("c", scores > 2, scores, None, None, None).drawn()
    assert {name.partition("_")[0] for name in both} == {"image"}
    assert interval(both["image_auroc"]) == (1, 1)  # nothing else can be drawn


def test_draws_are_packed_and_read_back() -> None:
    values = np.linspace(0, 1, bootstrap.N_DRAWS)
    assert unpack(pack(values)) == pytest.approx(values, abs=1e-7)
    for text in ("?", "AAA", "AAAA"):  # the last one is three bytes
        with pytest.raises(ValueError):
            unpack(text)
