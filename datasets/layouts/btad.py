"""BTAD (beanTech Anomaly Detection) in its published layout.

<root>/<class>/train/ok/<name>.bmp
<root>/<class>/test/ok/<name>.bmp
<root>/<class>/test/ko/<name>.bmp
<root>/<class>/ground_truth/ko/<name>.png    named as its image, whatever the ending
"""

from __future__ import annotations

from pathlib import Path

from datasets.layouts.files import class_folders, list_images
from datasets.layouts.masks import find_masks
from datasets.types import GOOD, AnomalyClass, Sample, checked_class

OK, KO = "ok", "ko"


def find_classes(root: Path) -> list[str]:
    """The folders in the layout.

    Raises:
        DataError: there is none, or ``root`` does not exist.
    """
    expected = "<class>/train/ok and <class>/test/ok and ko folders"
    return class_folders(root, "BTAD", expected, f"train/{OK}")


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class.

    Raises:
        DataError: too few training images, no test image, a mask missing or of another size.
    """
    folder = root / name
    train, good, defective = (
        list_images(folder / part) for part in (f"train/{OK}", f"test/{OK}", f"test/{KO}")
    )
    test = [Sample(path, GOOD) for path in good.images]
    test += [Sample(path, KO) for path in defective.images]
    masked = find_masks(folder, test, is_required=True)
    return checked_class(
        name,
        folder,
        [Sample(path) for path in train.images],
        masked.samples,
        folder / "train" / OK,
        f"{folder / 'test'}; expected images in test/ok and test/ko",
        [*train.skipped, *good.skipped, *defective.skipped, *masked.skipped],
        masked.remarks,
    )
