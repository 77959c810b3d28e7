"""Runs on hostile data sets end well or with one line; ``make soak`` tries hundreds of them."""

from __future__ import annotations

import csv
import json
import os
import signal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile_trees import CHANGES, draw_hostile

from utils.cli import main as cli

SECONDS = 120  # a run that takes longer hangs
N_TREES = int(os.environ.get("HOSTILE_TREES", len(CHANGES)))
OPTIONS = ["--resize=64", "--crop=56", "--embedding_dim=12", "--weights=random", "--figures=2"]


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and what its data say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.data: list[str] = []
        self._is_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") or value == "x" for name, value in attrs)
        self.tags.append(tag)
        self._is_data = tag == "script" and ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._is_data = False

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data.append(data)


def everything(root: Path, but: Path) -> dict[str, tuple[int, int] | None]:
    """All that is there, by path, with sizes and times; links are not followed."""
    found: dict[str, tuple[int, int] | None] = {}
    for path in root.iterdir():
        if path == but:
            continue
        if path.is_dir() and not path.is_symlink():
            found[str(path)] = None
            found |= everything(path, but)
        else:
            facts = path.lstat()
            found[str(path)] = facts.st_size, facts.st_mtime_ns
    return found


def check_outputs(folder: Path, said: str) -> None:
    """Tables that read back, and a page with nothing in it that a name brought."""
    records = [json.loads(path.read_text()) for path in (folder / "records").iterdir()]
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {
        record["class_name"].encode("utf-8", "backslashreplace").decode() for record in records
    } <= {row["class"] for row in rows}
    for record in records:
        with (folder / f"scores/{record['class_name']}.csv").open(
            newline="", encoding="utf-8"
        ) as file:
            assert len(list(csv.DictReader(file))) == len(record["images"])
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2
    assert json.loads("".join(page.data))
    assert not list(folder.rglob(".partial*"))
    assert "nan" not in (folder / "results.csv").read_text(encoding="utf-8").lower().split(",")
    assert said.count("\n") > 2


@pytest.mark.parametrize("number", range(N_TREES))
def test_a_hostile_data_set(number: int, tmp_path: Path, capsys) -> None:
    root, save = tmp_path / "data", tmp_path / "results"
    root.mkdir()
    done = draw_hostile(root, number)
    before = everything(tmp_path, save)
    argv = [f"--data_path={root}", f"--save_path={save}", f"--num_workers={number % 2}", *OPTIONS]

    def too_long(*_: object) -> None:
        raise AssertionError(f"{done}: no end after {SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        status = cli.main("resnet18", argv)
    finally:
        signal.alarm(0)
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("!!!")]
    assert status in (0, 2), (done, captured.err)
    assert "Traceback" not in captured.err, done
    assert everything(tmp_path, save) == before, done
    if status == 2:
        assert len(lines) == 1 and lines[0].startswith("error: "), (done, lines)
        assert lines[0].isprintable() and len(lines[0]) > 20, (done, lines)
    else:
        assert lines == [], (done, lines)
        check_outputs(save / "resnet18_rd12_untrained", captured.out)
