"""The entry scripts as their users run them: in a process of their own, from start to figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import LONG, draw_class
from PIL import Image
from safetensors import safe_open
from scripts import ROOT, SMALL, run, start, tables

from padim.backbones import Backbone
from padim.model import PaDiM

SCRIPTS = {
    "main_resnet.py": ("resnet18_rd100_untrained", 100),
    "main_wide_resnet.py": ("wide_resnet50_2_rd550_untrained", 550),
    "main_eff_net.py": ("efficientnet_b5_untrained", 344),
}


@pytest.mark.parametrize(
    "script",
    ["main_resnet.py", pytest.param("main_wide_resnet.py", marks=LONG), "main_eff_net.py"],
)
def test_a_script_writes_the_whole_tree(script: str, data_root: Path, tmp_path: Path) -> None:
    name, dim = SCRIPTS[script]
    save = tmp_path / "a new" / "folder"
    status, out, err = run(
        script, "--data_path", data_root, "--save_path", save, "--weights=random", *SMALL
    )
    assert status == 0, err
    folder = save / name
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    files.remove(".lock")
    figures = {f"figures/tiles/{kind}_00{i}.png" for kind in ("good", "spot") for i in range(3)}
    assert files == figures | {
        "results.csv",
        "results.json",
        "results.md",
        "skipped.csv",
        "roc_curve.png",
        "pro_curve.png",
        "index.html",
        "scores/tiles.csv",
        "training/tiles.csv",
        "models/tiles.safetensors",
        "records/tiles.json",
    }
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    assert f'href="{name}/index.html"' in (save / "index.html").read_text()
    content = json.loads((folder / "results.json").read_text())
    assert content["settings"]["weights"] == "random"
    assert content["results"][0]["n_train"] == 6
    for text in (out, (folder / "results.md").read_text(), (folder / "index.html").read_text()):
        assert "tiles" in text
    for text in (err, (folder / "results.md").read_text(), (folder / "index.html").read_text()):
        assert "UNTRAINED" in text
    assert "the paper" not in (folder / "results.md").read_text()
    assert "\r" not in err  # no progress bar where nobody is watching
    model = PaDiM.load(
        folder / "models/tiles.safetensors", Backbone(content["settings"]["backbone"], "random")
    )
    assert model.embedding.dim == dim


def test_left_alone_a_script_draws_its_demo(tmp_path: Path) -> None:
    environment = os.environ | {"TORCH_HOME": str(tmp_path / "cache"), "https_proxy": "localhost:9"}
    status, _out, err = run("main_resnet.py", *SMALL, cwd=tmp_path, env=environment)
    assert status == 0, err
    folder = tmp_path / "result" / "resnet18_rd100_untrained_demo"
    assert "UNTRAINED" in err
    assert "DEMO IMAGES" in err
    assert "or give the file instead of imagenet" in err
    assert [row[0] for row in tables(folder)[1:3]] == ["gear", "weave"]
    assert len(list((folder / "figures").rglob("*.png"))) == 56


@LONG
def test_two_runs_give_the_same_digits(data_root: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        status, _, err = run(
            *("main_resnet.py", "--data_path", data_root, "--save_path", tmp_path / name),
            *("--weights=random", "--seed=3", *SMALL),
        )
        assert status == 0, err
        found.append(tables(tmp_path / name / "resnet18_rd100_untrained"))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(signal.SIGKILL, -9, marks=LONG),
        pytest.param(signal.SIGTERM, 143, marks=LONG),
        pytest.param(signal.SIGINT, 130, marks=LONG),
    ],
)
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, sent: int, status: int) -> None:
    root = tmp_path / "data"
    for name in ("a", "b", "c", "d"):
        draw_class(root, name, n_train=5)
    options = ("--data_path", root, "--weights=random", *SMALL)
    assert run("main_resnet.py", *options, "--save_path", tmp_path / "whole")[0] == 0
    whole = tables(tmp_path / "whole" / "resnet18_rd100_untrained")

    save = tmp_path / "stopped"
    folder = save / "resnet18_rd100_untrained"
    process = start("main_resnet.py", *options, "--save_path", save, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (folder / "records/a.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    if sent == signal.SIGINT:  # Ctrl-C goes to the workers too
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert sent == signal.SIGKILL or "Traceback" not in err
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("records/*.json")}
    assert "a" in {path.stem for path in kept}
    for path in kept:
        json.loads(path.read_text())

    again, out, err = run("main_resnet.py", *options, "--save_path", save)
    assert again == 0, err
    assert tables(folder) == whole
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert f"classes that were there already: {len(kept)}" in out
    assert not list(folder.rglob("*partial*"))


def test_bad_input_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    status, out, err = run("main_resnet.py", "--data_path", tmp_path / "none")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert str(tmp_path / "none") in err
    status, _, err = run("main_eff_net.py", "--crop", "x")
    assert status == 2
    assert err.count("\n") == 1


def test_help_needs_no_torch() -> None:
    code = "import sys, utils.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    status, out, _ = run("main_wide_resnet.py", "--help")
    assert status == 0
    assert "--embedding_dim" in out


def test_the_model_is_a_file_of_tensors_only(data_root: Path, tmp_path: Path) -> None:
    options = ("--data_path", data_root, "--save_path", tmp_path, "--weights=random", *SMALL)
    assert run("main_resnet.py", *options, "--figures=none")[0] == 0
    folder = tmp_path / "resnet18_rd100_untrained"
    with safe_open(folder / "models/tiles.safetensors", "pt") as file:
        assert json.loads(file.metadata()["header"])["config"]["embedding_dim"] == 100
        assert {"mean", "factor", "ids"} <= set(file.keys())
    assert not list((folder / "figures").rglob("*.png"))


def test_a_disk_without_room(data_root: Path, tmp_path: Path) -> None:
    """A limit on the size of a file fails a write in the middle, as a full disk does."""
    resource = pytest.importorskip("resource")
    argv = ("--data_path", data_root, "--save_path", tmp_path / "out", "--weights=random", *SMALL)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    status, _, err = run("main_resnet.py", *argv, preexec_fn=limited)
    lines = [line for line in err.splitlines() if not line.startswith("!!!")]
    assert status == 2, err
    assert len(lines) == 1, lines
    assert "too large" in lines[0]
    folder = tmp_path / "out/resnet18_rd100_untrained"
    assert not [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    status, _, err = run("main_resnet.py", *argv)
    assert status == 0, err
    assert (folder / "records/tiles.json").is_file()
