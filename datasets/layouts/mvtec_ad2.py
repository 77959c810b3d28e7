"""MVTec AD 2 in its published layout.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/validation/good/<name>.png                         not used
    <root>/<class>/test_public/good/<name>.png
    <root>/<class>/test_public/bad/<name>.png
    <root>/<class>/test_public/ground_truth/bad/<name>_mask.png
    <root>/<class>/test_private/<name>.png                            for predict.py
    <root>/<class>/test_private_mixed/<name>.png                      for predict.py

The validation images are there to choose epochs and thresholds on. PaDiM has no epochs, and its
thresholds come from the training images; so they are neither trained nor tested on. The private
images have no published ground truth: ``predict.py --maps mvtec_ad2`` writes the files of them that
the evaluation server takes.

The layout is what two public readers of it agree on: the utilities that MVTec publishes with the
data set (``mvtec_ad_2_public_offline.py``, ``utils.py``), and anomalib
(``data/datasets/image/mvtecad2.py``).
"""

from __future__ import annotations

from pathlib import Path

from datasets.layouts.files import VALIDATION, class_folders, list_images
from datasets.layouts.masks import find_masks
from datasets.types import GOOD, AnomalyClass, Sample, checked_class
from padim.reading.folders import Skipped

BAD = "bad"
PUBLIC = "test_public"
TRUTH = f"{PUBLIC}/ground_truth"
UNUSED = {
    "validation": VALIDATION,
    "test_private": "private test image",
    "test_private_mixed": "private test image",
}


def find_classes(root: Path) -> list[str]:
    """The folders in the layout.

    Raises:
        DataError: there is none, or ``root`` does not exist.
    """
    expected = f"<class>/train/good and <class>/{PUBLIC} folders"
    return class_folders(root, "MVTec AD 2", expected, f"train/{GOOD}", PUBLIC)


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class.

    Raises:
        DataError: too few training images, no test image, a mask missing or of another size.
    """
    folder = root / name
    train, good, defective = (
        list_images(folder / part)
        for part in (f"train/{GOOD}", f"{PUBLIC}/{GOOD}", f"{PUBLIC}/{BAD}")
    )
    test = [Sample(path, GOOD) for path in good.images]
    test += [Sample(path, BAD) for path in defective.images]
    masked = find_masks(folder, test, is_required=True, test=PUBLIC, truth=TRUTH)
    return checked_class(
        name,
        folder,
        [Sample(path) for path in train.images],
        masked.samples,
        folder / "train" / GOOD,
        f"{folder / PUBLIC}; expected images in good and {BAD}",
        [*train.skipped, *good.skipped, *defective.skipped, *masked.skipped, *_unused(folder)],
        masked.remarks,
    )


def _unused(folder: Path) -> list[Skipped]:
    """The images of the splits that a run does not use."""
    found = ((list_images(folder / part), reason) for part, reason in UNUSED.items())
    return [
        one
        for listing, reason in found
        for one in (*(Skipped(path, reason) for path in listing.images), *listing.skipped)
    ]
