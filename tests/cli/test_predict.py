"""predict.py as its users run it: a fitted model, and folders of whatever lies in them."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SIDE, draw_class, draw_image, expect_one_line, random_backbone
from PIL import Image
from scipy import ndimage, stats
from scripts import run, start

from datasets.loading.unlabelled import find_images
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from utils.cli.main import predict
from utils.prediction.outputs import output_path
from utils.prediction.overlay import BOX, Placement
from utils.system.lock import locked

RESIZE, CROP = 64, 56
QUICK = ("--num_workers=1", "--batch_size=4")


def fit(folder: Path, path: Path, n_train: int = 6, crop: int = CROP) -> Path:
    """A model of the drawn class, with untrained weights."""
    config = PaDiMConfig(embedding_dim=12, seed=3, resize=RESIZE, crop=crop)
    model = PaDiM(random_backbone(), config)
    paths = sorted(folder.glob("train/good/*.png"))[:n_train]
    crops = torch.stack([Preprocessing(RESIZE, crop).image(path) for path in paths])
    model.fit_crops([crops], len(crops))
    model.save(path)
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fitted")
    return fit(draw_class(root, n_train=20), root / "tiles.safetensors", n_train=20)


def judge(*argv: object) -> int:
    """``predict.py`` in this process."""
    return predict([*map(str, argv), "--num_workers=0"])


def load(path: Path) -> PaDiM:
    return PaDiM.load(path, random_backbone())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_good_images_are_judged_and_bad_ones_reported(model_file: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    names = {
        "a.png": draw_image(1),
        "a.jpg": draw_image(2),
        "deep/er/grey.png": draw_image(3).convert("L"),
        "deep/rgba.PNG": draw_image(4).convert("RGBA"),
        "wide.bmp": draw_image(5).resize((97, 31)),
        "-x.png": draw_image(6),
        "two\nlines <b>&.png": draw_image(7, (slice(14, 24), slice(12, 24))),
        "ümläut/" + "n" * 251 + ".png": draw_image(8),
    }
    for name, image in names.items():
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(images / name)
    deep_grey = np.asarray(draw_image(9).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep_grey).save(images / "sixteen.tif")
    bad = {
        "empty.png": b"",
        "text.jpg": b"no image at all",
        "cut.png": (images / "a.png").read_bytes()[:900],
        "huge.bmp": bomb(),
    }
    for name, content in bad.items():
        (images / name).write_bytes(content)
    (images / ".hidden.png").write_bytes(b"")
    (images / "notes.txt").write_text("not looked at")
    (images / "gone.png").symlink_to(images / "nowhere")
    (images / "circle").symlink_to(images)
    save = images / "results"  # inside the input: it must not be read back

    status, out, err = run(
        *("predict.py", "--model", model_file, "--input", images, "--save_path", save),
        *("--npy", "--figures=3", *QUICK),
    )
    assert status == 1, err
    assert "UNTRAINED" in err
    assert "Traceback" not in err
    assert "\r" not in err
    rows = {row["path"]: row for row in table(save / "scores.csv")}
    assert list(rows) == sorted([*names, "sixteen.tif"], key=lambda name: name.split("/"))
    failed = {row["path"]: row["reason"] for row in table(save / "failed.csv")}
    assert set(failed) == {*bad, "gone.png"}
    assert all(failed.values())
    assert sum(line.startswith("failed: ") for line in err.splitlines()) == 5
    assert "9 images judged" in out
    assert "5 failed" in out

    model = load(model_file)
    threshold = model.calibration.image_threshold(0.01)
    pixel = model.calibration.pixel_threshold(0.01)
    for name, row in rows.items():
        maps, scores = model(Preprocessing(RESIZE, CROP).image(images / name)[None])
        assert float(row["score"]) == pytest.approx(scores.item(), rel=1e-5)
        assert float(row["p_value"]) == model.calibration.p_values(scores).item()
        assert row["decision"] == ("defective" if scores.item() > threshold else "normal")
        kept = np.load(output_path(save / "maps", name, ".npy"))
        np.testing.assert_allclose(kept, maps[0], rtol=1e-4)
        with Image.open(images / name) as image:
            width, height = image.size
        with Image.open(output_path(save / "maps", name, ".png")) as image:
            levels = np.array(image)
        assert levels.shape == (height, width)
        placed = Placement(RESIZE, CROP).on_image(kept / pixel, width, height)
        expected = np.clip(np.round(placed * 8191.875), 0, 65535)
        assert np.abs(levels - expected).max() <= 1
        left, top, right, bottom = Placement(RESIZE, CROP).box(width, height)
        assert (left, top) == (round(4 * width / 64), round(4 * height / 64))
        assert levels[top:bottom, left:right].min() > 0
        levels[top:bottom, left:right] = 0
        assert not levels.any()
    worst = sorted(rows, key=lambda name: -float(rows[name]["score"]))[:3]
    assert {path for path in files(save) if path.startswith("overlays")} == {
        str(output_path(Path("overlays"), name, ".png")) for name in worst
    }
    assert len([path for path in files(save) if path.startswith("maps")]) == 18
    assert len([path for path in files(save) if path.startswith("originals")]) == 3
    page = (save / "index.html").read_text(encoding="utf-8")
    assert "<b>&" not in page
    assert page.count('"picture":"overlays/') == page.count('"original":"originals/') == 3
    assert not [path for path in files(tmp_path) if "partial" in path]
    assert {path for path in files(save) if "/" not in path} == {
        *(".lock", "scores.csv", "failed.csv", "skipped.csv", "summary.json", "index.html"),
        *("regions.csv", "regions.jsonl"),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def bomb() -> bytes:
    """The header of a BMP of 20000 x 20000 pixels."""
    header = bytearray(54)
    header[:2], header[10], header[14], header[26], header[28] = b"BM", 54, 40, 1, 24
    header[18:22] = header[22:26] = (20000).to_bytes(4, "little")
    return bytes(header)


def test_the_same_name_in_two_folders_and_as_a_file(
    model_file: Path, tmp_path: Path, monkeypatch
) -> None:
    for folder in ("one/images", "two/images"):
        (tmp_path / folder).mkdir(parents=True)
        draw_image(1).save(tmp_path / folder / "x.png")
    inputs = [tmp_path / "one/images", tmp_path / "two/images", tmp_path / "one/images/x.png"]
    assert [image.name for image in find_images(inputs)] == [
        *("images/x.png", "images/x_2.png", "x.png")
    ]
    monkeypatch.chdir(tmp_path / "one/images")
    status = judge(
        *("--model", model_file, "--save_path", tmp_path / "out", "--input"),
        *(".", "../../two/images", "../images/x.png", "--map_size=crop"),
    )
    assert status == 0
    assert {path for path in files(tmp_path / "out") if path.startswith("maps")} == {
        *("maps/images/x.png.png", "maps/images/x_2.png.png", "maps/x.png.png")
    }
    with Image.open(tmp_path / "out/maps/x.png.png") as image:
        assert image.size == (CROP, CROP)


def test_without_a_crop_there_is_no_border(tmp_path: Path) -> None:
    folder = draw_class(tmp_path / "data")
    model = fit(folder, tmp_path / "whole.safetensors", crop=RESIZE)
    status = judge(
        *("--model", model, "--input", folder / "test"),
        *("--save_path", tmp_path / "out", "--false_alarm_rate=0.5", "--figures=none"),
    )
    assert status == 0
    for path in (tmp_path / "out/maps").rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (SIDE, SIDE)
            assert np.asarray(image).min() > 0
    assert not (tmp_path / "out/overlays").exists()


def test_a_model_without_thresholds_gives_scores_alone(tmp_path: Path, capsys) -> None:
    folder = draw_class(tmp_path / "data")
    model = fit(folder, tmp_path / "two.safetensors", n_train=2)
    status = judge(
        *("--model", model, "--input", folder / "test/spot/000.png"),
        *("--save_path", tmp_path / "out", "--maps=none"),
    )
    assert status == 0
    assert "NO DECISIONS" in capsys.readouterr().err
    row = table(tmp_path / "out/scores.csv")[0]
    assert (row["path"], row["p_value"], row["decision"]) == ("000.png", "", "")
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["pixel_threshold"] is None
    assert summary["distance_per_map_level"] > 0
    assert not (tmp_path / "out/maps").exists()


def test_a_rate_finer_than_the_images_promise_is_named(
    model_file: Path, tmp_path: Path, capsys
) -> None:
    draw_image(1).save(tmp_path / "x.png")
    argv = ("--model", model_file, "--input", tmp_path / "x.png", "--save_path", tmp_path / "out")
    assert judge(*argv, "--false_alarm_rate=0.001") == 0
    output = capsys.readouterr()
    assert "20 training images" in output.err
    assert "at a false alarm rate of 0.0476 (0.001 was asked for)" in output.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["false_alarm_rate"] == 1 / 21
    assert summary["requested_false_alarm_rate"] == 0.001
    calibration = load(model_file).calibration
    assert summary["image_threshold"] == calibration.image_threshold(1 / 21)
    assert summary["pixel_threshold"] == calibration.pixel_threshold(0.001)
    page = (tmp_path / "out/index.html").read_text()
    assert "at a false alarm rate of 4.76 %" in page
    assert "0.001" in page
    assert judge(*argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert judge(*argv, "--overwrite", "--figures=none") == 0
    assert "overlays/x.png.png" not in files(tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--model": "none.safetensors"}, "does not exist"),
        ({"--model": "cut.safetensors"}, "damaged"),
        ({"--input": "empty"}, "no image"),
        ({"--input": "nowhere"}, "does not exist"),
        ({"--weights": "nowhere.pth"}, "does not exist"),
        ({"--model": "other.safetensors"}, "was fitted with"),
        ({"--false_alarm_rate": "1"}, "below 1"),
        ({"--save_path": "x.png/out"}, "cannot be written"),
    ],
)
def test_bad_input(changed: dict, words: str, model_file: Path, tmp_path: Path, capsys) -> None:
    draw_image(1).save(tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.safetensors").write_bytes(model_file.read_bytes()[:-5000])
    model = PaDiM(Backbone("resnet18", "random", seed=4), PaDiMConfig("none", None, 3, 64, 56))
    model.fit_crops([torch.randint(256, (3, 3, CROP, CROP), dtype=torch.uint8)], 3)
    model.save(tmp_path / "other.safetensors")
    paths = {"--model": model_file, "--input": "x.png", "--save_path": "out"} | changed
    argv = [
        f"{key}={tmp_path / str(value) if '--f' not in key else value}"
        for key, value in paths.items()
    ]
    try:
        status = judge(*argv)
    except SystemExit as error:
        status = error.code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("!!!")]
    assert (status, len(errors)) == (2, 1)
    assert words in errors[0]
    assert not list((tmp_path / "out").glob("*"))


def test_a_folder_has_one_writer(model_file: Path, tmp_path: Path, capsys) -> None:
    image, save = tmp_path / "one.png", tmp_path / "out"
    draw_image(1).save(image)
    save.mkdir()
    given = ("--model", model_file, "--input", image, "--save_path", save)
    with locked(save):
        status = judge(*given)
        expect_one_line(capsys, status, str(save), f"process {os.getpid()} on", "--save_path")
        assert files(save) == {".lock"}
    assert judge(*given) == 0


@pytest.mark.parametrize(("sent", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_nothing_half_written(
    sent: int, expected: int, model_file: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    draw_image(0).resize((400, 400)).save(images / "0000.png")
    for i in range(1, 1500):
        os.link(images / "0000.png", images / f"{i:04d}.png")
    save = tmp_path / "out"
    process = start(
        *("predict.py", "--model", model_file, "--input", images, "--save_path", save, *QUICK),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(save.glob("maps/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if sent == signal.SIGINT:  # Ctrl-C goes to the workers too
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == expected, err
    assert "Traceback" not in err
    assert "stopped" in err
    assert not (save / "scores.csv").exists()
    assert not [path for path in save.rglob("*") if "partial" in path.name]
    for path in save.glob("maps/*.png"):
        with Image.open(path) as image:
            image.load()


def test_names_that_would_share_a_file_have_one_each(model_file: Path, tmp_path: Path) -> None:
    """On any file system: letters of other case, a folder called as an output, long names."""
    names = ("a.png", "A.PNG", "b.png", "b.png.png/c.png", "x" * 240 + ".png", "X" * 240 + ".png")
    for number, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image(number).save(tmp_path / "in" / name)
    save = tmp_path / "out"
    argv = ("--model", model_file, "--input", tmp_path / "in", "--save_path", save, "--npy")
    assert judge(*argv) == 0
    assert {row["path"] for row in table(save / "scores.csv")} == set(names)
    kinds = (("maps", ".png"), ("maps", ".npy"), ("overlays", ".png"), ("originals", ".jpg"))
    for kind, suffix in kinds:
        found = [path for path in files(save) if path.startswith(kind) and path.endswith(suffix)]
        assert len({path.casefold() for path in found}) == len(found) == len(names)
    page = (save / "index.html").read_text()
    assert page.count('"picture":"overlays/') == len(names)


@pytest.mark.parametrize("harm", ["index.html", "maps", "run"])
def test_what_no_prediction_wrote_is_not_replaced(
    harm: str, model_file: Path, tmp_path: Path, capsys
) -> None:
    save = tmp_path / "out"
    draw_image(1).save(tmp_path / "x.png")
    (save / ("records" if harm == "run" else "maps")).mkdir(parents=True)
    (save / "index.html").write_text("mine")
    if harm == "run":
        (save / ".lock").touch()
    argv = ("--model", model_file, "--input", tmp_path / "x.png", "--save_path", save)
    status = judge(*argv, "--overwrite")
    expect_one_line(capsys, status, str(save), "no prediction of this program wrote")
    assert (save / "index.html").read_text() == "mine"


def test_regions_are_listed_and_drawn(model_file: Path, tmp_path: Path) -> None:
    """Against scipy on the written map of the crop; boxes by hand from resize 64 and crop 56."""
    spotted = draw_image(7, (slice(14, 24), slice(12, 24))).resize((3 * SIDE, SIDE))
    for name, image in {"a.png": draw_image(300), "é\nspot.png": spotted}.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / "images" / name)
    given = ("--model", model_file, "--input", tmp_path / "images", "--npy", "--figures=all")
    given = (*given, "--weights=random", "--false_alarm_rate=0.05")
    assert judge(*given, "--save_path", tmp_path / "out") == 0

    pixel = load(model_file).calibration.pixel_threshold(0.05)
    lines = [json.loads(line) for line in (tmp_path / "out/regions.jsonl").read_text().splitlines()]
    scores = table(tmp_path / "out/scores.csv")
    assert [line["path"] for line in lines] == [row["path"] for row in scores]
    rows = table(tmp_path / "out/regions.csv")
    for line, row in zip(lines, scores, strict=True):
        values = np.load(output_path(tmp_path / "out/maps", line["path"], ".npy"))
        labels, count = ndimage.label(values > pixel, structure=np.ones((3, 3)))
        boxes = {
            (
                *(math.floor((4 + x.start) * line["width"] / 64), (4 + y.start) * SIDE // 64),
                *(math.ceil((4 + x.stop) * line["width"] / 64), -(-(4 + y.stop) * SIDE // 64)),
            )
            for y, x in ndimage.find_objects(labels)
        }
        assert {tuple(region["box"]) for region in line["regions"]} == boxes
        areas = np.bincount(labels.ravel())[1:]
        assert sorted(region["area"] for region in line["regions"]) == sorted(areas)
        own = [given for given in rows if given["path"] == line["path"]]
        assert [int(given["region"]) for given in own] == list(range(1, count + 1))
        for given_row, region in zip(own, line["regions"], strict=True):
            names = ("left", "top", "right", "bottom", "peak_x", "peak_y")
            assert [int(given_row[name]) for name in names] == region["box"] + region["position"]
            assert float(given_row["peak"]) == region["peak"]
            assert float(given_row["p_value"]) == region["p_value"] <= 0.0512
        assert (line["decision"], line["score"]) == (row["decision"], float(row["score"]))
    largest = max(int(row["area"]) for row in rows)
    assert judge(*given, "--save_path", tmp_path / "large", f"--min_area={largest}") == 0
    kept = table(tmp_path / "large/regions.csv")
    assert kept == [row | {"region": "1"} for row in rows if int(row["area"]) >= largest]
    assert 0 < len(kept) < len(rows)
    with Image.open(output_path(tmp_path / "out/overlays", lines[1]["path"], ".png")) as picture:
        left, top, right, bottom = lines[1]["regions"][0]["box"]
        for corner in ((left, top), (right - 1, bottom - 1), (left, bottom - 1)):
            assert picture.getpixel(corner) == BOX


def test_a_model_without_calibration_lists_no_regions(tmp_path: Path) -> None:
    folder = draw_class(tmp_path, n_train=2)
    model = fit(folder, tmp_path / "two.safetensors", n_train=2)
    given = ("--model", model, "--input", folder / "test/good", "--save_path", tmp_path / "out")
    assert judge(*given, "--figures=1") == 0
    lines = (tmp_path / "out/regions.jsonl").read_text().splitlines()
    assert [json.loads(line)["regions"] for line in lines] == [None] * 3
    assert json.loads(lines[0])["decision"] is None
    assert table(tmp_path / "out/regions.csv") == []


def test_images_unlike_the_training_images_are_reported(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, change in (("same", lambda x: x), ("light", lambda x: x.point(lambda v: v + 60))):
        (tmp_path / name).mkdir()
        for seed in range(500, 512):
            change(draw_image(seed)).save(tmp_path / name / f"{seed}.png")
        given = ("--model", model_file, "--input", tmp_path / name, "--false_alarm_rate=0.1")
        assert judge(*given, "--save_path", tmp_path / "out" / name, "--figures=none") == 0
        ranks = [
            round(21 * float(row["p_value"]))  # of 20 training images
            for row in table(tmp_path / "out" / name / "scores.csv")
        ]
        k, n = sum(rank <= 2 for rank in ranks), len(ranks)
        upper = sum(2 < rank <= 11 for rank in ranks)
        tails = (
            stats.betabinom(n, 2, 19).pmf(range(k, n + 1)).sum(),
            stats.betabinom(n - k, 9, 10).pmf(range(upper, n - k + 1)).sum(),
        )
        summary = json.loads((tmp_path / "out" / name / "summary.json").read_text())
        assert summary["drift_p_value"] == pytest.approx(min(1, 2 * min(tails)))
        said = "are flagged where 10 % were promised; if most of them are normal"
        is_said = name == "light"
        assert (said in capsys.readouterr().out) == is_said
        page = (tmp_path / "out" / name / "index.html").read_text(encoding="utf-8")
        assert (said in page) == is_said
