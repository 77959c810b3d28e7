"""The tables of the paper: what is run, what it gives, and what the tables say of it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LONG, draw_class, expect_one_line

from datasets.layouts import mvtec
from datasets.layouts.mvtec import OBJECTS, TEXTURES, read_class
from datasets.masks import read_mask
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from utils.cli import main as cli
from utils.evaluation.regions import measure_pixels
from utils.experiment.engine import Engine
from utils.experiment.outputs import Task
from utils.experiment.record_store import RecordStore, read_record
from utils.report import published
from utils.report.text import DASH
from utils.reproduction import plan
from utils.reproduction.numbers import SCENES, numbers_of
from utils.reproduction.report import Facts, write_report
from utils.reproduction.results import Result

CLASSES = TEXTURES + OBJECTS


def reproduce(root: Path | None, save: Path, *argv: object) -> int:
    data = [] if root is None else ["--data_path", root]
    options = [*data, "--save_path", save, "--num_workers=0", "--draws=2", *argv]
    if "--weights" not in argv:
        options.append("--weights=random")
    return cli.reproduce([str(option) for option in options])


def ablations(root: Path, save: Path, *argv: object) -> int:
    return reproduce(
        root, save, "--backbones", "resnet18", "--tables", "layers", "reduction", *argv
    )


def rows(save: Path, table: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """By configuration, class and metric."""
    with (save / "tables.csv").open(newline="") as file:
        return {
            (row["configuration"], row["class"], row["metric"]): row
            for row in csv.DictReader(file)
            if row["table"] == table
        }


def untimed(save: Path) -> tuple[list[str], list[str]]:
    """Both tables without the seconds, which are another time's."""
    lines = (save / "tables.csv").read_text().splitlines()
    sections = (save / "tables.md").read_text().split("### ")
    return (
        [line for line in lines if "seconds_per_image" not in line],
        [section for section in sections if not section.startswith("Seconds")],
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("data")
    draw_class(root, "bottle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mvtec.COUNTS, "bottle", (6, 6))  # it passes for MVTec AD's own
        yield root


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ablations of one class."""
    save = tmp_path_factory.mktemp("done")
    assert ablations(root, save) == 0
    return save


def alone(root: Path, save: Path, *argv: str) -> dict[str, float]:
    """What a script gives in a run of its own."""
    options = [f"--data_path={root}", f"--save_path={save}", "--weights=random"]
    options += ["--num_workers=0", "--figures=none", *argv]
    assert cli.main("resnet18", options) == 0
    (folder,) = (path.parent for path in save.glob("*/results.csv"))
    with (folder / "results.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    return {name: float(row[name]) for name in ("image_auroc", "pixel_auroc", "pro")}


@pytest.mark.parametrize(
    ("job", "argv"),
    [
        ("resnet18_rd100_seed1", ["--seed=1"]),
        ("resnet18_pca200", ["--reduction=pca", "--embedding_dim=200"]),
        ("resnet18_all_channels", ["--reduction=none"]),
        ("resnet18_layers", ["--layers=layer1", "--reduction=none"]),
    ],
)
def test_a_shared_pass_gives_what_the_script_gives(
    job: str, argv: list[str], root: Path, done: Path, tmp_path: Path
) -> None:
    record = json.loads((done / f"records/mvtec/bottle/{job}.json").read_text())
    expected = alone(root, tmp_path / "out", *argv)
    for metric, value in expected.items():
        assert record["numbers"][0][metric] == pytest.approx(value, abs=1e-6)


def test_maps_of_single_layers_are_added(root: Path, done: Path) -> None:
    item, how = read_class(root, "bottle"), Preprocessing()
    train, test = (
        torch.stack([how.image(sample.path) for sample in split])
        for split in (item.train, item.test)
    )
    added = 0
    for layer in ("layer1", "layer2", "layer3"):
        model = PaDiM(Backbone("resnet18", "random", [layer]), PaDiMConfig("none"))
        added = added + model.fit_crops([train], len(train))(test)[0]
    masks = torch.zeros(len(test), 224, 224, dtype=torch.bool)
    for index, sample in enumerate(item.test):
        if sample.mask is not None:
            masks[index] = how.crop_of_mask(read_mask(sample.mask))
    measured = measure_pixels(added, masks, ~masks.flatten(1).any(1))
    found = rows(done, "layers")
    for metric, value in (("pixel_auroc", measured.ranking.auroc), ("pro", measured.pro)):
        ours = float(found["resnet18_sum_of_layers", "bottle", metric]["value"])
        assert ours == pytest.approx(value, abs=1e-5)


def test_untrained_weights_are_never_compared(done: Path) -> None:
    text = (done / "tables.md").read_text()
    assert "UNTRAINED" in text
    assert "the paper, mean" not in text
    assert all(row["published"] == "" for row in rows(done, "layers").values())


def test_draws_are_averaged(done: Path) -> None:
    records = [
        json.loads((done / f"records/mvtec/bottle/resnet18_rd100_seed{seed}.json").read_text())
        for seed in (0, 1)
    ]
    values = [record["numbers"][0]["pro"] for record in records]
    row = rows(done, "reduction")["resnet18_rd100", "bottle", "pro"]
    assert float(row["value"]) == pytest.approx(np.mean(values), rel=1e-12)
    expected = np.std(values, ddof=1) / 2**0.5
    assert float(row["standard_error"]) == pytest.approx(expected, rel=1e-9)
    assert row["draws"] == row["draws_wanted"] == "2"


class Killed(BaseException):
    """As sudden as the process's end."""


@pytest.mark.parametrize("n_jobs", [1, pytest.param(0, marks=LONG), pytest.param(4, marks=LONG)])
def test_stopped_anywhere_it_goes_on_and_comes_to_the_same(
    n_jobs: int, root: Path, done: Path, tmp_path: Path, monkeypatch
) -> None:
    save, jobs, limit = tmp_path / "out", [], n_jobs
    run_task = Engine.run_task

    def recorded(engine: Engine, task: Task, *others: object) -> object:
        if len(jobs) == limit:
            raise Killed
        jobs.append(task.job.name)
        return run_task(engine, task, *others)

    monkeypatch.setattr(Engine, "run_task", recorded)
    with pytest.raises(Killed):
        ablations(root, save)
    finished, limit = list(jobs), 1000
    assert ablations(root, save) == 0
    assert len(jobs) == len(set(jobs)) and jobs[:n_jobs] == finished
    assert untimed(save) == untimed(done)
    jobs.clear()
    assert ablations(root, save) == 0
    assert jobs == []


def test_a_record_cut_short_is_done_again(root: Path, done: Path, tmp_path: Path) -> None:
    save = tmp_path / "out"
    shutil.copytree(done, save)
    path = save / "records/mvtec/bottle/resnet18_pca100.json"
    path.write_bytes(path.read_bytes()[:40])
    assert ablations(root, save) == 0
    assert untimed(save) == untimed(done)


def test_records_of_other_images_or_weights_are_refused(root: Path, tmp_path: Path, capsys) -> None:
    save = tmp_path / "out"
    options = ("--backbones", "resnet18", "--tables", "localization")
    assert reproduce(root, save, *options) == 0
    capsys.readouterr()
    path = save / "records/mvtec/bottle/resnet18_rd100_seed0.json"
    record = read_record(save / "records", "mvtec/bottle/resnet18_rd100_seed0")
    assert record is not None
    settings = {**record.settings, "weights_checksum": "another"}
    for key, value, words in (
        ("settings", settings, "weights_checksum another then"),
        ("data_digest", "another", "image files have changed: digest another then"),
    ):
        changed = replace(record, **{key: value})
        store = RecordStore(save / "records", changed.settings, "job", "")
        store.finish(changed.name, changed.data_digest, changed.content)
        status = reproduce(root, save, *options)
        expect_one_line(capsys, status, str(path), words, "--save_path")


def test_shanghaitech_streams_one_model(stc_root: Path, tmp_path: Path) -> None:
    save = tmp_path / "out"
    options = ("--backbones", "resnet18", "--tables", "stc", "--stc_path", stc_root)
    assert reproduce(None, save, *options) == 0
    found = rows(save, "stc")
    assert 0.5 < float(found["resnet18_rd100", "01", "pixel_auroc"]["value"]) <= 1
    assert found["resnet18_rd100", "all", "pixel_auroc"]["value"] == ""
    assert found["resnet18_rd100", "all", "pixel_auroc"]["classes_run"] == "1"
    grid = 64 * 64  # positions of a 256-pixel image
    expected = 4 * grid * (100 + 7 * 100) / 1e9  # means, and 7 rows each, in float32
    assert float(found["resnet18_rd100", "01", "memory_gb"]["value"]) == pytest.approx(expected)


@LONG
def test_rd_mvtec_runs_every_version(root: Path, tmp_path: Path, monkeypatch) -> None:
    small = plan.RD100  # the table's own network takes too long for a test
    monkeypatch.setattr(plan, "columns", lambda table: (small,))
    save = tmp_path / "out"
    assert reproduce(root, save, "--backbones", "resnet18", "--tables", "rd_mvtec") == 0
    files = sorted(path.parts[-3] for path in save.glob("records/*/bottle/*.json"))
    assert files == [f"rd_mvtec{version}" for version in range(5)]
    values = {
        json.loads(path.read_text())["numbers"][0]["pixel_auroc"]
        for path in save.glob("records/*/bottle/*.json")
    }
    assert len(values) == 5


# Numbers made by hand


def results(
    dataset: str, configuration: str, classes: tuple[str, ...], seed: int = 0
) -> list[Result]:
    return [
        Result(dataset, name, configuration, seed, {"pixel_auroc": 0.9 + 0.001 * i + 0.01 * seed})
        for i, name in enumerate(classes)
    ]


def test_a_mean_is_over_exactly_the_papers_classes() -> None:
    for classes, has_all in ((CLASSES, True), (CLASSES[:-1], False), ((*CLASSES, "mine"), True)):
        found = {
            one.class_name: one
            for one in numbers_of("localization", results("mvtec", "resnet18_rd100", classes), 1)
            if (one.configuration, one.metric) == (plan.RD100, "pixel_auroc")
        }
        assert found["textures"].value == pytest.approx(0.902)
        assert (found["all"].value is not None) == has_all
        assert found["all"].n_classes == min(len(classes), 15)
    assert found["all"].value == pytest.approx(0.907)
    assert found["all"].published["paper"]["all"].value == 0.967
    assert found["mine"].value == pytest.approx(0.915)


def test_errors_are_over_draws_of_the_mean_over_classes() -> None:
    name = "resnet18_rd100"
    drawn = results("mvtec", name, CLASSES) + results("mvtec", name, CLASSES, seed=1)
    found = {
        one.class_name: one
        for one in numbers_of("reduction", drawn, 3)
        if (one.configuration, one.metric) == (plan.RD100, "pixel_auroc")
    }
    assert found["all"].value == pytest.approx(0.912)
    assert found["all"].error == pytest.approx(0.005)
    assert (found["all"].n_values, found["all"].n_wanted) == (2, 3)


def test_scenes_without_test_videos_are_not_waited_for(tmp_path: Path) -> None:
    done = results("shanghaitech", "resnet18_rd100", SCENES)
    write_report(tmp_path, done, Facts(plan.TABLES, "python reproduce.py", 10, [], {}))
    row = rows(tmp_path, "stc")["resnet18_rd100", "all", "pixel_auroc"]
    assert float(row["value"]) == pytest.approx(0.9055)
    assert float(row["difference"]) == pytest.approx(0.9055 - 0.912)
    text = (tmp_path / "tables.md").read_text()
    assert "| the paper, mean of 12 scenes | 0.912 (-0.006) |" in text or "(-0.007)" in text


def test_what_was_not_run_is_empty(tmp_path: Path) -> None:
    write_report(tmp_path, [], Facts(plan.TABLES, "python reproduce.py", 10, [], {}))
    text = (tmp_path / "tables.md").read_text()
    assert text.count("**Not run.**") == len(plan.TABLES)
    for table in plan.TABLES:
        for row in rows(tmp_path, table).values():
            assert row["value"] == row["difference"] == ""
            assert row["classes_run"] == "0"
    assert not (tmp_path / "layers.png").exists()
    # Recalled numbers are marked, also where there is nothing to set beside them.
    assert "0.957 ?" in text


def test_every_published_number_has_a_place(tmp_path: Path) -> None:
    write_report(tmp_path, [], Facts(plan.TABLES, "python reproduce.py", 10, [], {}))
    with published.FILE.open(newline="") as file:
        papers = [row for row in csv.DictReader(file) if row["system"] == "paper"]
    with (tmp_path / "tables.csv").open(newline="") as file:
        shown = {
            (row["configuration"], row["system"], float(row["published"]))
            for row in csv.DictReader(file)
            if row["published"]
        }
    missing = {
        (row["table"], row["backbone"], row["metric"], row["value"])
        for row in papers
        if (row["backbone"], "paper", float(row["value"])) not in shown
    }
    assert missing == {("cost", "wide_resnet50_2_rd550", "memory_gb", "5.2")}  # ShanghaiTech's


def test_the_plan_is_the_papers() -> None:
    jobs = plan.jobs(("layers", "reduction"), plan.BACKBONES, 10)[plan.MVTEC]
    names = [one.name for job in jobs for one in job.configurations]
    assert len(names) == 27
    assert names.count("resnet18_rd200") == names.count("resnet18_rd100") == 10
    every = plan.jobs(plan.TABLES, plan.BACKBONES, 10)
    assert len(every) == 1 + 5 + 1
    assert len({job.name for job in every[plan.MVTEC]}) == len(every[plan.MVTEC])
    assert not plan.jobs(("detection",), ("resnet18",), 10)


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tables", "layer"], "did you mean layers?"),
        (["--tables", "stc"], "needs --stc_path"),
        (["--backbones", "vgg"], "'vgg' is unknown"),
        (["--draws", "0"], "out of range"),
        (["--weights", "vgg=x.pth"], "--weights vgg=x.pth"),
        (["--weights", "resnet18="], "--weights resnet18"),
        (["--weights", "imagenet", "random"], "--weights imagenet"),
    ],
)
def test_bad_options(options: list[str], words: str, root: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        reproduce(root, tmp_path / "out", *options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_data_folder_is_missed(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        reproduce(None, tmp_path / "out")
    assert ended.value.code == 2
    assert "--data_path is missing" in capsys.readouterr().err


def test_missing_weights_are_found_before_anything_is_run(
    root: Path, tmp_path: Path, capsys
) -> None:
    file = f"resnet18={tmp_path / 'no.pth'}"
    status = reproduce(root, tmp_path / "out", "--backbones", "resnet18", "--weights", file)
    expect_one_line(capsys, status, "no.pth", "does not exist", "out of --backbones")
    assert not list((tmp_path / "out").iterdir())


def test_bad_data(root: Path, tmp_path: Path, capsys) -> None:
    status = ablations(tmp_path / "nowhere", tmp_path / "out")
    expect_one_line(capsys, status, "nowhere", "does not exist")
    status = ablations(root, tmp_path / "out", "--classes", "cup")
    expect_one_line(capsys, status, "unknown class cup")
    status = reproduce(root, tmp_path / "out", "--tables", "stc", "--stc_path", root)
    expect_one_line(capsys, status, "layout of ShanghaiTech Campus")


@pytest.mark.skipif(
    not (os.environ.get("MVTEC_PATH") and os.environ.get("RESNET18_WEIGHTS")),
    reason="MVTEC_PATH or RESNET18_WEIGHTS is not set: no real images or trained weights",
)
@LONG
def test_bottle_is_set_beside_the_paper(tmp_path: Path) -> None:
    weights = f"resnet18={os.environ['RESNET18_WEIGHTS']}"
    status = reproduce(
        Path(os.environ["MVTEC_PATH"]),
        tmp_path,
        *("--backbones", "resnet18", "--weights", weights, "--classes", "bottle"),
        *("--tables", "layers"),
    )
    assert status == 0
    layers = rows(tmp_path, "layers")
    names = ("resnet18_layer3", "resnet18_sum_of_layers")
    worst, best = (float(layers[name, "bottle", "pro"]["value"]) for name in names)
    assert worst < 0.92 < best
    assert f"| mean of 15 classes | {DASH} (1 run)" in (tmp_path / "tables.md").read_text()
