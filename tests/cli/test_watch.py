"""predict.py --watch: images that arrive while it works, and watches that end in any way."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import SPOT, draw_image, expect_one_line
from scripts import start

from datasets.loading import watched
from datasets.loading.watched import PATIENCE
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.regions import Region
from utils.cli.main import predict
from utils.prediction import watch as watch_module
from utils.prediction.judge import Judgement
from utils.prediction.tables import Tables, recover
from utils.system.stop import Stopped

Steps = Iterator[float]  # seconds to wait after each


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fitted") / "tiles.safetensors"
    config = PaDiMConfig(embedding_dim=12, seed=3, resize=64, crop=56)
    images = [draw_image(seed) for seed in range(20)]
    PaDiM(Backbone("resnet18", "random"), config).fit(images).save(path)
    return path


@dataclass
class Clock:
    """Time passes only while the watch rests. After each pause the next step is taken."""

    steps: Steps
    now: float = 0.0
    until: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.until:
            pause = next(self.steps, None)
            if pause is None:
                raise Stopped(143)
            self.until = self.now + pause


@pytest.fixture
def follow(model_file: Path, tmp_path: Path, monkeypatch) -> Callable[..., int]:
    """Watch ``in`` until the steps are at their end, which is that of a signal."""
    (tmp_path / "in").mkdir()

    def follow(steps: Steps, *options: str) -> int:
        clock = Clock(steps)
        monkeypatch.setattr(watch_module, "time", clock)
        monkeypatch.setattr(watched, "time", clock)
        given = ("--model", model_file, "--input", tmp_path / "in", "--save_path", tmp_path / "out")
        return predict([*map(str, given), "--watch", "--false_alarm_rate=0.1", *options])

    return follow


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> list[str]:
    return [row["path"] for row in table(folder / "scores.csv")]


def save(path: Path, seed: int, **options) -> None:
    """As careful software does it."""
    draw_image(seed, **options).save(path.with_name(".part"), format="PNG")
    path.with_name(".part").rename(path)


def test_images_are_judged_as_they_arrive(follow, model_file: Path, tmp_path: Path, capsys) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    save(images / "0.png", 1)
    (images / "notes.txt").touch()

    def steps() -> Steps:
        yield 1
        assert names(out) == ["0.png"]
        assert json.loads((out / "summary.json").read_text())["n_judged"] == 0  # of the start
        save(images / "bad part.png", 2, spot=SPOT)
        draw_image(3).save(tmp_path / "whole.png")
        content = (tmp_path / "whole.png").read_bytes()
        (images / "slow.png").write_bytes(content[:900])
        (images / "broken.png").write_text("no image")
        yield PATIENCE / 2
        said = capsys.readouterr()
        assert "failed" not in said.err
        assert "defective: bad part.png, score " in said.out
        with (images / "slow.png").open("ab") as file:
            file.write(content[900:])
        yield 2 * PATIENCE
        assert names(out) == ["0.png", "bad part.png", "slow.png"]
        assert [row["path"] for row in table(out / "failed.csv")] == ["broken.png"]
        save(images / "0.png", 4)  # another part of the same name
        yield 1
        assert names(out)[-1] == "0.png"

    assert follow(steps()) == 1
    said = capsys.readouterr()
    assert "4 images judged" in said.out
    assert "1 failed" in said.out
    assert len((out / "regions.jsonl").read_text().splitlines()) == 4
    assert json.loads((out / "summary.json").read_text())["n_judged"] == 4
    assert [row["reason"] for row in table(out / "skipped.csv")] == ["ending .txt"]
    page = (out / "index.html").read_text()
    assert page.count('"picture":"overlays/') == 4

    (images / "broken.png").unlink()
    given = ("--model", model_file, "--input", images, "--save_path", tmp_path / "at once")
    assert predict([*map(str, given), "--false_alarm_rate=0.1", "--num_workers=0"]) == 0
    last = {row["path"]: row for row in table(out / "scores.csv")}
    assert list(last.values()) == table(tmp_path / "at once" / "scores.csv")
    for path in (tmp_path / "at once" / "maps").iterdir():
        assert path.read_bytes() == (out / "maps" / path.name).read_bytes()


def test_a_watch_goes_on_where_it_ended(follow, tmp_path: Path, capsys) -> None:
    """Neither after its end nor after a kill an image is judged twice or left out."""
    images, out = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        save(images / f"{number}.png", number)
    (images / "broken.png").write_text("no image")
    assert follow(iter([2 * PATIENCE]), "--figures=2") == 1
    drawn = {path.name for path in (out / "overlays").iterdir()}
    assert len(drawn) == 2
    scores, lines = (out / "scores.csv").read_bytes(), (out / "regions.jsonl").read_bytes()
    assert follow(iter([2 * PATIENCE]), "--figures=2") == 1
    assert (out / "scores.csv").read_bytes() == scores
    assert "3 images judged" in capsys.readouterr().out.splitlines()[-4]

    last = scores.splitlines(keepends=True)[-1]
    (out / "scores.csv").write_bytes(scores[: -len(last)] + last[:9])  # killed in a row
    os.utime(out / "scores.csv")
    (out / "summary.json").with_name("index.html").unlink()
    save(images / "new.png", 9, spot=SPOT)
    assert follow(iter([2 * PATIENCE]), "--figures=2") == 1
    assert names(out) == ["0.png", "1.png", "2.png", "new.png"]
    assert (out / "scores.csv").read_bytes().startswith(scores)
    assert (out / "regions.jsonl").read_bytes().startswith(lines)
    regions = table(out / "regions.csv")
    assert len(regions) == sum(
        len(json.loads(line)["regions"]) for line in (out / "regions.jsonl").open()
    )
    drawn = {path.name for path in (out / "overlays").iterdir()}
    assert "new.png.png" in drawn
    assert len(drawn) == 2


def test_results_of_other_options_are_not_gone_on_with(follow, tmp_path: Path, capsys) -> None:
    save(tmp_path / "in" / "0.png", 1)
    assert follow(iter([1])) == 0
    capsys.readouterr()
    status = follow(iter([]), "--false_alarm_rate=0.2")
    expect_one_line(capsys, status, "false_alarm_rate 0.1", "now it is 0.2", "--overwrite")
    assert names(tmp_path / "out") == ["0.png"]
    assert follow(iter([1]), "--false_alarm_rate=0.2", "--overwrite") == 0
    assert names(tmp_path / "out") == ["0.png"]
    (tmp_path / "out" / "summary.json").write_text("{}")
    capsys.readouterr()
    expect_one_line(capsys, follow(iter([])), "summary.json", "--overwrite")


def test_the_input_goes_and_comes_back(follow, tmp_path: Path, capsys) -> None:
    images = tmp_path / "in"
    save(images / "0.png", 1)

    def steps() -> Steps:
        yield 1
        images.rename(tmp_path / "away")
        yield 1
        assert "cannot be read; waiting for it" in capsys.readouterr().err
        (tmp_path / "away").rename(images)
        save(images / "1.png", 2)
        yield 1
        assert "is there again" in capsys.readouterr().err

    assert follow(steps()) == 0
    assert names(tmp_path / "out") == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--maps=mvtec_ad2",), "--maps mvtec_ad2"),
        (("--input={}/in/0.png",), "no folder"),
        (("--save_path={}/in",), "is an --input"),
    ],
)
def test_bad_options(options, words: str, follow, tmp_path: Path, capsys) -> None:
    save(tmp_path / "in" / "0.png", 1)
    try:
        status = follow(iter([]), *(one.format(tmp_path) for one in options))
    except SystemExit as error:
        status = error.code
    expect_one_line(capsys, status, words)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["0.png"]
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_among_the_images(model_file: Path, tmp_path: Path, capsys) -> None:
    """Also without a watch, and by another name of the folder."""
    save(tmp_path / "0.png", 1)
    (tmp_path / "link").symlink_to(tmp_path)
    given = ("--model", model_file, "--input", tmp_path, "--save_path", tmp_path / "link")
    status = predict([*map(str, given), "--num_workers=0"])
    expect_one_line(capsys, status, "is an --input", "give another folder")
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "link"}


def judgement(name: str, n_regions: int) -> Judgement:
    region = Region((1, 2, 3, 4), 5, 6.5, (1, 2), 0.5)
    return Judgement(name, 1.5, 0.25, False, (7, 8), (region,) * n_regions)


@pytest.mark.parametrize("ahead", ["none", "regions.csv", "regions.jsonl", "failed.csv"])
def test_tables_are_cut_back_to_whole_images(ahead: str, tmp_path: Path) -> None:
    """Killed at any byte of a batch: scores.csv comes last, so the others are ahead of it."""
    items = [judgement(name, n) for n, name in enumerate(("plain.png", 'two\n"lines", é.png', "c"))]
    whole, tables = tmp_path / "whole", None
    whole.mkdir()
    states = []
    for item in items:
        tables = tables or Tables.appended_to(whole)
        tables.add(item)
        tables.add_failed(f"not {item.name}", 'a "reason",\nof two lines')
        tables.commit()
        states.append({path.name: path.read_bytes() for path in whole.iterdir()})
    order = ["regions.csv", "regions.jsonl", "failed.csv", "scores.csv"]
    torn = "scores.csv" if ahead == "none" else ahead
    before, after = states[1], states[2]
    places = range(len(before[torn]), len(after[torn]))
    for n_bytes in places[:: 1 + len(places) // 50]:
        folder = tmp_path / f"{n_bytes}"
        folder.mkdir()
        for name in order:
            done = order.index(name) < order.index(torn)
            content = after[torn][:n_bytes] if name == torn else (after if done else before)[name]
            (folder / name).write_bytes(content)
        assert [item.name for item in recover(folder)] == [item.name for item in items[:2]]
        again = Tables.appended_to(folder)
        again.add(items[2])
        again.commit()
        for name in ("regions.csv", "regions.jsonl", "scores.csv"):
            assert (folder / name).read_bytes() == after[name]
        with (folder / "failed.csv").open(newline="") as file:
            assert all(len(row) == 2 for row in csv.reader(file))
        shutil.rmtree(folder)


def test_a_signal_ends_it_with_its_report(model_file: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    process = start(
        *("predict.py", "--model", model_file, "--input", images, "--save_path", out, "--watch"),
        *("--figures=none",),
    )
    deadline = time.monotonic() + 120
    while not (out / "scores.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    save(images / "0.png", 1)
    while len(names(out)) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "stopped" not in err
    assert "1 images judged" in said
    assert json.loads((out / "summary.json").read_text())["n_judged"] == 1
    assert not [path for path in out.rglob("*") if "partial" in path.name]
