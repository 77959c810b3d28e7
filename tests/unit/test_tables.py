"""Tables: means over the right classes, empty fields, and the comparison with published numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from helpers import class_record, image_record

from datasets.layouts.mvtec import COUNTS, OBJECTS, TEXTURES
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.draws import pack
from utils.evaluation.metric_names import METRICS
from utils.report.markdown import with_difference
from utils.report.published import Published, published_results
from utils.report.rows import COLUMNS, result_rows
from utils.report.tables import results_csv, results_markdown, scores_csv, terminal_table
from utils.report.text import DASH, format_number


def record(name: str, value: float, **metrics: float | None) -> ClassRecord:
    """A class with the counts of MVTec AD, if it is called like one of its classes."""
    n_train, n_test = COUNTS.get(name, (10, 4))
    numbers = dict.fromkeys(METRICS, value) | metrics
    return class_record(name, metrics=numbers, n_train=n_train, n_test=n_test)


def test_means_are_over_whole_groups_and_over_numbers_that_exist() -> None:
    textures = [record(name, 0.5) for name in TEXTURES]
    records = [*textures, record("bottle", 0.9, pro=None), record("mine", 0.7)]
    rows = {row.name: row for row in result_rows(records)}
    assert list(rows) == [*TEXTURES, "bottle", "mine", "textures", "all"]
    assert rows["textures"].label == "mean of 5 textures"
    assert rows["all"].label == "mean of 7 classes"
    assert rows["textures"].metrics["pro"] == 0.5
    assert rows["all"].metrics["pro"] == pytest.approx((5 * 0.5 + 0.7) / 6)
    assert rows["all"].metrics["image_auroc"] == pytest.approx((5 * 0.5 + 0.9 + 0.7) / 7)
    assert (rows["all"].n_train, rows["all"].seconds) == (1266 + 209 + 10, 7 * 1.25)


@pytest.mark.parametrize("name", ["wood", "bottle", "mine"])
def test_one_class_has_no_mean(name: str) -> None:
    assert [row.name for row in result_rows([record(name, 0.5)])] == [name]


@pytest.mark.parametrize("change", [(1, 0), (0, -1), (-1, 1)])
def test_a_class_that_only_has_the_name_of_one_of_mvtec_ads_is_no_part_of_it(change) -> None:
    records = [record(name, 0.9) for name in TEXTURES + OBJECTS]
    n_train, n_test = COUNTS["tile"]
    counts = {"n_train": n_train + change[0], "n_test": n_test + change[1]}
    at = TEXTURES.index("tile")
    records[at] = replace(records[at], **counts)
    assert [row.name for row in result_rows(records) if row.is_mean] == ["objects", "all"]
    text = results_markdown("a run", "resnet18_rd100", records, [], None)
    compared = text.partition("## Comparison")[2]
    assert "| tile |" not in compared
    assert "| wood |" in compared
    assert "| objects |" in compared
    assert "Not compared: tile." in compared
    assert "Not compared: the means of textures, all." in compared


def test_csv_reads_back_with_full_precision_and_empty_fields() -> None:
    records = [record('a "b", c', 1 / 3, pro=None)]
    rows = list(csv.DictReader(io.StringIO(results_csv(result_rows(records)))))
    assert rows[0]["class"] == 'a "b", c'
    assert float(rows[0]["image_auroc"]) == 1 / 3
    assert rows[0]["pro"] == ""
    image = image_record(path="test/x/1.png", defect="x", label=1, score=2.5, p_value=0.25)
    assert scores_csv(class_record(images=(image,))).splitlines()[1] == "test/x/1.png,x,1,2.5,0.25,"


def drawn(name: str, low: float, high: float) -> dict[str, str]:
    """Draws whose 2.5 % and 97.5 % quantiles are these."""
    return {name: pack(np.array([low] * 1000 + [high] * 1000))}


def test_intervals_stand_behind_the_numbers_they_belong_to() -> None:
    one = replace(record("bottle", 0.95), draws=drawn("pro", 0.9, 1.0), image_checksum="01ab")
    text = results_markdown("a run", "resnet18_rd100", [one], [], None, ("pro", "aupimo"))
    assert "| class | pro | aupimo | n_train | n_test | seconds |" in text
    assert "| bottle | 0.950 [0.900, 1.000] | 0.950 | 209 | 83 | 1.2 |" in text
    assert "| bottle | 0.950 [0.900, 1.000] | 0.939 ? (+0.011) |" in text
    assert "- aupimo: " in text and "Checksums of the images: bottle 01ab" in text
    header, row = list(csv.reader(io.StringIO(results_csv(result_rows([one])))))[:2]
    assert header[:13] == ["class", *COLUMNS] and set(METRICS) < set(header)
    values = dict(zip(header, row, strict=True))
    assert (values["pro_low"], values["pro_high"], values["aupimo_low"]) == ("0.9", "1.0", "")
    assert values["image_checksum"] == "01ab"
    assert terminal_table([one], ["aupimo"]).split()[:2] == ["class", "aupimo"]
    assert "[" not in terminal_table([one])


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
    text = results_markdown("a run", "resnet18_rd100", [record("bottle", 0.95)], [], None)
    assert "| bottle | 0.950 | 0.981 (-0.031) |" in text
    assert "| bottle | 0.950 | 0.939 ? (+0.011) |" in text
    assert "recalled but not found" in text
    assert "Not compared: the means of textures, objects, all" in text


def test_a_whole_set_is_compared_with_its_means() -> None:
    records = [record(name, 0.9) for name in TEXTURES + OBJECTS]
    text = results_markdown("a run", "resnet18_rd100", records, [], None)
    assert "| all | 0.900 | 0.967 (-0.067) |" in text
    assert "Not compared" not in text


def test_a_class_named_like_a_group_is_not_compared() -> None:
    records = [record(name, 0.9) for name in (*TEXTURES, "all", "textures")]
    text = results_markdown("a run", "resnet18_rd100", records, [], None)
    compared = text.partition("## Comparison")[2]
    assert "| textures | 0.900 | " in compared
    assert "| all |" not in compared


def test_untrained_weights_are_never_compared() -> None:
    text = results_markdown(
        "x", "resnet18_rd100", [record("bottle", 0.9)], ["LOUD"], "they are untrained"
    )
    assert "**LOUD**" in text
    assert "0.981" not in text
    assert "Not compared with the published numbers: they are untrained." in text


def test_markdown_in_names_stays_text() -> None:
    text = results_markdown("x", "x", [record("a|b*c\nd<i>", 0.9)], [], "drawn")
    assert r"| a\|b\*c" in text
    assert "<i>" not in text.replace(r"\<i\>", "")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("pro", 0.99849, "0.998"),
        ("pro", None, DASH),
        ("n_train", 209, "209"),
        ("seconds", 12.345, "12.3"),
        ("score", 31.2345678, "31.235"),
        ("p_value", 0.00497, "0.0050"),
    ],
)
def test_numbers_are_shown_with_the_digits_of_their_column(
    name: str, value: float | None, shown: str
) -> None:
    assert format_number(name, value) == shown


def test_a_difference_has_a_sign() -> None:
    assert with_difference("pro", 0.95, Published(0.981, True)) == "0.981 (-0.031)"
    assert with_difference("pro", 0.95, Published(0.9, False)) == "0.900 ? (+0.050)"
    assert with_difference("seconds_per_image", 0.25, Published(0.5, True)) == "0.5000 (-0.2500)"
    assert with_difference("pro", None, Published(0.9, True)) == "0.900"
    assert with_difference("pro", 0.9, None) == DASH


def test_the_terminals_columns_are_even() -> None:
    lines = terminal_table([record("bottle", 0.5), record("a long name", 1.0)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:2] == ["bottle", "0.500"]
