"""Several processes, as torchrun starts them, give what one gives."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LONG, draw_class

from padim.gaussian import GaussianFit
from padim.team import Team
from utils import cli

ROOT = Path(__file__).parents[1]
OPTIONS = ["--weights=random", "--resize=64", "--crop=56", "--embedding_dim=12", "--num_workers=0"]
SEMI_OPTION = "--reduction=semi_orthogonal"
NAME, SEMI = "resnet18_rd12_untrained", "resnet18_so12_untrained"


def command(root: Path, save: Path, *argv: str, script: str = "main_resnet.py") -> list[str]:
    given = [f"--data_path={root}", f"--save_path={save}", *OPTIONS, *argv]
    return [str(ROOT / script), *given]


def run_together(size: int, root: Path, save: Path, *argv: str, **options: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={size}"]
    done = subprocess.run(
        [sys.executable, *launcher, *command(root, save, *argv, **options)],
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
                if name not in ("class", "seconds"):
                    found[row["class"], name] = float(value) if value else None
    for path in folder.glob("scores/*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found[path.stem, row["path"]] = float(row["score"])
                found[path.stem, row["path"] + " p"] = float(row["p_value"] or "nan")
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer images than channels, more, and fewer than processes."""
    root = tmp_path_factory.mktemp("data")
    draw_class(root, "few", n_train=7, n_good=4, n_spots=5)
    draw_class(root, "many", n_train=23, n_good=3, n_spots=4)
    draw_class(root, "two", n_train=2, n_good=1, n_spots=1)
    return root


def alone(root: Path, save: Path, *argv: str) -> None:
    given = [f"--data_path={root}", f"--save_path={save}", *OPTIONS, *argv]
    assert cli.main("resnet18", "a script", "random", 100, given) == 0


@pytest.mark.parametrize(
    ("size", "name", "argv"),
    [
        (3, NAME, ()),
        pytest.param(2, NAME, (), marks=LONG),
        pytest.param(2, f"{SEMI}_seed1", ("--seeds", "3", "1", SEMI_OPTION), marks=LONG),
        pytest.param(3, NAME.replace("rd", "pca"), ("--reduction=pca",), marks=LONG),
        pytest.param(2, NAME.replace("rd", "pca"), ("--reduction=pca",), marks=LONG),
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
    assert record["totals"]["n_train"] == 7


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=LONG)])
def test_nor_on_whether_each_scores_the_positions_it_owns(
    size: int, root: Path, tmp_path: Path
) -> None:
    alone(root, tmp_path / "alone")
    run_together(size, root, tmp_path / "together", script="tests/crowded.py")
    check_same(tmp_path / "alone" / NAME, tmp_path / "together" / NAME)
    for file in ("few", "many", "two"):
        found, expected = (
            torch.load(tmp_path / save / NAME / f"models/{file}.pt", weights_only=True)["tensors"]
            for save in ("together", "alone")
        )
        for name in ("mean", "factor"):
            assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-4), name


def check_same(alone: Path, together: Path) -> None:
    """Metrics to 1e-6, scores to what float32 leaves of a difference."""
    expected, found = numbers(alone), numbers(together)
    assert len(expected) > 60
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        ours, theirs = (float("nan") if v is None else v for v in (found[key], value))
        tolerance = {"rel": 1e-4} if key[1].startswith("test/") else {"abs": 1e-6}
        assert ours == pytest.approx(theirs, nan_ok=True, **tolerance), key


def test_the_others_are_not_waited_for_when_one_is_gone(root: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(2):
        team = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env = os.environ | {name: str(value) for name, value in team.items()}
        argv = [sys.executable, *command(root, tmp_path / "out")]
        if rank == 1:
            argv.append("--classes=unknown")
        processes.append(
            subprocess.Popen(
                argv, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], errors
    assert "unknown class unknown" in errors[1]
    assert "another process of this run ended" in errors[0]
    assert "Traceback" not in errors[0]


@pytest.mark.parametrize(("total", "size"), [(10, 3), (2, 3), (1, 4), (9, 9), (0, 2)])
def test_shares_are_even_and_whole(total: int, size: int) -> None:
    shares = Team(0, size).shares(total)
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
    whole = GaussianFit(n_images, 0.01)
    for start, end in pairwise(cuts):
        learner = GaussianFit(n_images, 0.01, n_here=end - start)
        if end > start:
            learner.update(rows[start:end])
        whole.absorb(learner.learned())
    gaussian = whole.finish()
    x = rows[0].double().numpy()
    for position in range(4):
        given = rows[:, position].double().numpy()
        covariance = np.cov(given.T) + 0.01 * np.eye(12)
        delta = x[position] - given.mean(axis=0)
        expected = np.sqrt(delta @ np.linalg.solve(covariance, delta))
        assert float(gaussian(rows[:1])[0, position]) == pytest.approx(expected, rel=1e-4)
