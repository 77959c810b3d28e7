"""VisA in its two layouts, split as its ``1cls.csv`` says (one class, training normal).

As it is published:

    <root>/split_csv/1cls.csv                              object,split,label,image,mask
    <root>/<object>/Data/Images/Normal/<name>.JPG
    <root>/<object>/Data/Images/Anomaly/<name>.JPG
    <root>/<object>/Data/Masks/Anomaly/<name>.png          not 0 where the defect is

Paths in the table are relative to the root. As the script that comes with it prepares it, which is
in the layout of MVTec AD; the root may also be the folder ``1cls``:

    <root>/1cls/<object>/{train,test}/good/<name>.JPG
    <root>/1cls/<object>/test/bad/<name>.JPG
    <root>/1cls/<object>/ground_truth/bad/<name>.png       0 and 255

Read off that script (amazon-science/spot-diff, ``utils/prepare_data.py``) and anomalib's copy of it
(``data/datamodules/image/visa.py``).
"""

from __future__ import annotations

import csv
from pathlib import Path

from datasets.layouts import mvtec
from datasets.layouts.files import check_mask_size, check_root, folders_in, named_file, some_of
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class

TABLE = Path("split_csv", "1cls.csv")
PREPARED = "1cls"
COLUMNS = ("object", "split", "label", "image", "mask")
ANOMALY = "anomaly"


def find_classes(root: Path) -> list[str]:
    """The objects of the table, or those of the prepared folder.

    Raises:
        DataError: there is neither, or the table has other columns.
    """
    prepared = _prepared(root)
    if prepared is not None:
        return mvtec.find_classes(prepared)
    return sorted({row["object"] for row in _rows(root)})


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one object.

    Raises:
        DataError: a file of the table is missing or outside the data set, a mask is of another
            size, too few training images, no test image.
    """
    prepared = _prepared(root)
    if prepared is not None:
        return mvtec.read_class(prepared, name)
    rows = [row for row in _rows(root) if row["object"] == name]
    train = [_sample(root, row) for row in rows if row["split"] == "train"]
    test = [_sample(root, row) for row in rows if row["split"] == "test"]
    if any(sample.is_defective for sample in train):
        raise DataError(f"{root / TABLE}: object {name} has defective images in its training split")
    test.sort(key=lambda sample: (sample.is_defective, sample.path))
    place = f"{root / TABLE}; expected rows of split test"
    return checked_class(name, root, train, test, root / TABLE, place)


def _prepared(root: Path) -> Path | None:
    """The folder of the prepared objects; None if the data set is as it is published."""
    if (root / TABLE).is_file():
        return None
    for folder in (root / PREPARED, root):
        if any((folder / name / "train" / GOOD).is_dir() for name in folders_in(folder)):
            return folder
    return None


def _rows(root: Path) -> list[dict[str, str]]:
    check_root(root)
    path = root / TABLE
    if not path.is_file():
        raise DataError(
            f"{root} is not in the layout of VisA: expected {TABLE.as_posix()}, or "
            f"{PREPARED}/<object>/train/good as its script prepares it, found {some_of(root)}"
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
    image = named_file(root, row["image"], root / TABLE)
    if row["label"] == "normal":
        return Sample(image, GOOD)
    if row["label"] != ANOMALY:
        raise DataError(
            f"{root / TABLE}: label '{row['label']}' of {row['image']}; "
            f"expected normal or {ANOMALY}"
        )
    mask = named_file(root, row["mask"], root / TABLE)
    check_mask_size(image, mask)
    return Sample(image, ANOMALY, mask)
