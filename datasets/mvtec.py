"""The MVTec AD folder layout: which classes there are, and which files each one has.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/test/good/<name>.png
    <root>/<class>/test/<defect>/<name>.png
    <root>/<class>/ground_truth/<defect>/<name>_mask.png

Any folder in this layout is a class, a user's own too. Nothing is decoded here; only the headers of
the masked images are read, so that a mask that does not fit is found before any work is done.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import DataError
from datasets.images import image_size

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
GOOD = "good"
LONGEST_NAME = 200  # bytes, of the 255 that a file's name may have
RESERVED = ("textures", "objects", "all")  # the names of the mean rows of every table


@dataclass(frozen=True)
class Sample:
    """One image of a class.

    Attributes:
        path: the image file.
        defect: ``good`` or the name of the defect's folder.
        mask: the ground truth file; None for a good image and where a class has no masks.
    """

    path: Path
    defect: str = GOOD
    mask: Path | None = None

    @property
    def is_defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class AnomalyClass:
    """One class of a data set: its training images and its labelled test images."""

    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def has_masks(self) -> bool:
        """Whether every defective test image has a mask, and there is at least one."""
        defective = [sample for sample in self.test if sample.is_defective]
        return bool(defective) and all(sample.mask is not None for sample in defective)

    def digest(self) -> str:
        """A checksum of the file names, sizes and times: tells whether the data have changed."""
        summary = hashlib.sha256()
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                for file in filter(None, (sample.path, sample.mask)):
                    stat = file.stat()
                    line = f"{split}/{sample.defect}/{file.name}:{stat.st_size}:{stat.st_mtime_ns}"
                    summary.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return summary.hexdigest()[:16]


def find_classes(root: Path) -> list[str]:
    """The names of the classes below ``root``: MVTec's in the paper's order, then the others.

    Raises:
        DataError: ``root`` does not exist or holds no folder in the layout.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data folder {root} {what}; give the folder that holds the classes")
    names = {
        entry.name
        for entry in root.iterdir()
        if (entry / "train" / GOOD).is_dir() and not entry.name.startswith(".")
    }
    if not names:
        raise DataError(_not_in_layout(root))
    known = [name for name in TEXTURES + OBJECTS if name in names]
    return known + sorted(names.difference(known))


def choose_classes(root: Path, wanted: Sequence[str] | None) -> list[str]:
    """The classes to run, in table order: all of them, or those named in ``wanted``.

    Raises:
        DataError: as ``find_classes``, or a name in ``wanted`` is no class of this data set.
    """
    found = find_classes(root)
    if wanted is not None:  # "a b", "a,b" and "a, b" all name two, unless one is called so
        parts = ([name] if name in found else name.split(",") for name in wanted)
        wanted = [part for names in parts for part in names if part]
        if not wanted:
            raise DataError(f"--classes names none; the classes in {root} are: {', '.join(found)}")
    unknown = sorted(set(wanted or ()).difference(found))
    if unknown:
        raise DataError(
            f"unknown class {', '.join(unknown)} in {root}; the classes there are: "
            + ", ".join(found)
        )
    chosen = [name for name in found if wanted is None or name in wanted]
    for name in chosen:
        if name in RESERVED:
            raise DataError(f"class folder {root / name}: '{name}' names a mean row; rename it")
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise DataError(
                f"class folder {root / name}: no file can be named after it; "
                f"rename it to at most {LONGEST_NAME} bytes"
            )
    return chosen


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class, sorted by defect (good first) and name.

    A class whose ground truth holds no file at all has samples without masks: image-level numbers
    can still be had. Where some masks are there, each one missing is an error.

    Raises:
        DataError: too few training images, no test image, a mask missing or of another size.
    """
    folder = root / name
    train = [Sample(path) for path in _images(folder / "train" / GOOD)]
    if len(train) < 2:
        raise DataError(
            f"class {name}: {len(train)} training image{'s' * (len(train) != 1)} in "
            f"{folder / 'train' / GOOD}; a covariance needs at least 2 ({_endings()})"
        )
    defects = _folders(folder / "test")
    defects.sort(key=lambda defect: (defect != GOOD, defect))
    test = [
        Sample(path, defect) for defect in defects for path in _images(folder / "test" / defect)
    ]
    if not test:
        raise DataError(
            f"class {name}: no test image in {folder / 'test'}; "
            "expected test/good and test/<defect> folders with images"
        )
    return AnomalyClass(name, tuple(train), tuple(_with_masks(folder, test)))


def _with_masks(folder: Path, samples: list[Sample]) -> list[Sample]:
    """The samples, the defective ones with their masks where the class has any."""
    truth = folder / "ground_truth"
    masks = {
        (defect, path.stem): path
        for defect in _folders(truth)
        if defect != GOOD
        for path in _images(truth / defect)
    }
    if not masks:
        return samples
    return [
        Sample(sample.path, sample.defect, _mask_of(truth, masks, sample))
        if sample.is_defective
        else sample
        for sample in samples
    ]


def _mask_of(truth: Path, masks: dict[tuple[str, str], Path], sample: Sample) -> Path:
    mask = masks.get((sample.defect, f"{sample.path.stem}_mask"))
    if mask is None:
        expected = truth / sample.defect / f"{sample.path.stem}_mask.png"
        raise DataError(
            f"no mask for {sample.path}: expected {expected} "
            "(to run without masks, take the whole ground_truth folder away)"
        )
    image_wh, mask_wh = image_size(sample.path), image_size(mask)
    if image_wh != mask_wh:
        raise DataError(
            f"mask {mask} is {mask_wh[0]}x{mask_wh[1]} but its image {sample.path} is "
            f"{image_wh[0]}x{image_wh[1]}; they must be of one size"
        )
    return mask


def _images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name; hidden files are not images."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    ]


def _endings() -> str:
    return ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)


def _not_in_layout(root: Path) -> str:
    if (root / "train" / GOOD).is_dir():
        return f"{root} is one class, not the folder of classes: give {root.resolve().parent}"
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    found = ", ".join(entries[:5]) + (f" and {len(entries) - 5} more" if len(entries) > 5 else "")
    return (
        f"{root} is not in the MVTec AD layout: expected <class>/train/good and <class>/test "
        f"folders, found {found or 'an empty folder'}"
    )
