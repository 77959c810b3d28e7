"""Bad input to the scripts: one clear line, exit status 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from helpers import draw_class, draw_image, expect_one_line, result, rows, run
from PIL import Image
from torchvision import models

from padim.backbones import Backbone
from padim.config import PaDiMConfig
from utils.experiment.run_name import run_name


def test_no_such_folder(tmp_path: Path, capsys) -> None:
    status = run(tmp_path / "nowhere", tmp_path / "out")
    expect_one_line(capsys, status, str(tmp_path / "nowhere"), "does not exist")


def test_a_folder_in_another_layout(tmp_path: Path, capsys) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    status = run(tmp_path / "data", tmp_path / "out")
    expect_one_line(capsys, status, "MVTec AD layout", "found images/")


def test_an_unknown_class(data_root: Path, tmp_path: Path, capsys) -> None:
    status = run(data_root, tmp_path / "out", "--classes", "tyles")
    expect_one_line(capsys, status, "unknown class tyles", "are: tiles")


@pytest.mark.parametrize("n_train", [0, 1])
def test_too_few_training_images(tmp_path: Path, capsys, n_train: int) -> None:
    draw_class(tmp_path / "data", n_train=n_train)
    status = run(tmp_path / "data", tmp_path / "out")
    expect_one_line(capsys, status, f"{n_train} training image", "at least 2")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_image_is_named_and_finished_classes_are_kept(
    tmp_path: Path, capsys, workers: str
) -> None:
    root, save = tmp_path / "data", tmp_path / "out"
    draw_class(root, "a_whole")
    path = draw_class(root, "b_cut") / "test/spot/001.png"
    path.write_bytes(path.read_bytes()[:900])
    status = run(root, save, "--num_workers", workers)
    expect_one_line(capsys, status, str(path), "cannot be read")
    assert list(rows(save)) == ["a_whole"]
    assert (result(save) / "index.html").exists()
    assert not list(result(save).rglob("*partial*"))
    assert not list(result(save).rglob("*b_cut*"))

    draw_image(201, (slice(14, 24), slice(16, 28))).save(path)
    before = (result(save) / "records/a_whole.json").stat().st_mtime_ns
    assert run(root, save) == 0
    assert list(rows(save)) == ["a_whole", "b_cut", "all"]
    assert (result(save) / "records/a_whole.json").stat().st_mtime_ns == before


def test_a_mask_is_missing_or_of_another_size(data_root: Path, tmp_path: Path, capsys) -> None:
    mask = data_root / "tiles/ground_truth/spot/001_mask.png"
    Image.new("L", (20, 48)).save(mask)
    expect_one_line(capsys, run(data_root, tmp_path / "out"), str(mask), "20x48", "48x48")
    mask.unlink()
    expect_one_line(capsys, run(data_root, tmp_path / "out"), str(mask), "no mask for")


def test_without_masks_there_are_image_level_numbers(data_root: Path, tmp_path: Path) -> None:
    shutil.rmtree(data_root / "tiles/ground_truth")
    assert run(data_root, tmp_path / "out") == 0
    row = rows(tmp_path / "out")["tiles"]
    assert 0 <= float(row["image_auroc"]) <= 1
    assert row["pixel_auroc"] == row["pixel_ap"] == row["pixel_f1"] == row["pro"] == ""
    content = json.loads((result(tmp_path / "out") / "results.json").read_text())
    assert "no ground truth masks" in content["notes"]["tiles"][0]
    assert content["thresholds"]["tiles"]["name"] == "1 % of normal pixels"


@pytest.mark.parametrize("missing", ["good", "spot"])
def test_only_good_or_only_defective_test_images(
    data_root: Path, tmp_path: Path, missing: str
) -> None:
    shutil.rmtree(data_root / "tiles/test" / missing)
    assert run(data_root, tmp_path / "out") == 0
    row = rows(tmp_path / "out")["tiles"]
    assert row["image_auroc"] == row["image_ap"] == row["image_f1"] == ""
    # Only defective images still have good pixels, so pixel numbers exist.
    assert (row["pixel_auroc"] == "") == (missing == "spot")
    folder = result(tmp_path / "out")
    for path in (*folder.glob("**/*.csv"), *folder.glob("**/*.json"), *folder.glob("*.html")):
        assert not re.search(r"\bnan\b", path.read_text(), re.IGNORECASE), path
    assert len(list((folder / "figures/tiles").iterdir())) == 3


def test_weights_of_another_network_or_no_weights(data_root: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.pth"
    torch.save({"layer1.0.conv1.weight": torch.zeros(3)}, other)
    status = run(data_root, tmp_path / "out", weights=str(other))
    expect_one_line(capsys, status, str(other), "not those of ResNet-18")
    other.write_text("no weights")
    status = run(data_root, tmp_path / "out", weights=str(other))
    expect_one_line(capsys, status, str(other), "cannot be loaded")
    status = run(data_root, tmp_path / "out", weights=str(tmp_path / "none.pth"))
    expect_one_line(capsys, status, "none.pth", "does not exist")
    status = run(data_root, tmp_path / "out", weights=str(tmp_path))
    expect_one_line(capsys, status, "is not a file")
    state = models.resnet18(weights=None).state_dict()
    state["layer1.0.conv1.weight"][0, 0] = torch.nan
    torch.save(state, other)
    status = run(data_root, tmp_path / "out", weights=str(other))
    expect_one_line(capsys, status, "layer1.0.conv1.weight is not dense, real and finite")
    torch.save(state | {"fc.bias": torch.zeros(1000).to_sparse()}, other)
    status = run(data_root, tmp_path / "out", weights=str(other))
    expect_one_line(capsys, status, "fc.bias is not dense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(other))
    status = run(data_root, tmp_path / "out", weights=str(other))
    expect_one_line(capsys, status, "cannot be loaded")


def test_more_channels_than_there_are(data_root: Path, tmp_path: Path, capsys) -> None:
    status = run(data_root, tmp_path / "out", "--embedding_dim", "449")
    expect_one_line(capsys, status, "--embedding_dim 449", "expected 1 to 448")


def test_an_unknown_layer(data_root: Path, tmp_path: Path, capsys) -> None:
    status = run(data_root, tmp_path / "out", "--layers", "layer7")
    expect_one_line(capsys, status, "no layer layer7", "layer1 to layer4")


def test_a_save_path_that_cannot_be_written(data_root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    expect_one_line(
        capsys, run(data_root, tmp_path / "file"), str(tmp_path / "file"), "--save_path"
    )
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        expect_one_line(capsys, run(data_root, tmp_path / "locked"), "locked", "--save_path")


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has a CUDA device 7")
def test_a_device_that_is_not_there(data_root: Path, tmp_path: Path, capsys) -> None:
    status = run(data_root, tmp_path / "out", "--device", "cuda:7")
    expect_one_line(capsys, status, "--device cuda:7", "CUDA device")


def test_trained_weights_that_cannot_be_had(
    data_root: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_, **__) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    status = run(data_root, tmp_path / "out", weights="imagenet")
    expect_one_line(capsys, status, "no network", "resnet18-f37072fd.pth", "--weights: the")
    assert not list((tmp_path / "out").iterdir())


def test_results_of_other_settings_are_not_mixed(data_root: Path, tmp_path: Path, capsys) -> None:
    save = tmp_path / "out"
    assert run(data_root, save) == 0
    expect_one_line(capsys, run(data_root, save, "--sigma=2"), "sigma 4.0 then, 2.0 now")
    draw_class(data_root, "more")
    status = run(data_root, save, "--sigma=2", "--overwrite", "--classes=more")
    expect_one_line(capsys, status, "class tiles", "sigma 4.0 then, 2.0 now")
    shutil.rmtree(data_root / "more")
    assert run(data_root, save, "--sigma=2", "--overwrite") == 0
    content = json.loads((result(save) / "results.json").read_text())
    assert content["settings"]["sigma"] == 2
    draw_image(77).save(data_root / "tiles/train/good/000.png")
    status = run(data_root, save, "--sigma=2")
    expect_one_line(capsys, status, "class tiles", "image files have changed", "--overwrite")


def test_another_data_set_does_not_get_into_the_same_tables(
    data_root: Path, tmp_path: Path, capsys
) -> None:
    assert run(data_root, tmp_path / "out") == 0
    draw_class(tmp_path / "other", "bricks")
    status = run(tmp_path / "other", tmp_path / "out")
    expect_one_line(capsys, status, "class tiles", "not in this data set", "--save_path")
    moved = data_root.rename(tmp_path / "moved")
    assert run(moved, tmp_path / "out") == 0


def test_the_name_of_a_run_is_the_published_one() -> None:
    def name(backbone: str, layers: list[str] | None = None, **options) -> str:
        return run_name(Backbone(backbone, "random", layers), PaDiMConfig(**options))

    assert name("resnet18") == "resnet18_rd100"
    assert name("resnet18", reduction="none") == "resnet18_all_channels"
    assert name("resnet18", ["layer1"], reduction="none") == "resnet18_layer1"
    assert name("resnet18", reduction="pca", embedding_dim=200) == "resnet18_pca200"
    assert name("efficientnet_b5", reduction="none") == "efficientnet_b5"
    assert name("efficientnet_b5", reduction="semi_orthogonal") == "efficientnet_b5_so100"
