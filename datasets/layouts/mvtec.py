"""The MVTec AD folder layout: which classes there are, and which files each one has.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/test/good/<name>.png
    <root>/<class>/test/<defect>/<name>.png
    <root>/<class>/ground_truth/<defect>/<name>_mask.png    or <name>.png, or a folder <name>/

Images may be in folders of these folders. Any folder in this layout is a class, a user's own too.
Nothing is decoded here; only the headers of the masked images are read, so that a mask that does
not fit is found before any work is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets.layouts.files import check_root, folders_in, list_images, some_of
from datasets.layouts.masks import find_masks
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class
from padim.reading.folders import HIDDEN, Listing, Skipped, has_results, reason_not_searched

OUTSIDE = "outside train/good, test/<kind> and ground_truth"
SPLITS = ("train", "test")

# Training and test images of each class, as published.
TEXTURE_COUNTS = {
    "carpet": (280, 117),
    "grid": (264, 78),
    "leather": (245, 124),
    "tile": (230, 117),
    "wood": (247, 79),
}
OBJECT_COUNTS = {
    "bottle": (209, 83),
    "cable": (224, 150),
    "capsule": (219, 132),
    "hazelnut": (391, 110),
    "metal_nut": (220, 115),
    "pill": (267, 167),
    "screw": (320, 160),
    "toothbrush": (60, 42),
    "transistor": (213, 100),
    "zipper": (240, 151),
}
COUNTS: dict[str, tuple[int, int]] = {**TEXTURE_COUNTS, **OBJECT_COUNTS}
TEXTURES, OBJECTS = tuple(TEXTURE_COUNTS), tuple(OBJECT_COUNTS)


def is_published(name: str, n_train: int, n_test: int) -> bool:
    """Whether a class is one of MVTec AD, by its name and the numbers of its images."""
    return COUNTS.get(name) == (n_train, n_test)


def differing_counts(name: str, n_train: int, n_test: int) -> str | None:
    """A sentence on a class that only has the name of one of MVTec AD; None for any other."""
    if name not in COUNTS or is_published(name, n_train, n_test):
        return None
    theirs = "{} + {}".format(*COUNTS[name])
    return (
        f"called like a class of MVTec AD, but with {n_train} + {n_test} training and test images "
        f"instead of {theirs}: not compared with the paper, and in no mean of MVTec AD's classes"
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
        if reason_not_searched(entry.name) is None and (entry / "train" / GOOD).is_dir()
    }
    if not names:
        raise DataError(_not_in_layout(root))
    known = [name for name in TEXTURES + OBJECTS if name in names]
    return known + sorted(names.difference(known))


def has_published_counts(root: Path, name: str) -> bool:
    """Whether a class is one of MVTec AD, found without reading its images."""
    if name not in COUNTS:
        return False
    files = _list(root / name)
    return is_published(name, len(files.train.images), sum(map(len, files.test.values())))


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class, sorted by defect (good first) and name; folders are searched.

    A class without a test folder is fitted and calibrated only. A class whose ground truth holds
    no mask of any image has samples without masks, for image-level numbers. If some masks are
    there, each one missing is an error.

    Raises:
        DataError: too few training images, a test folder without images, a mask missing or of
            another size.
    """
    folder = root / name
    files = _list(folder)
    test = [Sample(path, kind) for kind, paths in files.test.items() for path in paths]
    masked = find_masks(folder, test)
    place = f"{folder / 'test'}; expected test/good and test/<defect> folders with images"
    unused = (one for one in files.skipped if one.reason not in HIDDEN)
    has_test_files = any(one.path.is_relative_to(folder / "test") for one in unused)
    differing = differing_counts(name, len(files.train.images), len(test))
    return checked_class(
        name,
        folder,
        [Sample(path) for path in files.train.images],
        masked.samples,
        folder / "train" / GOOD,
        place if has_test_files else "",
        [*files.train.skipped, *files.skipped, *masked.skipped],
        [*masked.remarks, *([differing] if differing else [])],
    )


@dataclass(frozen=True)
class _Files:
    """The files of a class: training images, test images by kind, and what is not used."""

    train: Listing
    test: Mapping[str, list[Path]]
    skipped: list[Skipped]


def _list(folder: Path) -> _Files:
    train_folder, truth = folder / "train" / GOOD, folder / "ground_truth"
    kinds = [
        kind for kind in folders_in(folder / "test") if not has_results(folder / "test" / kind)
    ]
    kinds.sort(key=lambda kind: (kind != GOOD, kind))
    found = {kind: list_images(folder / "test" / kind) for kind in kinds}
    searched = [train_folder, truth, *(folder / "test" / kind for kind in kinds)]
    rest = list_images(folder, searched)
    skipped = [one for listing in found.values() for one in listing.skipped]
    # A readme or a picture beside the folders is not meant to be used; an image inside them is.
    skipped += [Skipped(path, OUTSIDE) for path in rest.images if path.parent != folder]
    skipped += [one for one in rest.skipped if one.path.relative_to(folder).parts[0] in SPLITS]
    return _Files(list_images(train_folder), {k: v.images for k, v in found.items()}, skipped)


def _not_in_layout(root: Path) -> str:
    if (root / "train" / GOOD).is_dir():
        return f"{root} is one class, not the folder of classes: give {root.resolve().parent}"
    return (
        f"{root} is not in the MVTec AD layout: expected <class>/train/good and <class>/test "
        f"folders, found {some_of(root)}"
    )
