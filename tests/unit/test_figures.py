"""Figures: each panel shows what it says, pixel by pixel."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from helpers import class_record
from matplotlib import colormaps

from utils.evaluation.class_record import Threshold
from utils.report.curves import draw_roc_curves
from utils.report.figures import HEADER, PREDICTED, TRUE, FigureMaker, figure_size, panel_lefts

SIDE = 200


def draw(threshold: float | None, mask: np.ndarray | None = None) -> list[np.ndarray]:
    """The five panels of a figure of a known image and map."""
    image = np.random.default_rng(0).integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)
    anomaly_map = np.tile(np.linspace(0, 10, SIDE, dtype=np.float32), (SIDE, 1))
    maker = FigureMaker(SIDE, 0.0, 10.0, Threshold(threshold, "a test"))
    figure = np.asarray(maker.draw("a title", image, anomaly_map, mask))
    panels = [figure[HEADER : HEADER + SIDE, left : left + SIDE] for left in panel_lefts(SIDE)]
    assert np.array_equal(panels[0], image)
    return [image, *panels[1:]]


def test_panels() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[50:100, 20:60] = True
    image, truth, heat, predicted, outlined = draw(6.0, mask)
    np.testing.assert_array_equal(truth[:, :, 0] == 255, mask)
    np.testing.assert_array_equal(predicted[0, :, 0] == 255, np.linspace(0, 10, SIDE) > 6)
    inferno = np.round(np.array(colormaps["inferno"].colors) * 255)
    np.testing.assert_array_equal(heat[3, 0], inferno[0])
    np.testing.assert_array_equal(heat[3, -1], inferno[255])
    edge = int(np.argmax(np.linspace(0, 10, SIDE) > 6))
    assert tuple(outlined[150, edge]) == PREDICTED
    assert tuple(outlined[50, 40]) == TRUE
    np.testing.assert_array_equal(outlined[75, 40], image[75, 40])
    np.testing.assert_array_equal(outlined[150, 20], image[150, 20])


def test_a_pixel_at_the_threshold_is_not_predicted_defective() -> None:
    anomaly_map = np.tile(np.array([1, 2, 3, 4], np.float32), (4, 1)).repeat(50, 0).repeat(50, 1)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    figure = FigureMaker(SIDE, 0.0, 4.0, Threshold(2.0, "a test")).draw(
        "", image, anomaly_map, None
    )
    left = panel_lefts(SIDE)[3]
    predicted = np.asarray(figure)[HEADER, left : left + SIDE, 0] == 255
    np.testing.assert_array_equal(predicted, anomaly_map[0] > 2)


def test_without_a_threshold_or_a_mask_panels_are_empty() -> None:
    image, truth, _, predicted, outlined = draw(None)
    assert not predicted.any()
    assert not truth[40:].any()  # above it says that there is no mask
    np.testing.assert_array_equal(outlined, image)


def test_any_side_and_any_name() -> None:
    for side in (8, 600):
        maker = FigureMaker(side, 1.0, 1.0, Threshold(1.0, "a test"))
        blank = np.zeros((side, side), np.float32)
        image = np.zeros((side, side, 3), np.uint8)
        figure = maker.draw("a\nb \udcff 漢字 <b>", image, blank, blank > 0)
        assert 192 * 5 < figure.width < 384 * 6
        assert figure.size == figure_size(side)


def test_a_class_name_in_letters_no_font_has_is_no_warning(tmp_path: Path) -> None:
    curves = {"image_roc": ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0]), "pixel_roc": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        name, metrics = "猫 \U0001f980", {"image_auroc": 1.0}
        record = class_record(name, metrics=metrics, curves=curves)
        draw_roc_curves([record], "a title", tmp_path / "roc.png")
    assert (tmp_path / "roc.png").stat().st_size > 1000
