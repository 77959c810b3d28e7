"""A user's own classes: looked at whole, said in one line, kept apart from the paper's."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_class, draw_image, expect_one_line, result, rows, run, save_image
from PIL import Image

from datasets.layouts import LAYOUTS, check_outside, choose_crops, mvtec
from datasets.types import DataError
from padim.storage.model_file import load_model
from utils.cli.main import export, main, predict, reproduce

QUICK = ["--weights=random", "--num_workers=0", "--embedding_dim=4", "--figures=none"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A class of one's own, and one that passes for MVTec AD's tile."""
    monkeypatch.setitem(mvtec.COUNTS, "tile", (6, 6))
    for name in ("tile", "mine"):
        draw_class(tmp_path / "data", name)
    return tmp_path / "data"


def run_whole(root: Path, save: Path, *argv: str) -> int:
    """With the default resize and crop."""
    return main("resnet18", [f"--data_path={root}", f"--save_path={save}", *QUICK, *argv])


def content(save: Path) -> dict:
    return json.loads((save / "resnet18_rd4_untrained/results.json").read_text())


def test_only_mvtec_ads_own_classes_are_cropped(root: Path, tmp_path: Path, capsys) -> None:
    save = tmp_path / "out"
    assert run_whole(root, save) == 0
    out = capsys.readouterr().out
    assert "tile: 12 images (12 png), 48 px; the outer 6 % of each side is not looked at" in out
    assert "mine: 12 images (12 png), 48 px\n" in out
    found = content(save)
    assert {name: data["crop"] for name, data in found["data"].items()} == {
        "tile": 224,
        "mine": 256,
    }
    assert found["settings"]["crop"] is None
    models = save / "resnet18_rd4_untrained/models"
    crops = [load_model(models / f"{name}.safetensors").config.crop for name in ("tile", "mine")]
    assert crops == [224, 256]
    markdown = (save / "resnet18_rd4_untrained/results.md").read_text()
    assert "- tile: 12 images (12 png), 48 px; the outer 6 % of each side" in markdown
    # A class alone has the same numbers, goes into the same folder, and is not done again.
    assert run_whole(root, tmp_path / "alone", "--classes=mine") == 0
    tables = [
        (path / "resnet18_rd4_untrained/scores/mine.csv").read_text()
        for path in (save, tmp_path / "alone")
    ]
    assert tables[0] == tables[1]
    record = save / "resnet18_rd4_untrained/records/mine.json"
    before = record.stat().st_mtime_ns
    assert run_whole(root, save, "--classes=mine") == 0
    assert record.stat().st_mtime_ns == before
    expect_one_line(capsys, run_whole(root, save, "--crop=200"), "then, 200 now")


@pytest.mark.parametrize(
    ("dataset", "resize", "crop", "expected"),
    [
        ("mvtec", 256, None, {"tile": 224, "mine": 256}),
        ("mvtec", 300, None, {"tile": 224, "mine": 300}),
        ("mvtec", 256, 100, {"tile": 100, "mine": 100}),
        ("mpdd", 256, None, {"tile": 256, "mine": 256}),
        ("rd_mvtec", 256, None, {"tile": 224, "mine": 224}),
    ],
)
def test_crops(root: Path, dataset: str, resize: int, crop: int | None, expected: dict) -> None:
    assert choose_crops(LAYOUTS[dataset], root, resize, crop) == expected


@pytest.mark.parametrize("extra", ["train/good/x.png", "test/good/x.png", "test/new/x.png"])
def test_one_image_more_and_it_is_not_mvtec_ads(root: Path, extra: str) -> None:
    save_image(root / "tile" / extra, 1)
    assert choose_crops(LAYOUTS["mvtec"], root, 256, None)["tile"] == 256
    (root / "tile/train/good/Thumbs.db").touch()  # which is no image
    (root / "tile" / extra).unlink()
    assert choose_crops(LAYOUTS["mvtec"], root, 256, None)["tile"] == 224


def test_a_default_crop_that_does_not_fit(root: Path, tmp_path: Path, capsys) -> None:
    status = run_whole(root, tmp_path / "out", "--resize=128")
    expect_one_line(capsys, status, "--resize 128", "tile", "224", "--crop")


def test_a_bar_at_the_edge_of_ones_own_image_is_seen(root: Path, tmp_path: Path) -> None:
    """It lies in what a crop to 224 of 256 leaves out."""
    scores = []
    for name, width in (("plain", 0), ("barred", 2)):
        save = tmp_path / name
        image = np.array(draw_image(100))
        image[:, :width] = (255, 0, 0)
        Image.fromarray(image).save(root / "mine/test/good/000.png")
        assert run_whole(root, save, "--classes=mine", "--sigma=1") == 0
        with (save / "resnet18_rd4_untrained/scores/mine.csv").open(newline="") as file:
            scores.append(float(next(csv.DictReader(file))["score"]))
    assert scores[1] > 1.5 * scores[0]


def test_a_class_called_like_one_of_mvtec_ads(root: Path, tmp_path: Path, capsys) -> None:
    draw_class(root, "wood")
    save = tmp_path / "out"
    assert run(root, save) == 0
    words = "wood: called like a class of MVTec AD, but with 6 + 6 training and test images"
    assert words in capsys.readouterr().out
    assert list(rows(save)) == ["tile", "wood", "mine", "all"]
    text = (result(save) / "results.md").read_text()
    assert "wood: called like a class of MVTec AD" in text
    notes = json.loads((result(save) / "results.json").read_text())["notes"]
    assert "247 + 79" in notes["wood"][0] and not any("247" in note for note in notes["tile"])


def test_reproduce_keeps_it_apart_too(root: Path, tmp_path: Path, capsys) -> None:
    draw_class(root, "wood")
    save = tmp_path / "out"
    argv = [f"--data_path={root}", f"--save_path={save}", "--weights=random", "--num_workers=0"]
    assert reproduce([*argv, "--tables=localization", "--backbones=resnet18"]) == 0
    out = capsys.readouterr().out
    assert "wood: called like a class of MVTec AD" in out
    assert "mine: 12 images (12 png), 48 px\n" in out
    with (save / "tables.csv").open(newline="") as file:
        found = {
            row["class"]: row
            for row in csv.DictReader(file)
            if row["configuration"] == "resnet18_rd100" and row["metric"] == "pixel_auroc"
            if row["table"] == "localization"
        }
    assert all(found[name]["value"] for name in ("tile", "wood", "mine"))
    assert found["textures"]["classes_run"] == "1"  # tile's alone
    assert "- wood: called like a class of MVTec AD" in (save / "tables.md").read_text()
    assert (save / "skipped.csv").read_text() == "path,reason\n"


# What is skipped, and what is squashed


def test_a_run_says_what_it_skips(root: Path, tmp_path: Path, capsys) -> None:
    folder = root / "mine/train/good"
    (folder / "lot2").mkdir()
    for i in range(3):
        draw_image(50 + i).resize((64, 48)).save(folder / f"lot2/{i}.jpg")
    draw_image(60).save(folder / "lot2/x.gif")
    (folder / "Thumbs.db").touch()
    (folder / "lot2/empty.png").touch()
    save = tmp_path / "out"
    assert run(root, save) == 0
    line = (
        "mine: 15 images (12 png, 3 jpg), 48 to 64 px, 3 skipped (1 system file, 1 ending .gif, "
        "1 empty); 3 not square, such as 64 x 48: squashed to a square; the outer 6 % of each side "
        "is not looked at"
    )
    assert line in capsys.readouterr().out
    assert f"- {line}" in (result(save) / "results.md").read_text()
    found = json.loads((result(save) / "results.json").read_text())["data"]["mine"]
    assert found["skipped"] == {"system file": 1, "ending .gif": 1, "empty": 1}
    with (result(save) / "skipped.csv").open(newline="") as file:
        assert [(row["path"], row["reason"]) for row in csv.DictReader(file)] == [
            ("mine/train/good/Thumbs.db", "system file"),
            ("mine/train/good/lot2/x.gif", "ending .gif"),
            ("mine/train/good/lot2/empty.png", "empty"),
        ]


def test_a_run_says_that_masks_end_empty(root: Path, tmp_path: Path, capsys) -> None:
    mask = root / "mine/ground_truth/spot/001_mask.png"
    Image.new("L", (48, 48)).save(mask)
    assert run(root, tmp_path / "out", "--classes=mine") == 0
    words = "mine: masks that show no defect: 1 of 3 (1 black)"
    assert words in capsys.readouterr().out
    assert words in (result(tmp_path / "out") / "results.md").read_text()


def test_masks_that_are_not_used_leave_dashes_and_a_line(
    root: Path, tmp_path: Path, capsys
) -> None:
    for path in (root / "mine/ground_truth/spot").iterdir():
        path.rename(path.with_suffix(".npy"))
    assert run(root, tmp_path / "out", "--classes=mine") == 0
    assert "mine: ground_truth holds 3 files, none is used" in capsys.readouterr().out
    row = rows(tmp_path / "out")["mine"]
    assert row["image_auroc"] and not row["pixel_auroc"] and not row["pro"]


def test_a_prediction_says_what_it_skips(root: Path, tmp_path: Path, capsys) -> None:
    assert run(root, tmp_path / "out", "--classes=mine") == 0
    photos = tmp_path / "photos"
    save_image(photos / "lot/a.png", 1)
    draw_image(2).resize((64, 48)).save(photos / "b.jpg")
    draw_image(3).save(photos / "c.gif")
    (photos / "Thumbs.db").touch()
    model = result(tmp_path / "out") / "models/mine.safetensors"
    capsys.readouterr()
    for name, inputs in (("folder", [photos]), ("names", sorted(photos.iterdir()))):
        save = tmp_path / name
        argv = ["--model", model, "--input", *inputs, "--save_path", save, "--num_workers=0"]
        assert predict(list(map(str, argv))) == 0
        out = capsys.readouterr().out
        assert "mine: 2 images (1 " in out
        assert "2 skipped (1 " in out and "1 system file" in out and "1 ending .gif" in out
        assert "the outer 6 % of each side is not looked at" in out
        assert "1 not square, such as 64 x 48: squashed to a square" in out
        summary = json.loads((save / "summary.json").read_text())
        assert summary["skipped"] == {"ending .gif": 1, "system file": 1}
        with (save / "skipped.csv").open(newline="") as file:
            skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
        assert skipped == {
            str(photos / "c.gif"): "ending .gif",
            str(photos / "Thumbs.db"): "system file",
        }


# Only training images


def test_a_class_with_training_images_alone(root: Path, tmp_path: Path, capsys) -> None:
    for name in ("test", "ground_truth"):
        shutil.rmtree(root / "mine" / name)
    (root / "mine/test/good").mkdir(parents=True)  # made, and not filled yet
    save = tmp_path / "out"
    assert run(root, save) == 0
    out = capsys.readouterr().out
    assert "mine: no test images: the model is fitted and calibrated." in out
    row = rows(save)["mine"]
    assert (row["n_train"], row["n_test"], row["image_auroc"]) == ("6", "0", "")
    model = load_model(result(save) / "models/mine.safetensors")
    record = json.loads((result(save) / "records/mine.json").read_text())
    scores = [image["score"] for image in record["training"]]
    assert scores == model.calibration.image_scores.tolist()[::-1]
    assert record["threshold"]["value"] == model.calibration.pixel_threshold(0.01)
    assert (result(save) / "scores/mine.csv").read_text().count("\n") == 1
    assert (result(save) / "roc_curve.png").exists()  # of tile
    only = tmp_path / "only"
    assert run(root, only, "--classes=mine") == 0
    assert not list(result(only).glob("*_curve.png"))  # they would be empty
    assert "_curve.png" not in (result(only) / "index.html").read_text()
    before = (result(save) / "records/mine.json").stat().st_mtime_ns
    assert run(root, save) == 0  # finished: not done again
    assert (result(save) / "records/mine.json").stat().st_mtime_ns == before


def test_several_seeds_of_training_images_alone(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "mine/test")
    assert run(root, tmp_path / "out", "--classes=mine", "--seeds", "0", "1") == 0
    text = (tmp_path / "out/resnet18_rd12_untrained_seeds_0_1/results.csv").read_text()
    assert text.splitlines()[1].startswith("mine,")


# Where results may not go


@pytest.mark.parametrize("option", ["--save_path", "--image_cache"])
@pytest.mark.parametrize(
    "place", ["mine", "mine/test/out", "mine/test/good", "mine/train/good/x/y", "tile/out", "link"]
)
def test_results_do_not_go_into_the_images(
    root: Path, tmp_path: Path, option: str, place: str, capsys
) -> None:
    (tmp_path / "data/link").symlink_to(root / "mine/test")
    before = sorted(root.rglob("*"))
    argv = [f"--data_path={root}", f"{option}={root / place}", *QUICK]
    argv += [f"--save_path={tmp_path / 'out'}"] * (option != "--save_path")
    status = main("resnet18", argv)
    expect_one_line(capsys, status, option, "is inside", "images are read from")
    assert sorted(root.rglob("*")) == before
    if option == "--save_path":
        argv = [f"--data_path={root}", f"--save_path={root / place}", "--weights=random"]
        status = reproduce([*argv, "--backbones=resnet18", "--tables=localization"])
        expect_one_line(capsys, status, option, "is inside")
        assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("kind", ["train/good", "train/ok", "Data/Images"])
@pytest.mark.parametrize("place", ["mine", "mine/test/out", "mine/train/good", "link/out"])
def test_predictions_and_graphs_do_not_go_into_a_class(
    tmp_path: Path, kind: str, place: str, capsys
) -> None:
    save_image(tmp_path / "x.png", 1)
    save_image(tmp_path / "data/mine" / kind / "000.png", 2)
    (tmp_path / "data/mine/test").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "data/mine/test")
    before = sorted((tmp_path / "data").rglob("*"))
    given = ["--model", str(tmp_path / "x.png")]  # refused before it is read
    save = tmp_path / "data" / place
    status = predict([*given, "--input", str(tmp_path / "x.png"), "--save_path", str(save)])
    expect_one_line(capsys, status, "--save_path", "is inside the class", "images are read from")
    status = export([*given, "--output", str(save / "x.onnx")])
    expect_one_line(capsys, status, "--output", "is inside the class")
    assert sorted((tmp_path / "data").rglob("*")) == before


def test_results_beside_the_classes_are_no_class(root: Path, tmp_path: Path) -> None:
    assert run(root, root / "results", "--classes=mine") == 0
    assert run(root, root / "results") == 0
    assert list(rows(root / "results")) == ["tile", "mine", "all"]


@pytest.mark.parametrize("place", ["training/frames", "testing/frames/01_0014", "training"])
def test_results_do_not_go_into_videos(stc_root: Path, place: str) -> None:
    with pytest.raises(DataError, match="is inside"):
        check_outside(LAYOUTS["shanghaitech"], stc_root, stc_root / place / "out", "--save_path")
    check_outside(LAYOUTS["shanghaitech"], stc_root, stc_root / "out", "--save_path")
