"""Several processes, as torchrun starts them, give what one gives."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LONG, SIDE, draw_class
from PIL import Image
from torch import distributed

from padim import fitting
from padim.errors import ModelError
from padim.fitting import GaussianLearner
from padim.parallel import process_group
from padim.parallel.process_group import ProcessGroup
from padim.storage.model_file import read_model_file
from utils.cli import main as cli
from utils.errors import OptionError
from utils.system.device import choose_device

ROOT = Path(__file__).parents[2]
OPTIONS = ["--weights=random", "--resize=64", "--crop=56", "--num_workers=0"]
KEPT_BYTES = 16 * 4 * 14**2 * 12  # embeddings of 16 images
SEMI_OPTION = "--reduction=semi_orthogonal"
NAME, SEMI = "resnet18_rd12_untrained", "resnet18_so12_untrained"
ALL = "resnet18_all_channels_untrained"


def options(root: Path, save: Path, *argv: str) -> list[str]:
    dim = [] if "--reduction=none" in argv else ["--embedding_dim=12"]
    return [f"--data_path={root}", f"--save_path={save}", *OPTIONS, *dim, *argv]


def command(root: Path, save: Path, *argv: str, script: str = "main_resnet.py") -> list[str]:
    return [str(ROOT / script), *options(root, save, *argv)]


def run_together(
    size: int, root: Path, save: Path, *argv: str, script: str = "main_resnet.py"
) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={size}"]
    done = subprocess.run(
        [sys.executable, *launcher, *command(root, save, *argv, script=script)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("To judge your own images") == 1  # one process speaks


def numbers(folder: Path) -> dict[tuple[str, str], float]:
    """Every metric and every score."""
    found = {}
    with (folder / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("class", "seconds", "image_checksum"):
                    found[row["class"], name] = float(value) if value else None
    for path in folder.glob("scores/*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found[path.stem, row["path"]] = float(row["score"])
                found[path.stem, row["path"] + " p"] = float(row["p_value"] or "nan")
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer images than channels, more, and fewer than processes; one class looks at a part."""
    root = tmp_path_factory.mktemp("data")
    draw_class(root, "few", n_train=7, n_good=4, n_spots=5)
    draw_class(root, "many", n_train=23, n_good=3, n_spots=4)
    draw_class(root, "two", n_train=2, n_good=1, n_spots=1)
    looked_at = Image.new("L", (SIDE, SIDE))
    looked_at.paste(255, (8, 3, 33, 40))
    looked_at.save(root / "many/region.png")
    return root


def alone(root: Path, save: Path, *argv: str) -> None:
    given = options(root, save, *argv)
    assert cli.main("resnet18", given) == 0


@pytest.mark.parametrize(
    ("size", "name", "argv"),
    [
        (3, NAME, ()),
        pytest.param(2, NAME, (), marks=LONG),
        pytest.param(2, f"{SEMI}_seed1", ("--seeds", "3", "1", SEMI_OPTION), marks=LONG),
        pytest.param(3, NAME.replace("rd", "pca"), ("--reduction=pca",), marks=LONG),
        pytest.param(2, NAME.replace("rd", "pca"), ("--reduction=pca",), marks=LONG),
        pytest.param(3, ALL, ("--reduction=none",), marks=LONG),
        pytest.param(5, NAME, (), marks=LONG),
    ],
)
def test_results_do_not_depend_on_how_many(
    size: int, name: str, argv: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    alone(root, tmp_path / "alone", *argv)
    run_together(size, root, tmp_path / "together", *argv)
    check_same(tmp_path / "alone" / name, tmp_path / "together" / name)
    record = json.loads((tmp_path / "together" / name / "records/few.json").read_text())
    assert record["n_train"] == 7


@pytest.mark.parametrize(
    ("size", "name", "argv"),
    [
        (2, NAME, ()),
        pytest.param(3, NAME, (), marks=LONG),
        pytest.param(5, NAME, (), marks=LONG),
        pytest.param(3, f"{SEMI}_seed1", ("--seeds", "3", "1", SEMI_OPTION), marks=LONG),
        pytest.param(2, ALL, ("--reduction=none",), marks=LONG),
    ],
)
def test_nor_on_whether_each_scores_the_positions_it_owns(
    size: int,
    name: str,
    argv: tuple[str, ...],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "KEPT_BYTES", KEPT_BYTES)
    monkeypatch.setenv("KEPT_BYTES", str(KEPT_BYTES))
    alone(root, tmp_path / "alone", *argv)
    run_together(size, root, tmp_path / "together", *argv, script="tests/cli/crowded.py")
    check_same(tmp_path / "alone" / name, tmp_path / "together" / name)
    for file in ("few", "many", "two"):
        found, expected = (
            read_model_file(tmp_path / save / name / f"models/{file}.safetensors")[1]
            for save in ("together", "alone")
        )
        for key in ("mean", "factor"):
            assert torch.allclose(found[key], expected[key], rtol=1e-3, atol=1e-4), key


def check_same(alone: Path, together: Path) -> None:
    """Metrics to 1e-6, scores to what float32 leaves of a difference."""
    expected, found = numbers(alone), numbers(together)
    assert len(expected) > 60
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        ours, theirs = (float("nan") if v is None else v for v in (found[key], value))
        tolerance = {"rel": 1e-4} if key[1].startswith("test/") else {"abs": 1e-6}
        assert ours == pytest.approx(theirs, nan_ok=True, **tolerance), key


def start_together(*commands: list[str]) -> list[subprocess.Popen]:
    """The first processes of two, with options of their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank, argv in enumerate(commands):
        group = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(
            subprocess.Popen(
                [sys.executable, *argv],
                env=os.environ | {name: str(value) for name, value in group.items()},
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def ended_badly(process: subprocess.Popen) -> str:
    """What a process said that has ended with bad input."""
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 2, said
    assert "Traceback" not in said
    return said


def fail_together(*commands: list[str]) -> list[str]:
    """Two processes, both of which end with bad input: what they say."""
    return [ended_badly(process) for process in start_together(*commands)]


@LONG
def test_the_others_are_not_waited_for_when_one_is_gone(root: Path, tmp_path: Path) -> None:
    given = command(root, tmp_path / "out")
    first, second = fail_together(given, [*given, "--classes=unknown"])
    assert "unknown class unknown" in second
    assert "another process of this run ended" in first


@LONG
def test_only_the_first_makes_folders(root: Path, tmp_path: Path) -> None:
    """On a machine of its own the other one has nothing to write to ``save_path``."""
    saves = [tmp_path / "out", tmp_path / "elsewhere"]
    for process in start_together(*(command(root, save, "--classes=two") for save in saves)):
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
    assert (tmp_path / "out" / NAME / "index.html").is_file()
    assert not (tmp_path / "elsewhere").exists()


def test_one_that_is_killed_is_not_waited_for(root: Path, tmp_path: Path) -> None:
    given = command(root, tmp_path / "out")
    first, second = start_together(given, given)
    for _ in range(1200):  # until it has images to decode, two minutes at most
        if (tmp_path / "out" / NAME).is_dir():
            break
        time.sleep(0.1)
    second.kill()
    second.communicate()
    assert "another process of this run ended" in ended_badly(first)


def test_one_that_does_not_come_is_not_waited_for_long(root: Path, tmp_path: Path) -> None:
    (first,) = start_together(command(root, tmp_path / "out", script="tests/cli/impatient.py"))
    said = ended_badly(first)
    assert "other processes of this run cannot be found" in said
    assert "1/2 clients joined" in said
    assert not (tmp_path / "out").exists()


def test_one_that_found_the_others_but_does_not_come_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_group, "START_TIMEOUT", timedelta(seconds=0.6))
    with pytest.raises(ModelError, match="process 0, process 2 of 3 did not start within 0.01 min"):
        process_group._wait_for_all(distributed.HashStore(), 1, 3, "cpu")


def test_an_environment_without_a_rank_is_none_of_torchruns(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command(root, tmp_path / "out")],
        env=os.environ | {"WORLD_SIZE": "4"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "RANK expected" in done.stderr
    assert "unset WORLD_SIZE" in done.stderr


def test_processes_on_other_kinds_of_devices_do_not_go_together() -> None:
    store = distributed.HashStore()
    store.set("process 0", "cuda")
    with pytest.raises(ModelError, match="process 1 runs on cpu, process 0 on cuda: give all"):
        process_group._wait_for_all(store, 1, 2, "cpu")


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="cuda:0 is one GPU for 2 processes"):
        choose_device("cuda:0")


def test_processes_that_see_other_images_or_options_do_not_go_together(
    root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for name in ("few", "many", "two"):
        shutil.copytree(root / name, other / name)
    first, second = fail_together(
        command(root, tmp_path / "out"), command(other, tmp_path / "out", "--seed=7")
    )
    assert "process 1" in second
    assert "has other weights or options than process 0" in second
    assert "another process of this run ended" in first
    (other / "many/train/good/000.png").unlink()
    _, second = fail_together(command(root, tmp_path / "out"), command(other, tmp_path / "out"))
    assert "finds other images of class many than process 0" in second


def test_the_room_of_a_process_is_half_its_share_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("800000\n")
    monkeypatch.setattr(process_group, "MEMORY_LIMIT", limit)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of 8, on four machines
    assert ProcessGroup(0, 8).memory_share() == 200000
    limit.write_text("max\n")
    assert ProcessGroup(0, 8).memory_share() > 2**20
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert ProcessGroup(0, 8).memory_share() * 4 == pytest.approx(
        process_group._memory() / 4, rel=1e-6
    )


@pytest.mark.parametrize(("total", "size"), [(10, 3), (2, 3), (1, 4), (9, 9), (0, 2)])
def test_shares_are_even_and_whole(total: int, size: int) -> None:
    shares = ProcessGroup(0, size).shards(total)
    assert [i for share in shares for i in range(total)[share]] == list(range(total))
    counts = [share.stop - share.start for share in shares]
    assert max(counts) - min(counts) <= 1
    assert total == 0 or counts[0] > 0


@pytest.mark.parametrize("n_images", [8, 40])
def test_what_was_learned_travels(n_images: int) -> None:
    """A learner fed from others' tensors gives the covariance that NumPy gives."""
    draw = torch.Generator().manual_seed(0)
    rows = 3 + torch.randn(n_images, 4, 12, generator=draw)
    cuts = (0, n_images // 3, n_images // 3, n_images)  # the second one sees nothing
    whole = GaussianLearner(n_images, 0.01)
    for start, end in pairwise(cuts):
        learner = GaussianLearner(n_images, 0.01, shard=slice(start, end))
        if end > start:
            learner.update(rows[start:end])
        whole.merge_state(learner.state())
    gaussian = whole.finish()
    x = rows[0].double().numpy()
    for position in range(4):
        given = rows[:, position].double().numpy()
        covariance = np.cov(given.T) + 0.01 * np.eye(12)
        delta = x[position] - given.mean(axis=0)
        expected = np.sqrt(delta @ np.linalg.solve(covariance, delta))
        assert float(gaussian(rows[:1])[0, position]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_images_left_out_are_those_of_one_process(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where neither they nor the positions divide evenly among the processes."""
    n_images, positions, dim = 23, 7, 4
    monkeypatch.setattr(fitting, "KEPT_BYTES", 9 * positions * dim * 8)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(n_images, positions, dim, generator=draw, dtype=torch.float64)
    one = GaussianLearner(n_images).update(rows)
    one.finish()
    group = ProcessGroup(0, size)
    for block in group.shards(positions):
        owner = GaussianLearner(n_images, positions=positions)
        for share in reversed(group.shards(n_images)):
            learner = GaussianLearner(n_images, shard=share, positions=positions)
            owner.merge_state(learner.update(rows[share, block]).state())
        owner.finish()
        torch.testing.assert_close(owner.leave_one_out, one.leave_one_out[:, block])


def test_more_processes_than_positions_are_refused() -> None:
    with pytest.raises(ModelError, match="3 processes for 2 positions"):
        ProcessGroup(0, 3).learner(6, 2, 0.01, True)


def test_more_images_than_announced_are_refused() -> None:
    learner = GaussianLearner(9, shard=slice(3, 6)).update(torch.zeros(3, 2, 4))
    with pytest.raises(ModelError, match="more images came than the 3"):
        learner.update(torch.zeros(1, 2, 4))
