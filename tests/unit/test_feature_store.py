"""Several models from one pass over the images give what runs of their own give."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import draw_class, expect_one_line, random_backbone, run

from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from utils.experiment import feature_store
from utils.experiment.feature_store import FeatureStore
from utils.system.lock import locked

NAME = "resnet18_rd12"


def numbers(folder: Path) -> list[dict[str, str]]:
    """results.csv without the seconds."""
    with (folder / "results.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


@pytest.mark.parametrize("limit", [2**40, 0])
def test_feature_maps_come_back_as_they_went_in(limit: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(feature_store, "MEMORY_BYTES", limit)  # 0: all of them go to a file
    draw = torch.Generator().manual_seed(0)
    batches = [
        [
            torch.randn(size, 3, 8, 8, generator=draw),
            torch.randn(size, 5, 4, 4, generator=draw).to(memory_format=torch.channels_last),
        ]
        for size in (4, 4, 1)
    ]
    store = FeatureStore(batches, 9, tmp_path)
    assert list(tmp_path.iterdir()) == []  # the file has no name
    for indices in ([0, 1], [1], [0, 1]):
        for kept, given in zip(store.of(indices), batches, strict=True):
            assert all(tap.equal(given[index]) for tap, index in zip(kept, indices, strict=True))


def test_seeds_share_a_pass_and_equal_runs_of_their_own(data_root: Path, tmp_path: Path) -> None:
    draw_class(data_root, "wood", n_train=14)  # more than channels: the dense form
    save = tmp_path / "seeds"
    assert run(data_root, save, "--seeds", "4", "0", "2") == 0
    rows = {}
    for seed in (4, 0, 2):
        alone = tmp_path / f"alone{seed}"
        assert run(data_root, alone, f"--seed={seed}") == 0
        rows[seed] = numbers(alone / f"{NAME}_untrained")
        folder = save / f"{NAME}_untrained_seed{seed}"
        assert numbers(folder) == rows[seed]
        for scores in ("tiles", "wood"):
            name = f"scores/{scores}.csv"
            assert (folder / name).read_text() == (alone / f"{NAME}_untrained" / name).read_text()
        model = PaDiM.load(folder / "models/wood.safetensors", random_backbone())
        assert model.config.seed == seed
        assert (folder / "index.html").is_file()
    assert rows[0] != rows[4]

    with (save / f"{NAME}_untrained_seeds_4_0_2/results.csv").open(newline="") as file:
        summary = list(csv.DictReader(file))
    assert [row["class"] for row in summary] == [row["class"] for row in rows[0]]
    for index, row in enumerate(summary):
        for metric in ("image_auroc", "pixel_auroc", "pro"):
            values = [float(rows[seed][index][metric]) for seed in rows]
            assert float(row[metric]) == pytest.approx(np.mean(values), rel=1e-12)
            assert float(row[f"{metric}_sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    text = (save / f"{NAME}_untrained_seeds_4_0_2/results.md").read_text()
    assert "over the seeds 4, 0, 2" in text and "UNTRAINED" in text and "±" in text


def test_only_the_seeds_that_are_missing_are_run(data_root: Path, tmp_path: Path) -> None:
    save = tmp_path / "out"
    assert run(data_root, save, "--seeds", "0", "1") == 0
    records = {seed: save / f"{NAME}_untrained_seed{seed}/records/tiles.json" for seed in (0, 1, 2)}
    before = records[0].stat().st_mtime_ns
    content = json.loads(records[1].read_text())
    records[1].unlink()
    assert run(data_root, save, "--seeds", "0", "1", "2") == 0
    assert records[0].stat().st_mtime_ns == before
    assert json.loads(records[1].read_text())["metrics"] == content["metrics"]
    assert records[2].is_file()


def test_options_of_seeds(data_root: Path, tmp_path: Path, capsys) -> None:
    for options, words in (
        (["--seeds", "1", "1"], "names one twice"),
        (["--seeds", "1", "--seed", "2"], "not allowed with"),
        (["--seeds", "-1"], "out of range"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(data_root, tmp_path / "out", *options)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    status = run(data_root, tmp_path / "out", "--seeds", "0", "1", "--embedding_dim=999")
    expect_one_line(capsys, status, "--embedding_dim 999")
    assert not (tmp_path / "out" / f"{NAME}_untrained_seed0").exists()


def test_feature_maps_of_fewer_layers_are_those_of_a_smaller_backbone() -> None:
    images = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    whole = PaDiM(random_backbone(), PaDiMConfig("none", resize=64, crop=64))
    one = PaDiM(Backbone("resnet18", "random", ["layer2"]), PaDiMConfig("none", resize=64, crop=64))
    assert whole.features(images)[1].equal(one.features(images)[0])


def test_batches_and_workers_change_no_digit(data_root: Path, tmp_path: Path) -> None:
    draw_class(data_root, "wood", n_train=21, n_good=5, n_spots=6)
    found = []
    for batch, workers in ((16, 0), (1, 1), (5, 2)):
        save = tmp_path / f"{batch}"
        assert run(data_root, save, f"--batch_size={batch}", f"--num_workers={workers}") == 0
        folder = save / f"{NAME}_untrained"
        scores = [(folder / f"scores/{name}.csv").read_text() for name in ("tiles", "wood")]
        found.append((numbers(folder), scores))
    assert all(one == found[0] for one in found)


def test_a_folder_has_one_writer(data_root: Path, tmp_path: Path, capsys) -> None:
    save = tmp_path / "out"
    folder = save / f"{NAME}_untrained"
    folder.mkdir(parents=True)
    with locked(folder):
        status = run(data_root, save)
        expect_one_line(capsys, status, str(folder), f"process {os.getpid()} on", "--save_path")
        assert run(data_root, save, "--reduction=semi_orthogonal") == 0  # another folder
    assert run(data_root, save) == 0
