"""Saturated per-region overlap: against its definition, computed threshold by threshold."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.loading.defect_regions import DefectRegion
from datasets.types import AnomalyClass, Sample
from utils.evaluation.bootstrap import draw as draw_weights
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.measure import measure_class
from utils.evaluation.pixel_table import PixelTables
from utils.evaluation.saturation import SaturatedTable, saturated_overlaps

KINDS = ("logical_anomalies", "structural_anomalies")
LIMIT = 0.05


def draw_set(
    seed: int, n_good: int, n_bad: int, side: int, levels: int | None
) -> tuple[np.ndarray, np.ndarray, list[DefectRegion], list[str]]:
    """Maps, masks, regions that overlap or lie in pieces, and the kinds of the images."""
    rng = np.random.default_rng(seed)
    defects = ["good"] * n_good + [KINDS[i % 2] for i in range(n_bad)]
    maps = rng.normal(0, 1, (len(defects), side, side))
    masks = np.zeros(maps.shape, bool)
    regions = []
    for image in range(n_good, len(defects)):
        for _ in range(rng.integers(1, 4)):
            mask = np.zeros((side, side), bool)
            for _ in range(rng.integers(1, 3)):
                top, left = rng.integers(0, side - 4, 2)
                mask[top : top + rng.integers(2, 9), left : left + rng.integers(2, 9)] = True
            regions.append(DefectRegion(image, mask, float(rng.choice([1.0, 0.6, 0.13]))))
            maps[image][mask] += rng.normal(1.5, 0.8)
            masks[image] |= mask
    if levels is not None:
        maps = np.round(maps * levels / 4) / levels
    return maps.astype(np.float32), masks, regions, defects


def slow_spro(
    maps: np.ndarray,
    masks: np.ndarray,
    regions: list[DefectRegion],
    defects: list[str],
    images: np.ndarray | None = None,
) -> dict[str, float]:
    """By kind. ``images`` may name an image several times, as a draw of the bootstrap does."""
    images = np.arange(len(maps)) if images is None else images
    values = {}
    for kind in sorted(set(defects) - {"good"}):
        chosen = [i for i in images if defects[i] in ("good", kind)]
        normal = np.concatenate([maps[i][~masks[i]] for i in chosen])
        own = [(maps[i][r.mask], r) for i in chosen for r in regions if r.image == i]
        points = [(0.0, 0.0)]
        for threshold in np.unique(np.concatenate([maps[i].ravel() for i in chosen]))[::-1]:
            shares = [
                min((scores >= threshold).sum() / (r.saturation * r.mask.sum()), 1.0)
                for scores, r in own
            ]
            points.append((float((normal >= threshold).mean()), float(np.mean(shares))))
        values[kind] = clipped_area(np.array(points)) / LIMIT
    return values


def clipped_area(points: np.ndarray) -> float:
    """Up to ``LIMIT``, between straight lines; where the rate stays the curve is vertical."""
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= LIMIT:
            total += (x1 - x0) * (y0 + y1) / 2
        elif x0 < LIMIT:
            at_limit = y0 + (y1 - y0) * (LIMIT - x0) / (x1 - x0)
            total += (LIMIT - x0) * (y0 + at_limit) / 2
    return total


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("levels", [None, 40, 5])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_good", [0, 3])
def test_it_is_its_definition(levels: int | None, seed: int, n_good: int) -> None:
    maps, masks, regions, defects = draw_set(seed, n_good, 5, 24, levels)
    expected = slow_spro(maps, masks, regions, defects)
    found = saturated_overlaps(*tensors(maps, masks), regions, defects)
    assert found == pytest.approx(expected, abs=1e-12)
    assert set(found) == set(KINDS)


def test_what_is_enough_of_a_defect_counts_as_all_of_it() -> None:
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0] = np.linspace(0, 0.5, 100).reshape(10, 10)
    mask = np.zeros((10, 10), bool)
    mask[:4, :5] = True
    maps[1, 0, :5] = 1.0  # a quarter of the defect
    masks = np.stack((mask & False, mask))
    values = {}
    for saturation in (1.0, 0.5, 0.25, 0.1):
        region = DefectRegion(1, mask, saturation)
        found = saturated_overlaps(*tensors(maps, masks), [region], ["good", "logical_anomalies"])
        values[saturation] = found["logical_anomalies"]
    assert values[0.25] == values[0.1] == 1.0
    assert values[0.5] == pytest.approx(0.5, abs=0.02)
    assert values[1.0] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("levels", [None, 40])
def test_every_draw_has_the_number_of_the_images_drawn(levels: int | None) -> None:
    maps, masks, regions, defects = draw_set(7, 6, 8, 24, levels)
    is_good = np.array([defect == "good" for defect in defects])
    tables = PixelTables.of_maps(*tensors(maps, masks, is_good))
    table = SaturatedTable.count(torch.from_numpy(maps), regions, defects, tables.thresholds)
    weights = np.concatenate((np.ones((1, 14)), next(draw_weights("mine", ~is_good))[:2]))
    values = table.weighted(tables.curves.false, is_good, weights)
    for value, times in zip(values, weights.astype(int), strict=True):
        images = np.repeat(np.arange(14), times)
        expected = slow_spro(maps, masks, regions, defects, images)
        assert value == pytest.approx(np.mean(list(expected.values())), abs=2e-3)


@pytest.mark.parametrize("has_regions", [True, False])
def test_a_class_has_the_number_its_interval_and_its_parts(has_regions: bool) -> None:
    maps, masks, regions, defects = draw_set(2, 4, 6, 24, None)
    root = Path("root")
    test = tuple(
        Sample(root / f"test/{d}/{i}.png", d, None if d == "good" else Path("mask.png"))
        for i, d in enumerate(defects)
    )
    item = AnomalyClass("mine", root, (Sample(Path("a")), Sample(Path("b"))), test)
    images = np.zeros((len(defects), 24, 24, 3), np.uint8)
    scored = ClassScores(images, masks, torch.from_numpy(maps), maps.max(axis=(1, 2)))
    record = measure_class(item, scored, None, 0.01, regions if has_regions else ())
    notes = [note for note in record.notes if note.startswith("spro is")]
    if not has_regions:
        assert record.metrics["spro"] is None and "spro" not in record.draws and not notes
        return
    expected = slow_spro(maps, masks, regions, defects)
    assert record.metrics["spro"] == pytest.approx(np.mean(list(expected.values())))
    assert "spro" in record.draws
    shown = ", ".join(f"{kind} {value:.3f}" for kind, value in expected.items())
    assert notes == [f"spro is the mean of {shown}"]
