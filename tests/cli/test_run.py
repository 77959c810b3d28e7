"""A run end to end in this process: what it writes is recomputed from its own scores and model."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    SIDE,
    class_record,
    draw_class,
    draw_image,
    expect_one_line,
    random_backbone,
    result,
    rows,
    run,
)
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torchvision import models

from datasets.layouts import mvtec
from datasets.layouts.mvtec import read_class
from datasets.masks import read_mask
from datasets.types import Sample
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from utils.report import curves
from utils.report.class_figures import _figure_names
from utils.report.figures import HEADER, panel_lefts


@pytest.fixture
def hard_root(tmp_path: Path) -> Path:
    """A class whose defects are faint, so that no metric is 1 and none equals another."""
    root = tmp_path / "hard"
    folder = draw_class(root, "tiles", n_train=12, n_good=9, n_spots=9)
    for i in range(9):
        path = folder / "test/spot" / f"{i:03d}.png"
        pixels = np.asarray(draw_image(300 + i)).astype(int)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[10 : 14 + i, 12 : 20 + 2 * i] = 255
        pixels[mask > 0] += 7 * (i - 1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        Image.fromarray(mask).save(folder / "ground_truth/spot" / f"{i:03d}_mask.png")
    return root


def best_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def test_every_number_is_that_of_the_model(hard_root: Path, tmp_path: Path) -> None:
    assert run(hard_root, tmp_path / "out", "--false_alarm_rate=0.3") == 0
    found = rows(tmp_path / "out")["tiles"]
    others = ("class", "image_checksum")
    row = {name: float(found[name] or "nan") for name in found if name not in others}
    item, preprocessing = read_class(hard_root, "tiles"), Preprocessing(64, 56)
    model = PaDiM.load(result(tmp_path / "out") / "models/tiles.safetensors", random_backbone())
    maps, scores = model(torch.stack([preprocessing.image(s.path) for s in item.test]))
    labels = np.array([sample.is_defective for sample in item.test])
    masks = np.zeros(maps.shape, bool)
    for index, sample in enumerate(item.test):
        if sample.mask is not None:
            masks[index] = preprocessing.crop_of_mask(read_mask(sample.mask))

    with (result(tmp_path / "out") / "scores/tiles.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["path"] for line in written] == [
        f"test/{sample.defect}/{sample.path.name}" for sample in item.test
    ]
    assert [int(line["label"]) for line in written] == labels.tolist()
    np.testing.assert_allclose([float(line["score"]) for line in written], scores, rtol=1e-5)
    p_values = np.array([float(line["p_value"]) for line in written])
    np.testing.assert_allclose(p_values, model.calibration.p_values(scores))

    pixels, flat, images = masks.ravel(), maps.numpy().ravel(), scores.numpy()
    expected = {
        "image_auroc": roc_auc_score(labels, images),
        "image_ap": average_precision_score(labels, images),
        "image_f1": best_f1(labels, images),
        "pixel_auroc": roc_auc_score(pixels, flat),
        "pixel_ap": average_precision_score(pixels, flat),
        "pixel_f1": best_f1(pixels, flat),
        "false_alarms": np.mean(p_values[~labels] <= 0.3),
        "detections": np.mean(p_values[labels] <= 0.3),
        "n_train": 12,
        "n_test": 18,
    }
    assert len(set(expected.values())) == len(expected)  # else one could stand for another
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-4), name
    record = json.loads((result(tmp_path / "out") / "records/tiles.json").read_text())
    assert record["threshold"]["value"] == pytest.approx(model.calibration.pixel_threshold(0.3))


def test_the_worst_ranked_image_is_drawn_with_its_own_mask(hard_root: Path, tmp_path: Path) -> None:
    options = ("--figures=1", "--resize=200", "--crop=192")
    assert run(hard_root, tmp_path / "out", *options) == 0
    record = json.loads((result(tmp_path / "out") / "records/tiles.json").read_text())
    drawn = [image for image in record["images"] if image["figure"]]
    assert [image["misranked"] for image in drawn] == [
        max(image["misranked"] for image in record["images"])
    ]
    with Image.open(result(tmp_path / "out") / drawn[0]["figure"]) as figure:
        pixels = np.asarray(figure)
    panels = [pixels[HEADER : HEADER + 192, left : left + 192] for left in panel_lefts(192)]
    item, preprocessing = read_class(hard_root, "tiles"), Preprocessing(200, 192)
    sample = {f"test/{s.defect}/{s.path.name}": s for s in item.test}[drawn[0]["path"]]
    np.testing.assert_array_equal(panels[0], preprocessing.image(sample.path).permute(1, 2, 0))
    truth = (
        preprocessing.crop_of_mask(read_mask(sample.mask))
        if sample.mask
        else np.zeros((192, 192), bool)
    )
    np.testing.assert_array_equal(panels[1][:, :, 0] == 255, truth)


def test_each_curve_is_drawn_in_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(curves, "save_plot", lambda figure, _path: figures.append(figure))
    points = {
        name: ([0, at, 1], [0, 1, 1]) for name, at in (("image_roc", 0.1), ("pixel_roc", 0.2))
    }
    record = class_record(
        "a_$name",
        metrics={"image_auroc": 0.95, "pixel_auroc": 0.9, "pro": 0.8},
        curves={**points, "pro": ([0, 0.05, 0.3], [0, 0.7, 0.9])},
    )
    curves.draw_roc_curves([record], "a title", tmp_path)
    curves.draw_pro_curves([record], "a title", tmp_path)
    axes = [*figures[0].axes, *figures[1].axes]
    for axis, curve, value in zip(
        axes, ("image_roc", "pixel_roc", "pro"), ("0.950", "0.900", "0.800"), strict=True
    ):
        np.testing.assert_array_equal(axis.lines[0].get_data(), record.curves[curve])
        assert value in axis.get_title()
        assert axis.get_legend().get_texts()[0].get_text().endswith(value)
    assert "Image" in axes[0].get_title()
    assert "Pixel" in axes[1].get_title()


def test_only_the_papers_protocol_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_class(tmp_path / "data", "bottle")
    monkeypatch.setitem(mvtec.COUNTS, "bottle", (6, 6))  # it passes for MVTec AD's own
    weights = tmp_path / "weights.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18(weights=None).state_dict(), weights)
    folder = tmp_path / "out/resnet18_rd100"
    common = ("--embedding_dim=100", "--figures=none")
    assert run(tmp_path / "data", tmp_path / "out", *common, weights=str(weights)) == 0
    text = (folder / "results.md").read_text()
    assert "another protocol than the paper's (--resize 64, --crop 56)" in text
    assert "0.981" not in text
    papers = ("--resize=256", "--crop=224", "--overwrite")
    assert run(tmp_path / "data", tmp_path / "out", *common, *papers, weights=str(weights)) == 0
    text = (folder / "results.md").read_text()
    assert re.search(r"\| bottle \| [01]\.\d{3} \[.*\] \| 0\.981 \([+-]0\.\d{3}\) \|", text)
    page = (folder / "index.html").read_text()
    assert str(weights) in page


def test_a_network_of_bfloat16_stays_one(data_root: Path, tmp_path: Path) -> None:
    """Its run has a folder of its own, whatever its batches, and its model is judged with it."""
    name = "resnet18_rd12_bfloat16_untrained"
    folders = [tmp_path / f"out{size}" / name for size in (3, 16)]
    for size, folder in zip((3, 16), folders, strict=True):
        options = ("--network_precision=bfloat16", f"--batch_size={size}")
        assert run(data_root, folder.parent, *options) == 0
    assert len({(folder / "scores/tiles.csv").read_bytes() for folder in folders}) == 1
    written = json.loads((folders[0] / "records/tiles.json").read_text())
    assert written["settings"]["network_precision"] == "bfloat16"
    with (folders[0] / "scores/tiles.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    model, preprocessing = folders[0] / "models/tiles.safetensors", Preprocessing(64, 56)
    image = preprocessing.image(data_root / "tiles" / row["path"])[None]
    fitted = PaDiM.load(model)
    assert fitted.backbone.precision == "bfloat16"
    assert fitted(image)[1].item() == pytest.approx(float(row["score"]), rel=0.02)


def test_an_overwrite_that_stops_mixes_nothing(data_root: Path, tmp_path: Path, capsys) -> None:
    draw_class(data_root, "walls")
    save = tmp_path / "out"
    assert run(data_root, save) == 0
    broken = data_root / "walls/train/good/003.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    capsys.readouterr()
    status = run(data_root, save, "--overwrite", "--sigma=1")
    expect_one_line(capsys, status, "walls/train/good/003.png")
    assert [name for name in rows(save) if name != "all"] == ["tiles"]
    content = json.loads((result(save) / "results.json").read_text())
    assert content["settings"]["sigma"] == 1
    # What there was of the other class is still there, until there is something in its place.
    assert (result(save) / "models/walls.safetensors").exists()
    assert json.loads((result(save) / "records/walls.json").read_text())["settings"]["sigma"] == 4

    broken.write_bytes(whole)
    assert run(data_root, save, "--overwrite", "--sigma=1") == 0
    assert [name for name in rows(save) if name != "all"] == ["tiles", "walls"]


def test_a_record_of_another_version_is_made_again(data_root: Path, tmp_path: Path) -> None:
    assert run(data_root, tmp_path / "out") == 0
    record = result(tmp_path / "out") / "records/tiles.json"
    for content in ('{"version": 1}', "half a rec"):
        record.write_text(content)
        assert run(data_root, tmp_path / "out") == 0
        assert json.loads(record.read_text())["class_name"] == "tiles"


def test_names_that_are_no_text(data_root: Path, tmp_path: Path, capsys) -> None:
    (data_root / "tiles").rename(data_root / os.fsdecode(b"w\xfe\n" + b"x" * 120))
    assert run(data_root, tmp_path / "out") == 0
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("!!!")]
    assert lines == []
    assert "\u2026" in output.out  # a long name is cut in tables
    assert (result(tmp_path / "out") / "roc_curve.png").exists()


def test_names_that_cannot_be_are_refused_before_any_work(tmp_path: Path, capsys) -> None:
    draw_class(tmp_path / "data", "x" * 230)
    status = run(tmp_path / "data", tmp_path / "out")
    expect_one_line(capsys, status, "rename it to at most 200 bytes")
    assert run(tmp_path / "data", tmp_path / "out", "--classes", ",") == 2
    assert "--classes names none" in capsys.readouterr().err


def test_figures_of_one_name_are_told_apart() -> None:
    samples = [
        Sample(Path("test/a/1.png"), "a"),
        Sample(Path("test/a/1.jpg"), "a"),
        Sample(Path("test/a/b_1.png"), "a"),
        Sample(Path("test/a_b/1.png"), "a_b"),
    ]
    names = _figure_names(samples)
    assert len(set(names)) == 4
    assert names[0] == "a_1.png"
