"""A run into a folder that holds one already: what counts stays, the rest is done again."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import LONG, draw_class, result, rows, run
from mutations import mutate

from utils.experiment import class_writer
from utils.experiment.run_folder import RunFolder

N_RUNS = int(os.environ.get("MUTATIONS", 40)) // 10  # with a damaged record
PARTS = ("records/{}.json", "scores/{}.csv", "models/{}.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A data set of two classes, and a run over them."""
    root = tmp_path_factory.mktemp("finished")
    for name in ("tiles", "walls"):
        draw_class(root / "data", name)
    assert run(root / "data", root / "out") == 0
    return root


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The data set, and a copy of the run that may be spoilt."""
    shutil.copytree(finished / "out", tmp_path / "out")
    return finished / "data", tmp_path / "out"


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes that are fitted from now on."""
    names: list[str] = []
    original = class_writer.RunClassWriter.fitted

    def wrapped(writer, model, train) -> None:
        names.append(writer._item.name)
        original(writer, model, train)

    monkeypatch.setattr(class_writer.RunClassWriter, "fitted", wrapped)
    return names


def outputs(save: Path) -> dict[str, bytes]:
    """Everything but what carries a time."""
    folder = result(save)
    kept = ("scores", "figures")
    found = {
        str(path.relative_to(folder)): path.read_bytes() if path.parts[-2] in kept else b""
        for path in folder.rglob("*")
        if path.is_file()
    }
    table = {name: row | {"seconds": ""} for name, row in rows(save).items()}
    return found | {"results.csv": repr(table).encode()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        *((pattern, cut) for pattern in PARTS),
        *((pattern, a_folder) for pattern in PARTS),
        *((PARTS[0], a_link_to_nothing), (PARTS[1], a_link_to_nothing), (PARTS[2], Path.unlink)),
    ],
)
def test_a_class_without_its_files_is_done_again(
    pattern: str, harm: Callable[[Path], None], copy, finished: Path, fitted: list[str], capsys
) -> None:
    root, save = copy
    path = result(save) / pattern.format("tiles")
    harm(path)
    if harm is a_folder and "records" in pattern:  # a record is replaced, a folder is not
        assert run(root, save) == 2
        assert str(path) in capsys.readouterr().err
        return
    assert run(root, save) == 0
    assert fitted == ["tiles"]
    said = [line for line in capsys.readouterr().err.splitlines() if "done again" in line]
    is_gone = pattern == PARTS[0] and harm in (Path.unlink, a_link_to_nothing)
    assert len(said) == (not is_gone)
    assert is_gone or (
        said[0].startswith("!!! class tiles is done again: ") and str(path) in said[0]
    )
    assert outputs(save) == outputs(finished / "out")


@pytest.mark.parametrize("seed", range(N_RUNS))
def test_a_damaged_record_is_no_traceback(
    seed: int, copy, finished: Path, fitted: list[str], capsys
) -> None:
    root, save = copy
    path = result(save) / "records/walls.json"
    draw = random.Random(seed)
    content = path.read_bytes()
    done, damaged = mutate(content, draw)
    path.write_bytes(damaged)
    capsys.readouterr()
    assert run(root, save) == 0, done
    assert fitted in (["walls"], []), done
    assert capsys.readouterr().err.count("walls is done again") == len(fitted), done
    assert outputs(save) == outputs(finished / "out"), done


def test_a_copied_record_counts_no_class_twice(copy, fitted: list[str], capsys) -> None:
    root, save = copy
    records = result(save) / "records"
    shutil.copy(records / "tiles.json", records / "walls.json")
    shutil.copy(records / "tiles.json", records / "Tiles.json")
    assert run(root, save, "--classes", "tiles") == 0
    assert fitted == []
    assert set(rows(save)) == {"tiles"}  # no mean of one class
    said = capsys.readouterr().err
    assert "class walls is not in the tables: " in said
    assert "class Tiles is not in the tables: " in said
    (records / "Tiles.json").unlink()
    assert run(root, save) == 0
    assert fitted == ["walls"]
    assert set(rows(save)) == {"tiles", "walls", "all"}


def test_figures_are_drawn_from_the_kept_model(
    finished: Path, tmp_path: Path, fitted: list[str], capsys
) -> None:
    root, save = finished / "data", tmp_path / "out"
    assert run(root, save, "--figures=none") == 0
    assert not list(result(save).glob("figures/*/*"))
    model = (result(save) / "models/tiles.safetensors").stat().st_mtime_ns
    fitted.clear()
    assert run(root, save, "--figures=2") == 0
    assert len(list(result(save).glob("figures/*/*.png"))) == 4
    assert run(root, save, "--figures=all") == 0
    assert fitted == []
    assert (result(save) / "models/tiles.safetensors").stat().st_mtime_ns == model
    assert outputs(save) == outputs(finished / "out")
    assert capsys.readouterr().out.count("walls: figures drawn from the kept model") == 2
    page = (result(save) / "index.html").read_text()
    record = json.loads((result(save) / "records/walls.json").read_text())
    assert all(image["figure"] in page for image in record["images"])
    assert run(root, save, "--figures=none") == 0  # fewer are asked for: those that are there stay
    assert outputs(save) == outputs(finished / "out")


@pytest.mark.parametrize("what", ["figures", "figures/tiles", "figures/tiles/spot_001.png"])
def test_figures_that_were_deleted_are_drawn_again(
    what: str, copy, finished: Path, fitted: list[str]
) -> None:
    root, save = copy
    path = result(save) / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(root, save) == 0
    assert fitted == []
    assert outputs(save) == outputs(finished / "out")


def test_a_kept_model_that_is_damaged_inside_is_one_line(copy, fitted: list[str], capsys) -> None:
    root, save = copy
    model = result(save) / "models/tiles.safetensors"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 255
    model.write_bytes(content)
    shutil.rmtree(result(save) / "figures/tiles")
    capsys.readouterr()
    assert run(root, save) == 2
    assert f"{model} is damaged" in capsys.readouterr().err
    assert run(root, save) == 0
    assert fitted == ["tiles"]


def test_the_means_name_their_classes_and_each_class_has_a_line(copy, capsys) -> None:
    root, save = copy
    draw_class(save.parent / "data", "bricks")
    for name in ("tiles", "walls"):
        (save.parent / "data" / name).symlink_to(root / name)
    capsys.readouterr()
    assert run(save.parent / "data", save, "--classes", "bricks") == 0
    out = capsys.readouterr().out
    assert "the means are over all classes of this folder: bricks, tiles, walls" in out
    data, line, *_ = [line for line in out.splitlines() if line.startswith("bricks: ")]
    assert data == "bricks: 12 images (12 png), 48 px; the outer 6 % of each side is not looked at"
    for part in (" s, image AUROC ", ", pixel AUROC ", "; class 1 of 1"):
        assert part in line
    assert run(save.parent / "data", save) == 0
    assert "the means are over" not in capsys.readouterr().out


def test_results_say_by_which_threshold_images_were_judged(finished: Path) -> None:
    folder = result(finished / "out")
    found = json.loads((folder / "results.json").read_text())["thresholds"]["tiles"]["image"]
    assert found["requested_rate"] == 0.01
    assert found["rate"] == pytest.approx(1 / 7)  # the finest that six images can promise
    lines = [line.split(",") for line in (folder / "scores/tiles.csv").read_text().splitlines()]
    assert lines[0][-3:] == ["score", "p_value", "decision"]
    for *_, score, p_value, decision in lines[1:]:
        assert decision == ("defective" if float(score) > found["value"] else "normal")
        assert (decision == "defective") == (float(p_value) <= found["rate"])


def test_a_link_among_the_outputs_is_replaced(copy, tmp_path: Path) -> None:
    root, save = copy
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    folder = result(save)
    for path, target in (("figures/tiles", mine), ("scores/tiles.csv", mine / "notes.txt")):
        place = folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(target)
    assert run(root, save, "--overwrite") == 0
    assert (mine / "notes.txt").read_text() == "mine"
    assert {path.name for path in mine.iterdir()} == {"sub", "notes.txt"}
    assert not (folder / "figures/tiles").is_symlink()


@LONG
def test_many_seeds_have_one_table(data_root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Their names together are longer than a file name may be."""
    monkeypatch.setattr(RunFolder, "write_overview", lambda folder, records: None)
    seeds = [str(2**32 - i) for i in range(1, 25)]
    argv = ("--figures=none", "--seeds", *seeds)
    assert run(data_root, tmp_path / "out", *argv) == 0
    (table,) = (tmp_path / "out").glob("*_seeds_*/results.csv")
    assert str(table.parent) in capsys.readouterr().out
    assert run(data_root, tmp_path / "out", *argv) == 0
    assert list((tmp_path / "out").glob("*_seeds_*/results.csv")) == [table]
