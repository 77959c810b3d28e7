"""The documentation: made pages are up to date, and the diffs of extending.md do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import draw_class

ROOT = Path(__file__).parents[2]


def test_the_page_of_options_is_what_help_says() -> None:
    code = "import runpy; print(runpy.run_path('docs/options.py')['text'](), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs/options.md").read_text()
    assert page == done.stdout, "docs/options.md is old: make docs"


def diffs() -> dict[str, str]:
    """The diffs of the page, by their headings."""
    page = (ROOT / "docs/extending.md").read_text()
    sections = re.findall(r"^## (.+?)\n.*?```diff\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    return dict(sections)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code."""
    copy = tmp_path / "checkout"
    for name in ("padim", "datasets", "utils"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "main_resnet.py", copy)
    return copy


def apply(diff: str, checkout: Path) -> None:
    done = subprocess.run(
        ["git", "apply", "--verbose", "-"],
        cwd=checkout,
        input=diff,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(checkout.parent)},
    )
    assert done.returncode == 0, done.stderr


def python(checkout: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the diffs; it is not here")
@pytest.mark.parametrize("kind", ["A backbone", "A reduction", "A metric", "A layout"])
def test_a_diff_of_the_page_does_what_it_says(kind: str, checkout: Path, tmp_path: Path) -> None:
    apply(diffs()[kind], checkout)
    if kind == "A backbone":
        code = "from padim import *; print(Backbone('resnet34', 'random').channels)"
        assert python(checkout, code) == "(64, 128, 256)\n"
        return
    data, save = tmp_path / "data", tmp_path / "out"
    draw_class(data)
    more = {"A reduction": ["--reduction=first"], "A metric": ["--metrics", "image_accuracy"]}
    options = [f"--data_path={data}", f"--save_path={save}", "--weights=random", "--resize=64"]
    options += ["--crop=56", "--embedding_dim=12", "--num_workers=0", *more.get(kind, [])]
    if kind == "A layout":
        (data / "tiles/train/good").rename(data / "tiles/normal")
        options += ["--dataset=normal"]
    printed = python(checkout, f"from utils.cli.main import main; main('resnet18', {options})")
    assert "tiles" in printed
    if kind == "A metric":
        assert "image_accuracy" in next(save.glob("*/results.csv")).read_text().splitlines()[0]
