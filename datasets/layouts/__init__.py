"""The layouts that data sets are published in: one module a layout, and the table of them.

To add one, write a module with ``find_classes(root)`` and ``read_class(root, name)``, and add it to
``LAYOUTS``. Nothing heavy is imported here, so that the command line can be checked at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.types import AnomalyClass, DataError
from padim.config import MAX_BITS

if TYPE_CHECKING:
    from padim.preprocessing import Preprocessing

RD_VERSIONS = 5  # random versions of Rd-MVTec AD, as many as the paper's means are over
MAX_NAME_BYTES = 200  # of a class, out of the 255 that a file's name may have
CLASS_FOLDERS = ("train/good", "train/ok", "Data/Images")  # one of them is in every class
RESERVED = ("textures", "objects", "all")  # the names of the mean rows of every table


@dataclass(frozen=True)
class Layout:
    """What is known of a data set before it is read, and how its classes are found and read.

    Attributes:
        title: its name in the literature.
        module: the module of its layout.
        crop: the default of ``--crop``; None for the whole image. The paper crops MVTec AD only.
        is_crop_published: whether ``crop`` is for the classes that are published alone. A class of
            one's own in the same layout is looked at whole.
        folders: that images are read from, other than one folder for each class.
    """

    title: str
    module: str
    crop: int | None = None
    is_crop_published: bool = False
    folders: tuple[str, ...] = ()

    def find_classes(self, root: Path) -> list[str]:
        """The names of the classes in a folder, in the order of the tables.

        Raises:
            DataError: the folder does not exist, or is not in this layout.
        """
        return self._module.find_classes(root)

    def read_class(self, root: Path, name: str) -> AnomalyClass:
        """List the files of a class.

        Raises:
            DataError: too few images, or masks that are missing or do not fit.
        """
        return self._module.read_class(root, name)

    def crop_of(self, root: Path, name: str) -> int | None:
        """The default of ``--crop`` for a class; None for the whole image."""
        is_own = self.is_crop_published and not self._module.has_published_counts(root, name)
        return None if is_own else self.crop

    @property
    def _module(self) -> Any:
        return import_module(f"datasets.layouts.{self.module}")


LAYOUTS: Mapping[str, Layout] = {
    "mvtec": Layout("MVTec AD", "mvtec", 224, is_crop_published=True),
    "rd_mvtec": Layout("Rd-MVTec AD", "mvtec", 224),
    "shanghaitech": Layout("ShanghaiTech Campus", "shanghaitech", folders=("training", "testing")),
    "visa": Layout("VisA", "visa", folders=("1cls",)),
    "btad": Layout("BTAD", "btad"),
    "mpdd": Layout("MPDD", "mvtec"),  # published as MVTec AD is
    "mvtec_loco": Layout("MVTec LOCO AD", "mvtec_loco"),
    "mvtec_ad2": Layout("MVTec AD 2", "mvtec_ad2"),
    "real_iad": Layout("Real-IAD", "real_iad", folders=(".",)),
    "kolektorsdd": Layout("KolektorSDD", "kolektor", folders=(".",)),
}


def choose_crops(layout: Layout, root: Path, resize: int, crop: int | None) -> dict[str, int]:
    """The side of the crop of every class in a folder.

    Args:
        layout: of the folder.
        root: the folder.
        resize: side of the resized image.
        crop: as asked for; None for the default of each class.

    Raises:
        DataError: as ``find_classes``, or a default is larger than ``resize``.
    """
    crops = {
        name: crop or layout.crop_of(root, name) or resize for name in layout.find_classes(root)
    }
    for name, side in crops.items():
        if side > resize:
            raise DataError(
                f"--resize {resize} is smaller than the crop of class {name}, {side} by default; "
                "give a --crop as well"
            )
    return crops


def preprocessing_of(
    dataset: str, resize: int, crop: int, version: int | None, bits: int = MAX_BITS
) -> Preprocessing:
    """The preprocessing of the images of a data set.

    Args:
        dataset: a key of ``LAYOUTS``.
        resize, crop: as in ``Preprocessing``.
        version: of the random versions of ``rd_mvtec``.
        bits: as in ``Preprocessing``.
    """
    if dataset == "rd_mvtec":
        from datasets.layouts.rd_mvtec import RandomPreprocessing

        return RandomPreprocessing(resize, crop, bits, version or 0)
    from padim.preprocessing import Preprocessing

    return Preprocessing(resize, crop, bits)


def preprocessing_by_class(
    dataset: str,
    classes: Sequence[AnomalyClass],
    resize: int,
    crops: Mapping[str, int],
    version: int | None,
    bits: int = MAX_BITS,
) -> Preprocessing:
    """The preprocessing of the images of some classes, each with its own crop.

    Args:
        dataset, resize, version, bits: as in ``preprocessing_of``.
        classes: the classes.
        crops: side of the crop of every class.
    """
    by_folder = {item.root: crops[item.name] for item in classes}
    largest = max(by_folder.values(), default=resize)
    if len(set(by_folder.values())) < 2:
        return preprocessing_of(dataset, resize, largest, version, bits)
    from datasets.loading.by_folder import FolderPreprocessing

    return FolderPreprocessing(resize, largest, bits, tuple(by_folder.items()))


def check_outside(layout: Layout, root: Path, folder: Path, option: str) -> None:
    """Check that results do not go where the next run finds them and takes them for images.

    Args:
        layout: of the data set.
        root: folder of the data set.
        folder: that is written to.
        option: that names it.

    Raises:
        DataError: it is inside a class, or in another folder that images are read from.
    """
    written, inside = folder.resolve(), root.resolve()
    read = [root / name for name in (*layout.find_classes(root), *layout.folders)]
    for place in read:
        if place.is_dir() and written.is_relative_to(place.resolve()):
            raise DataError(
                f"{option} {folder} is inside {place}, which images are read from: the next run "
                f"would take it for images; give a folder outside {inside}"
            )


def check_outside_classes(folder: Path, option: str) -> None:
    """Check that results do not go into a class of any data set, by the folders that a class has.

    Args:
        folder: that is written to.
        option: that names it.

    Raises:
        DataError: it is a class, or inside one.
    """
    written = folder.resolve()
    for place in (written, *written.parents):
        if any((place / name).is_dir() for name in CLASS_FOLDERS):
            raise DataError(
                f"{option} {folder} is inside the class {place}, which images are read from: the "
                f"next run would take it for images; give a folder outside {place}"
            )


def choose_classes(layout: Layout, root: Path, wanted: Sequence[str] | None) -> list[str]:
    """The classes to run, in table order: all, or those named in ``wanted``.

    Raises:
        DataError: as ``find_classes``, or ``wanted`` names a class that does not exist.
    """
    found = layout.find_classes(root)
    if wanted is not None:  # "a b", "a,b" and "a, b" all name two, unless one class is called so
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
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise DataError(
                f"class folder {root / name}: no file can be named after it; "
                f"rename it to at most {MAX_NAME_BYTES} bytes"
            )
    return chosen
