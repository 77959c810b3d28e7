"""Real-IAD in its published layout, split as its json files say (all five views of an object).

    <root>/realiad_jsons/<class>.json             or realiad_jsons/realiad_jsons/<class>.json
    <root>/realiad_1024/<class>/OK/<...>.jpg      or realiad_512, realiad_256, realiad_raw
    <root>/realiad_1024/<class>/NG/<kind>/<...>.jpg and .png

A json file has ``meta`` (``prefix`` of all paths, ``normal_class``) and the lists ``train`` and
``test`` of ``image_path``, ``mask_path`` and ``anomaly_class``. A view of a defective object in
which nothing is to be seen has no mask: it is a normal image.

The layout is what two public readers of it agree on: its authors' code
(Tencent/AnomalyDetection_Real-IAD, ``datasets/explicit_dataset.py``) and anomalib
(``data/datasets/image/realiad.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets.layouts.files import check_mask_size, check_root, named_file, some_of
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class

JSONS = "realiad_jsons"
Entry = tuple[str, str, str | None]  # image, kind of defect, mask
IMAGES = tuple(f"realiad_{size}" for size in ("1024", "512", "256", "raw"))  # the first there is


def find_classes(root: Path) -> list[str]:
    """The classes that have a json file.

    Raises:
        DataError: ``root`` does not exist, or there is no such file or no folder of images.
    """
    check_root(root)
    names = sorted(path.stem for path in _splits(root).glob("*.json") if path.name[0] != ".")
    if not names or _images(root) is None:
        raise DataError(
            f"{root} is not in the layout of Real-IAD: expected {JSONS}/<class>.json and one of "
            f"{', '.join(IMAGES)}, found {some_of(root)}"
        )
    return names


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class.

    Raises:
        DataError: the json file cannot be understood, a file that it names is missing or outside
            the data set, a mask is of another size, too few training images, no test image.
    """
    table, images = _splits(root) / f"{name}.json", _images(root)
    assert images is not None  # as ``find_classes`` has checked
    prefix, splits = _entries(table)
    train, test = ([_sample(images / prefix, *entry, table) for entry in part] for part in splits)
    if any(sample.is_defective for sample in train):
        raise DataError(f"{table} has defective images in its training split")
    test.sort(key=lambda sample: (sample.is_defective, sample.defect, sample.path))
    return checked_class(name, root, train, test, table, f"{table}; expected a list test")


def _splits(root: Path) -> Path:
    inner = root / JSONS / JSONS  # as the archive unpacks into a folder of its name
    return inner if inner.is_dir() else root / JSONS


def _images(root: Path) -> Path | None:
    return next((root / name for name in IMAGES if (root / name).is_dir()), None)


def _entries(table: Path) -> tuple[str, list[list[Entry]]]:
    """The prefix of all paths, and the training and test images of a json file."""
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        normal, prefix = content["meta"]["normal_class"], content["meta"]["prefix"]
        splits = [[_entry(one, normal) for one in content[split]] for split in ("train", "test")]
        return str(prefix), splits
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{table} is no split of Real-IAD ({error!r}); replace it") from error


def _entry(entry: dict[str, Any], normal: str) -> Entry:
    image, mask, kind = (entry[key] for key in ("image_path", "mask_path", "anomaly_class"))
    if kind == normal or not mask:
        return str(image), GOOD, None
    return str(image), str(kind), str(mask)


def _sample(folder: Path, image: str, defect: str, mask: str | None, table: Path) -> Sample:
    path = named_file(folder, image, table)
    if mask is None:
        return Sample(path, defect)
    mask_path = named_file(folder, mask, table)
    check_mask_size(path, mask_path)
    return Sample(path, defect, mask_path)
