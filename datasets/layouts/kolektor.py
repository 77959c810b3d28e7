"""KolektorSDD in its published layout: one class, whose images are in a folder for each item.

    <root>/kos01/Part0.jpg
    <root>/kos01/Part0_label.bmp      black for a part without a defect

Nothing is published on which images a method that learns from normal ones alone is fitted on. The
split is anomalib's: four fifths of the normal images, drawn by a fixed seed, are for training. All
others are for testing. Parts of one item may be on both sides.

The layout is what two public readers of it agree on: anomalib
(``data/datasets/image/kolektor.py``) and the code of its authors' later paper
(vicoslab/mixed-segdec-net-comind2021, ``data/input_ksdd.py``), which splits otherwise and leaves
out ``kos21/Part7``; here it is used, as in anomalib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.layouts.files import check_mask_size, check_root, folders_in, list_images, some_of
from datasets.types import REGION, AnomalyClass, DataError, Sample, checked_class
from padim.reading.folders import Skipped

CLASS = "kolektorsdd"
DEFECT = "defect"
LABEL = "_label"
TRAIN_SHARE, SEED = 0.8, 42


def find_classes(root: Path) -> list[str]:
    """The one class.

    Raises:
        DataError: ``root`` does not exist or holds no item.
    """
    check_root(root)
    items = (root / name for name in folders_in(root))
    if not any(path.stem.endswith(LABEL) for item in items for path in list_images(item).images):
        raise DataError(
            f"{root} is not in the layout of KolektorSDD: expected kos01/Part0.jpg and "
            f"kos01/Part0{LABEL}.bmp, found {some_of(root)}"
        )
    return [CLASS]


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the images; the masks are read, for they alone say which images are defective.

    Raises:
        DataError: an image without a mask or of another size than it, too few training images, no
            test image.
    """
    from datasets.masks import read_mask

    found = list_images(root)
    masks = {
        path.with_name(path.stem.removesuffix(LABEL)): path
        for path in found.images
        if path.stem.endswith(LABEL)
    }
    no_images = {*masks.values(), root / CLASS / REGION}
    images = [path for path in found.images if path not in no_images]
    good, defective = [], []
    for image in images:
        mask = masks.pop(image.with_suffix(""), None)
        if mask is None:
            raise DataError(f"no mask for {image}: expected {image.stem}{LABEL}.bmp beside it")
        check_mask_size(image, mask)
        if read_mask(mask, image).any():
            defective.append(Sample(image, DEFECT, mask))
        else:
            good.append(Sample(image))
    train, test = _split(good)
    skipped = [*found.skipped, *(Skipped(path, "mask without an image") for path in masks.values())]
    return checked_class(name, root, train, [*test, *defective], root, f"{root}", skipped)


def _split(good: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    order = np.random.RandomState(SEED).permutation(len(good))
    n_train = int(len(good) * TRAIN_SHARE)
    train, test = (sorted(part.tolist()) for part in (order[:n_train], order[n_train:]))
    return [good[i] for i in train], [good[i] for i in test]
