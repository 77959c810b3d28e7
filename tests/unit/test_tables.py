"""Tables: means over the right classes, empty fields, and the comparison with published numbers."""

from __future__ import annotations

import csv
import io

import pytest
from helpers import class_record, image_record

from datasets.layouts.mvtec import OBJECTS, TEXTURES
from utils.evaluation.class_record import ClassRecord
from utils.report.published import published_results
from utils.report.tables import METRICS, result_rows, results_csv, results_markdown, scores_csv


def record(name: str, value: float, **metrics: float | None) -> ClassRecord:
    return class_record(name, metrics=dict.fromkeys(METRICS, value) | metrics)


def test_means_are_over_groups_and_over_numbers_that_exist() -> None:
    records = [record("wood", 0.5), record("bottle", 0.9, pro=None), record("mine", 0.7)]
    rows = {row["class"]: row for row in result_rows(records)}
    assert list(rows) == ["wood", "bottle", "mine", "textures", "objects", "all"]
    assert rows["textures"]["label"] == "mean of 1 of 5 textures"
    assert rows["all"]["label"] == "mean of 3 classes"
    assert rows["textures"]["pro"] == 0.5
    assert rows["objects"]["pro"] is None
    assert rows["all"]["pro"] == pytest.approx(0.6)
    assert rows["all"]["image_auroc"] == pytest.approx(0.7)
    assert (rows["all"]["n_train"], rows["all"]["seconds"]) == (30, 3.75)
    assert "objects" not in [row["class"] for row in result_rows(records[:1])]


def test_csv_reads_back_with_full_precision_and_empty_fields() -> None:
    records = [record('a "b", c', 1 / 3, pro=None)]
    rows = list(csv.DictReader(io.StringIO(results_csv(result_rows(records)))))
    assert rows[0]["class"] == 'a "b", c'
    assert float(rows[0]["image_auroc"]) == 1 / 3
    assert rows[0]["pro"] == ""
    image = image_record(path="test/x/1.png", defect="x", label=1, score=2.5, p_value=0.25)
    assert scores_csv(class_record(images=(image,))).splitlines()[1] == "test/x/1.png,x,1,2.5,0.25"


def test_published_numbers_are_the_papers() -> None:
    pixel = published_results("resnet18_rd100", "pixel_auroc")["paper"]
    assert (pixel["bottle"].value, pixel["bottle"].confirmed) == (0.981, True)
    assert pixel["all"].value == 0.967
    pro = published_results("resnet18_rd100", "pro")["paper"]
    assert (pro["all"].value, pro["bottle"].confirmed) == (0.901, False)
    image = published_results("efficientnet_b5", "image_auroc")["paper"]
    assert image["all"].value == 0.979
    assert published_results("resnet18_so100", "pro") == {}


def test_one_class_is_compared_alone_and_its_mean_is_not() -> None:
    text = results_markdown("a run", "resnet18_rd100", [record("bottle", 0.95)], [], obstacle=None)
    assert "| bottle | 0.950 | 0.981 (-0.031) |" in text
    assert "| bottle | 0.950 | 0.939 ? (+0.011) |" in text
    assert "recalled but not found" in text
    assert "Not compared: the means of textures, objects, all" in text


def test_a_whole_set_is_compared_with_its_means() -> None:
    records = [record(name, 0.9) for name in TEXTURES + OBJECTS]
    text = results_markdown("a run", "resnet18_rd100", records, [], obstacle=None)
    assert "| all | 0.900 | 0.967 (-0.067) |" in text
    assert "Not compared" not in text


def test_untrained_weights_are_never_compared() -> None:
    text = results_markdown(
        "x", "resnet18_rd100", [record("bottle", 0.9)], ["LOUD"], "they are untrained"
    )
    assert "**LOUD**" in text
    assert "0.981" not in text
    assert "Not set beside the published numbers: they are untrained." in text


def test_markdown_in_names_stays_text() -> None:
    text = results_markdown("x", "x", [record("a|b*c\nd<i>", 0.9)], [], obstacle="drawn")
    assert r"| a\|b\*c" in text
    assert "<i>" not in text.replace(r"\<i\>", "")
