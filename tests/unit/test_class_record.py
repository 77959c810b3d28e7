"""The record of a class: written and read back the same, or refused."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from helpers import class_record, image_record

from utils.evaluation.class_record import ClassRecord, ImageThreshold, Threshold

IMAGE = image_record(
    path="test/x/\udcff.png", defect="x", label=1, p_value=0.25, misranked=0.5, is_defective=True
)
RECORD = class_record(
    metrics={"image_auroc": 0.5, "pro": None},
    curves={"image_roc": ([0.0, 1.0], [0.0, 1.0]), "pro": None},
    notes=("a note",),
    threshold=Threshold(2.5, "a name"),
    image_threshold=ImageThreshold(3.5, 0.1, 0.01),
    images=(IMAGE, image_record(figure="figures/a.png")),
    data_digest="0123",
)


def test_a_record_is_read_back_as_it_was_written() -> None:
    content = json.loads(json.dumps(RECORD.to_json()))
    assert ClassRecord.from_json(content) == RECORD


@pytest.mark.parametrize("name", [field.name for field in fields(ClassRecord)])
@pytest.mark.parametrize("value", ["missing", True, float("nan"), {"a": object()}, [[]]])
def test_anything_but_a_whole_record_is_refused(name: str, value: object) -> None:
    content = RECORD.to_json() | {name: value}
    if value == "missing":
        del content[name]
    with pytest.raises(ValueError, match=name):
        ClassRecord.from_json(content)


def test_an_unknown_value_and_another_number_of_images_are_refused() -> None:
    for change in ({"more": 1}, {"n_test": 3}):
        with pytest.raises(ValueError):
            ClassRecord.from_json(RECORD.to_json() | change)
    for part in ("threshold", "image_threshold"):
        content = RECORD.to_json()
        content[part]["more"] = 1
        with pytest.raises(ValueError, match=f"{part}: more is unknown"):
            ClassRecord.from_json(content)


@pytest.mark.parametrize("content", [None, [], "text", 1, {}])
def test_what_is_no_object_is_refused(content: object) -> None:
    with pytest.raises(ValueError):
        ClassRecord.from_json(content)


@pytest.mark.parametrize("value", [2, -1, 0.5, None, "1"])
def test_a_label_is_0_or_1(value: object) -> None:
    content = RECORD.to_json()
    content["images"][0]["label"] = value
    with pytest.raises(ValueError, match="images: .*label"):
        ClassRecord.from_json(content)


def test_images_are_counted_by_their_label() -> None:
    assert (RECORD.n_good, RECORD.n_defective) == (1, 1)
