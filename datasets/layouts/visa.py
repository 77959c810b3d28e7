"""VisA in its published layout, split as its ``1cls.csv`` says (one class, training normal).

    <root>/split_csv/1cls.csv                              object,split,label,image,mask
    <root>/<object>/Data/Images/Normal/<name>.JPG
    <root>/<object>/Data/Images/Anomaly/<name>.JPG
    <root>/<object>/Data/Masks/Anomaly/<name>.png          not 0 where the defect is

Paths in the table are relative to the root.
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from datasets.layouts.files import check_mask_size, check_root, some_of
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class

TABLE = Path("split_csv", "1cls.csv")
COLUMNS = ("object", "split", "label", "image", "mask")
ANOMALY = "anomaly"


def find_classes(root: Path) -> list[str]:
    """The objects of the table.

    Raises:
        DataError: there is no such table, or it has other columns.
    """
    return sorted({row["object"] for row in _rows(root)})


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one object.

    Raises:
        DataError: a file of the table is missing or outside the data set, a mask is of another
            size, too few training images, no test image.
    """
    rows = [row for row in _rows(root) if row["object"] == name]
    train = [_sample(root, row) for row in rows if row["split"] == "train"]
    test = [_sample(root, row) for row in rows if row["split"] == "test"]
    if any(sample.is_defective for sample in train):
        raise DataError(f"{root / TABLE}: object {name} has defective images in its training split")
    test.sort(key=lambda sample: (sample.is_defective, sample.path))
    place = f"{root / TABLE}; expected rows of split test"
    return checked_class(name, root, train, test, root / TABLE, place)


def _rows(root: Path) -> list[dict[str, str]]:
    check_root(root)
    path = root / TABLE
    if not path.is_file():
        raise DataError(
            f"{root} is not in the layout of VisA: expected {TABLE.as_posix()}, "
            f"found {some_of(root)}"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {missing[0]}; expected {','.join(COLUMNS)}")
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of text ({error}); replace it") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    for row in rows:
        name = row["object"] or ""
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise DataError(f"{path}: object '{name}' is no class; expected the name of a folder")
    return rows


def _sample(root: Path, row: dict[str, str]) -> Sample:
    image = _file(root, row["image"])
    if row["label"] == "normal":
        return Sample(image, GOOD)
    if row["label"] != ANOMALY:
        raise DataError(
            f"{root / TABLE}: label '{row['label']}' of {row['image']}; "
            f"expected normal or {ANOMALY}"
        )
    mask = _file(root, row["mask"])
    check_mask_size(image, mask)
    return Sample(image, ANOMALY, mask)


def _file(root: Path, name: str | None) -> Path:
    """A file that the table names, inside the data set."""
    relative = PurePosixPath(name or "")
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{root / TABLE} names the file '{name or ''}', which is not in {root}")
    path = root / relative
    if not path.is_file():
        raise DataError(f"{root / TABLE} names the file {path}, which does not exist")
    return path
