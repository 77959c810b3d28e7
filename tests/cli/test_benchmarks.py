"""The benchmarks run: on small data, so that their numbers mean nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import LONG, draw_class

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *argv: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@LONG
def test_processes_are_compared(tmp_path: Path) -> None:
    draw_class(tmp_path / "data", "bottle")
    run(
        *("compare.py", "--data_path", tmp_path / "data", "--save_path", tmp_path / "out"),
        *("--rounds", 2, "--only", "ours", "floor"),
    )
    found = json.loads((tmp_path / "out/compare_resnet18.json").read_text())
    for costs in (found["runs"]["ours"], found["runs"]["floor"]):
        assert len(costs) == 2
        assert all(cost["seconds"] > 0.5 and cost["peak_mib"] > 100 for cost in costs)
    table = (tmp_path / "out/compare_resnet18.md").read_text()
    assert "| ours |" in table
    assert (tmp_path / "out/compare_resnet18.png").exists()


@LONG
def test_growth_measures_a_fit() -> None:
    fit, score, memory = map(float, run("growth.py", "--one", 12, 5).split())
    assert fit > 0
    assert score > 0
    assert memory >= 0


def test_drawn_images_are_a_class_of_mvtecs_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from common import N_DEFECTIVE, N_GOOD
    from common import draw_class as draw_large_class

    from datasets.layouts.mvtec import read_class

    draw_large_class(tmp_path, n_train=3, side=40)
    item = read_class(tmp_path, "bottle")
    assert (len(item.train), len(item.test), item.has_masks) == (3, N_GOOD + N_DEFECTIVE, True)


@LONG
def test_pairs_are_compared_by_processor_time(tmp_path: Path) -> None:
    draw_class(tmp_path / "data", "bottle")
    run(
        *("pairs.py", "outputs", "--data_path", tmp_path / "data", "--rounds", 1),
        *("--save_path", tmp_path / "out"),
    )
    table = (tmp_path / "out/pairs_outputs.md").read_text()
    assert "| without outputs |" in table
    assert "| bare loop |" in table
