"""The MVTec AD folder layout: which classes there are, and which files each one has.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/test/good/<name>.png
    <root>/<class>/test/<defect>/<name>.png
    <root>/<class>/ground_truth/<defect>/<name>_mask.png

Any folder in this layout is a class, a user's own too. Nothing is decoded here; only the headers of
the masked images are read, so that a mask that does not fit is found before any work is done.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets.layouts.files import check_mask_size, check_root, folders_in, images_in, some_of
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class

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


def find_classes(root: Path) -> list[str]:
    """The names of the classes below ``root``: MVTec's in the paper's order, then the others.

    Raises:
        DataError: ``root`` does not exist or holds no folder in the layout.
    """
    check_root(root)
    names = {
        entry.name
        for entry in root.iterdir()
        if (entry / "train" / GOOD).is_dir() and not entry.name.startswith(".")
    }
    if not names:
        raise DataError(_not_in_layout(root))
    known = [name for name in TEXTURES + OBJECTS if name in names]
    return known + sorted(names.difference(known))


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class, sorted by defect (good first) and name.

    A class whose ground truth holds no file at all has samples without masks: image-level numbers
    can still be had. Where some masks are there, each one missing is an error.

    Raises:
        DataError: too few training images, no test image, a mask missing or of another size.
    """
    folder = root / name
    train = [Sample(path) for path in images_in(folder / "train" / GOOD)]
    defects = folders_in(folder / "test")
    defects.sort(key=lambda defect: (defect != GOOD, defect))
    test = [
        Sample(path, defect) for defect in defects for path in images_in(folder / "test" / defect)
    ]
    test_place = f"{folder / 'test'}; expected test/good and test/<defect> folders with images"
    item = checked_class(name, folder, train, test, folder / "train" / GOOD, test_place)
    return replace(item, test=tuple(_with_masks(folder, test)))


def _with_masks(folder: Path, samples: list[Sample]) -> list[Sample]:
    """The samples, the defective ones with their masks where the class has any."""
    truth = folder / "ground_truth"
    masks = {
        (defect, path.stem): path
        for defect in folders_in(truth)
        if defect != GOOD
        for path in images_in(truth / defect)
    }
    if not masks:
        return samples
    return [
        replace(sample, mask=_mask_of(truth, masks, sample)) if sample.is_defective else sample
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
    check_mask_size(sample.path, mask)
    return mask


def _not_in_layout(root: Path) -> str:
    if (root / "train" / GOOD).is_dir():
        return f"{root} is one class, not the folder of classes: give {root.resolve().parent}"
    return (
        f"{root} is not in the MVTec AD layout: expected <class>/train/good and <class>/test "
        f"folders, found {some_of(root)}"
    )
