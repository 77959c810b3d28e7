"""The files that the evaluation server of MVTec AD 2 takes, as its own checker wants them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from helpers import draw_image, expect_one_line, random_backbone, save_image
from PIL import Image

from padim.calibration import is_above
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from utils.cli.main import predict
from utils.prediction.overlay import Placement

SIDE = 64
WIDTH, HEIGHT = 90, 70  # of the private images
FOLDERS = ("anomaly_images", "anomaly_images_thresholded")


def fit(path: Path, n_train: int) -> PaDiM:
    config = PaDiMConfig(embedding_dim=12, seed=3, resize=SIDE, crop=SIDE)
    model = PaDiM(random_backbone(), config)
    images = [np.array(draw_image(seed)) for seed in range(n_train)]
    crops = torch.stack([Preprocessing(SIDE, SIDE).crop_of(image) for image in images])
    model.fit_crops([crops], len(crops))
    model.save(path)
    return model


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "data/can"
    for split, light in (("test_private", "regular"), ("test_private_mixed", "mixed")):
        (folder / split).mkdir(parents=True)
        for i in range(2):
            spot = (slice(10, 20), slice(12, 26)) if i else None
            image = draw_image(40 + i, spot).resize((WIDTH, HEIGHT))
            image.save(folder / split / f"{i:03d}_{light}.png")
    return folder


def judge(model: Path, save: Path, *inputs: Path, options: tuple[str, ...] = ()) -> int:
    given = ["--model", model, "--save_path", save, "--input", *inputs, "--num_workers=0"]
    return predict([*map(str, given), "--figures=none", "--maps=mvtec_ad2", *options])


def written(folder: Path, kind: str) -> list[str]:
    return sorted(
        path.relative_to(folder / kind).as_posix()
        for path in (folder / kind).rglob("*")
        if path.is_file()
    )


def test_the_files_of_the_server(private: Path, tmp_path: Path) -> None:
    model = fit(tmp_path / "can.safetensors", 20)
    splits = [private / "test_private", private / "test_private_mixed"]
    save = tmp_path / "judged"
    assert judge(tmp_path / "can.safetensors", save, *splits) == 0
    names = [
        *(f"can/test_private/{i:03d}_regular" for i in range(2)),
        *(f"can/test_private_mixed/{i:03d}_mixed" for i in range(2)),
    ]
    assert written(save, FOLDERS[0]) == [f"{name}.tiff" for name in names]
    assert written(save, FOLDERS[1]) == [f"{name}.png" for name in names]
    assert not (save / "maps").exists()
    assert model.calibration is not None
    threshold = model.calibration.pixel_threshold(0.01)
    for name in names:
        values = tifffile.imread(save / FOLDERS[0] / f"{name}.tiff")
        flagged = np.asarray(Image.open(save / FOLDERS[1] / f"{name}.png"))
        assert (values.shape, values.dtype) == ((HEIGHT, WIDTH), np.float16)
        assert (flagged.shape, flagged.dtype) == ((HEIGHT, WIDTH), np.uint8)
        crop = Preprocessing(SIDE, SIDE).image(private.parent / f"{name}.png")
        units = model(crop[None])[0][0].numpy() / threshold
        whole = Placement(SIDE, SIDE).on_image(units, WIDTH, HEIGHT)
        np.testing.assert_allclose(values, whole, rtol=2e-3)
        differs = flagged != np.where(is_above(whole, 1), 255, 0)
        assert set(np.unique(flagged)) <= {0, 255} and not differs[abs(whole - 1) > 1e-3].any()
    assert any(np.asarray(Image.open(p)).any() for p in (save / FOLDERS[1]).rglob("*.png"))


def test_a_second_prediction_replaces_them(private: Path, tmp_path: Path, capsys) -> None:
    fit(tmp_path / "can.safetensors", 6)
    given = tmp_path / "can.safetensors", tmp_path / "judged"
    assert judge(*given, private / "test_private") == 0
    expect_one_line(capsys, judge(*given, private / "test_private"), "holds results already")
    assert judge(*given, private / "test_private_mixed", options=("--overwrite",)) == 0
    assert len(written(tmp_path / "judged", FOLDERS[0])) == 2
    assert all("mixed" in name for name in written(tmp_path / "judged", FOLDERS[0]))


def test_without_a_threshold_there_is_nothing_to_cut_at(private: Path, tmp_path: Path) -> None:
    fit(tmp_path / "can.safetensors", 2)
    save = tmp_path / "judged"
    assert judge(tmp_path / "can.safetensors", save, private / "test_private") == 0
    assert len(written(save, FOLDERS[0])) == 2
    assert not (save / FOLDERS[1]).exists()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["data/can"], "test_private_mixed of MVTec AD 2; .*train"),
        (["data/can/test_private", "copy/can/test_private"], "would both be can/test_private/000"),
        (["x.png"], "is in neither"),
    ],
)
def test_other_images_are_refused_before_any_is_judged(
    inputs: list[str], words: str, private: Path, tmp_path: Path, capsys
) -> None:
    save_image(tmp_path / "data/can/train/good/000.png", 1)
    save_image(tmp_path / "copy/can/test_private/000_regular.png", 1)
    save_image(tmp_path / "x.png", 1)
    fit(tmp_path / "can.safetensors", 6)
    given = [tmp_path / name for name in inputs]
    status = judge(tmp_path / "can.safetensors", tmp_path / "judged", *given)
    error = capsys.readouterr().err
    assert status == 2 and len(error.splitlines()) == 1
    assert re.search(words, error)
    assert not list((tmp_path / "judged").rglob("*.tiff"))


def test_images_are_named_as_they_are_given(private: Path, tmp_path: Path, monkeypatch) -> None:
    """Through a link, from inside the folder, and from beside it."""
    fit(tmp_path / "can.safetensors", 6)
    (tmp_path / "store").mkdir()
    (private / "test_private/000_regular.png").rename(tmp_path / "store/blob.png")
    (private / "test_private/000_regular.png").symlink_to(tmp_path / "store/blob.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/can").symlink_to(private)
    monkeypatch.chdir(private / "test_private")
    for index, given in enumerate(
        (".", "../test_private", str(tmp_path / "links/can/test_private"))
    ):
        save = tmp_path / f"judged{index}"
        assert judge(tmp_path / "can.safetensors", save, Path(given)) == 0
        names = [f"can/test_private/{i:03d}_regular.tiff" for i in range(2)]
        assert written(save, FOLDERS[0]) == names


def test_a_map_of_the_crop_is_not_for_the_server(private: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        judge(tmp_path / "x", tmp_path / "out", private, options=("--map_size=crop",))
    assert ended.value.code == 2
    assert "leave --map_size out" in capsys.readouterr().err


def test_results_beside_the_private_images_are_not_judged(private: Path, tmp_path: Path) -> None:
    """The folder of a prediction may be given again as input by mistake: its files are skipped."""
    fit(tmp_path / "can.safetensors", 6)
    save = private / "test_private/judged"
    assert judge(tmp_path / "can.safetensors", save, private / "test_private") == 0
    assert judge(tmp_path / "can.safetensors", tmp_path / "again", private / "test_private") == 0
    assert len(written(tmp_path / "again", FOLDERS[0])) == 2
