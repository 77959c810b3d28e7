"""Two runs over the same images: the paired difference, and what is not compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import class_record, expect_one_line, image_record

from utils.cli.main import compare
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.draws import pack
from utils.evaluation.metric_names import METRICS
from utils.experiment.record_store import RecordStore
from utils.report.rows import result_rows

DRAWN = np.random.default_rng(0).normal(0.9, 0.02, 2000)


def record(name: str = "bottle", shift: float = 0.0, **values: object) -> ClassRecord:
    """A class whose metrics vary a lot with the images drawn, but alike in all runs."""
    metrics = dict.fromkeys(METRICS) | {"pro": 0.9 + shift, "image_auroc": 0.95}
    draws = {"pro": pack(DRAWN + shift + 0.001 * np.sin(np.arange(2000)))}
    usual = {"metrics": metrics, "draws": draws, "image_checksum": "abcd"}
    return class_record(name, **usual | {"images": (image_record(),)} | values)


def write(folder: Path, *records: ClassRecord) -> Path:
    store = RecordStore(folder / "records", {}, "class", "")
    for one in records:
        store.finish(one.class_name, "0", one.to_json())
    return folder


def compared(tmp_path: Path, first: list, second: list, *argv: str) -> int:
    runs = write(tmp_path / "a", *first), write(tmp_path / "b", *second)
    return compare(["--runs", *map(str, runs), *argv])


def test_a_small_difference_is_seen_in_large_noise(tmp_path: Path, capsys) -> None:
    status = compared(tmp_path, [record()], [record(shift=0.01)], "--metrics", "pro,image_auroc")
    out = capsys.readouterr().out
    assert status == 0
    assert "| bottle | +0.010 [+0.010, +0.010] * | +0.000 |" in out
    assert "mean of" not in out  # one class is its own mean


def test_noise_is_called_noise(tmp_path: Path, capsys) -> None:
    noise = record(draws={"pro": pack(DRAWN[::-1].copy())})
    assert compared(tmp_path, [record()], [noise], "--metrics=pro") == 0
    row = capsys.readouterr().out.split("| bottle | ")[1].splitlines()[0]
    assert row.startswith("+0.000 [-0.05") and "*" not in row


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"image_checksum": "other"}, "other images, checksum abcd and other"),
        ({"images": (image_record(path="test/good/001.png"),)}, "other names or another order"),
        ({"images": (image_record(label=1),)}, "other names or another order"),
    ],
)
def test_other_images_are_not_compared(other: dict, reason: str, tmp_path: Path, capsys) -> None:
    first, second = record(), record("pill", 0.5)
    status = compared(tmp_path, [first, second], [replace(first, **other), second, record("mine")])
    out = capsys.readouterr().out
    assert status == 0 and "| pill |" in out and "| bottle |" not in out
    assert reason in out and "mine: it is in the second run alone" in out


def test_nothing_to_compare_is_one_line(tmp_path: Path, capsys) -> None:
    expect_one_line(capsys, compared(tmp_path, [record()], [record("pill")]), "no class can be")
    old = tmp_path / "old" / "records"
    old.mkdir(parents=True)
    (old / "bottle.json").write_text(json.dumps({"version": 1, "name": "bottle"}))
    for folder in (tmp_path / "old", tmp_path / "missing"):
        status = compare(["--runs", str(tmp_path / "a"), str(folder)])
        expect_one_line(capsys, status, "--runs", str(folder), "no records")


def test_the_interval_of_a_mean_is_narrower_than_those_of_its_classes() -> None:
    rng = np.random.default_rng(1)
    drawn = [{"pro": pack(rng.normal(0.9, 0.02, 2000))} for _ in range(4)]
    rows = result_rows([record(str(i), draws=draws) for i, draws in enumerate(drawn)])
    widths = [high - low for low, high in (row.intervals["pro"] for row in rows)]
    assert widths[-1] == pytest.approx(widths[0] / 2, rel=0.15)
    assert rows[-1].to_json()["pro_low"] == rows[-1].intervals["pro"][0]
    assert rows[-1].image_checksum is None and "image_auroc_low" not in rows[-1].to_json()
