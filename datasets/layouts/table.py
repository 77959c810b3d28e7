"""The layouts that data sets are published in, each behind the same three functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import DataError
from datasets.layouts import btad, mpdd, mvtec, shanghaitech, visa
from datasets.layouts.rd_mvtec import RandomPreprocessing
from datasets.types import AnomalyClass
from padim.preprocessing import Preprocessing

LONGEST_NAME = 200  # bytes, of the 255 that a file's name may have
RESERVED = ("textures", "objects", "all")  # the names of the mean rows of every table


@dataclass(frozen=True)
class Layout:
    """How the classes of a data set are found and read.

    Attributes:
        find_classes: from the data set's folder to the names of its classes, in table order.
        read_class: from that folder and a name to the class.
    """

    find_classes: Callable[[Path], list[str]]
    read_class: Callable[[Path, str], AnomalyClass]


LAYOUTS: Mapping[str, Layout] = {
    "mvtec": Layout(mvtec.find_classes, mvtec.read_class),
    "rd_mvtec": Layout(mvtec.find_classes, mvtec.read_class),
    "shanghaitech": Layout(shanghaitech.find_classes, shanghaitech.read_class),
    "visa": Layout(visa.find_classes, visa.read_class),
    "btad": Layout(btad.find_classes, btad.read_class),
    "mpdd": Layout(mpdd.find_classes, mpdd.read_class),
}


def preprocessing_of(dataset: str, resize: int, crop: int, version: int | None) -> Preprocessing:
    """What is done to the images of a data set.

    Args:
        dataset: a key of ``LAYOUTS``.
        resize, crop: as in ``Preprocessing``.
        version: which random version, where there are any.
    """
    if dataset == "rd_mvtec":
        return RandomPreprocessing(resize, crop, version or 0)
    return Preprocessing(resize, crop)


def choose_classes(layout: Layout, root: Path, wanted: Sequence[str] | None) -> list[str]:
    """The classes to run, in table order: all of them, or those named in ``wanted``.

    Raises:
        DataError: as the layout's ``find_classes``, or a name in ``wanted`` is no class there.
    """
    found = layout.find_classes(root)
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
