"""Derived names: short enough for a file system, and none like another on any of them."""

from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path

import pytest

from datasets.types import Sample
from utils.cli.run_options import parse_run_options
from utils.experiment.conditions import Conditions
from utils.experiment.run_name import folder_name
from utils.experiment.run_plan import folder_names
from utils.prediction.outputs import output_path, unlike_names
from utils.report.class_figures import _figure_names
from utils.system.names import shortened

PARTS = (
    *("a", "A", "b", "a_b", "b_a", "a.png", "A.PNG", "a.jpg", "a.png.png", "a.png.npy", "ä", "Ä"),
    *(unicodedata.normalize("NFD", "ä"), "ß", "ss", "x" * 250, "x" * 251, "X" * 250, "漢" * 80),
    *("a~2", "a.png~2", "~", " a", "a\n", "=a", os.fsdecode(b"\xff"), os.fsdecode(b"\xfe")),
)
N_TRIALS = int(os.environ.get("MUTATIONS", 60))


def folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def is_short(path: str) -> bool:
    return all(len(os.fsencode(part)) <= 255 - len(".partial") for part in path.split("/"))


@pytest.mark.parametrize("trial", range(N_TRIALS))
def test_no_output_of_an_image_is_that_of_another(trial: int) -> None:
    draw = random.Random(trial)
    names = list(
        dict.fromkeys("/".join(draw.choices(PARTS, k=draw.randint(1, 3))) for _ in range(40))
    )
    other = unlike_names(names)
    outputs = [
        str(output_path(Path("maps"), other.get(name, name), suffix))
        for name in names
        for suffix in (".png", ".npy")
    ]
    assert len({folded(path) for path in outputs}) == len(outputs)
    folders = {folded(str(parent)) for path in outputs for parent in Path(path).parents}
    assert not folders.intersection(map(folded, outputs))
    assert all(map(is_short, outputs))
    assert unlike_names(names) == other


def test_names_that_are_free_are_kept() -> None:
    assert unlike_names(["a.png", "a.jpg", "b/a.png", "b/c/a.png", "x" * 250]) == {}
    assert unlike_names(["a.png", "A.png"]) == {"A.png": "A.png~2"}
    assert unlike_names(["a", "a.png/b"]) == {"a": "a~2"}


@pytest.mark.parametrize("trial", range(N_TRIALS))
def test_every_image_has_a_figure_of_its_own(trial: int) -> None:
    draw = random.Random(trial)
    kinds = draw.sample(PARTS, 6)
    samples = [
        Sample(
            Path("test") / defect / f"{draw.choice(PARTS)}{draw.choice(('.png', '.jpg'))}", defect
        )
        for defect in kinds
        for _ in range(10)
    ]
    names = _figure_names(samples)
    assert len({folded(name) for name in names}) == len(samples)
    assert all(map(is_short, names))
    assert names == _figure_names(samples)


def test_a_folder_and_an_image_that_make_the_same_figure() -> None:
    paths = ("test/good_b/a.jpg", "test/good/b_a.jpg", "test/good/B_A.png", "test/good/b_a.bmp")
    names = _figure_names([Sample(Path(path), Path(path).parent.name) for path in paths])
    assert names == ["good_b_a.png", "good_b_a~2.png", "good_B_A~3.png", "good_b_a~4.png"]


def test_a_long_name_is_cut_and_its_checksum_tells_it_apart() -> None:
    assert shortened("x" * 200) == "x" * 200
    cut = {shortened("x" * n) for n in range(201, 400)}
    assert len(cut) == 199
    assert all(len(name) <= 200 for name in cut)
    assert len(os.fsencode(shortened("漢" * 200))) <= 200


@pytest.mark.parametrize("seeds", [[], ["--seeds", *map(str, range(80))], ["--seeds=4294967295"]])
def test_a_run_of_many_layers_has_a_short_folder(seeds: list[str]) -> None:
    layers = [f"block{i}" for i in range(1, 39)]
    found = set()
    for more in ([], ["stem"]):
        argv = ["--data_path=x", "--dataset=shanghaitech", "--layers", *layers, *more, *seeds]
        options = parse_run_options("efficientnet_b5", argv)
        names = folder_names("efficientnet_b5", options.layers, options, Conditions(True, True))
        assert len(set(names)) == len(names)
        assert all(map(is_short, names))
        found |= set(names)
    assert len(found) == 2 * len(names)
    assert folder_name("resnet18", None, parse_run_options("resnet18", []), Conditions(False)) == (
        "resnet18_rd100"
    )
