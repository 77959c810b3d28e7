"""BTAD (beanTech Anomaly Detection) in its published layout.

<root>/<class>/train/ok/<name>.bmp
<root>/<class>/test/ok/<name>.bmp
<root>/<class>/test/ko/<name>.bmp
<root>/<class>/ground_truth/ko/<name>.png    named as its image, whatever the ending
"""

from __future__ import annotations

from pathlib import Path

from datasets.layouts.files import check_mask_size, check_root, folders_in, images_in, some_of
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class

OK, KO = "ok", "ko"


def find_classes(root: Path) -> list[str]:
    """The folders in the layout.

    Raises:
        DataError: there is none, or ``root`` does not exist.
    """
    check_root(root)
    names = sorted(name for name in folders_in(root) if (root / name / "train" / OK).is_dir())
    if not names:
        raise DataError(
            f"{root} is not in the layout of BTAD: expected <class>/train/ok and <class>/test/ok "
            f"and ko folders, found {some_of(root)}"
        )
    return names


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class.

    Raises:
        DataError: too few training images, no test image, a mask missing or of another size.
    """
    folder = root / name
    train = [Sample(path) for path in images_in(folder / "train" / OK)]
    good = [Sample(path, GOOD) for path in images_in(folder / "test" / OK)]
    truth = folder / "ground_truth" / KO
    masks = {path.stem: path for path in images_in(truth)}
    defective = [
        Sample(path, KO, _mask_of(path, masks, truth)) for path in images_in(folder / "test" / KO)
    ]
    place = f"{folder / 'test'}; expected images in test/ok and test/ko"
    return checked_class(name, folder, train, good + defective, folder / "train" / OK, place)


def _mask_of(image: Path, masks: dict[str, Path], truth: Path) -> Path:
    mask = masks.get(image.stem)
    if mask is None:
        raise DataError(f"no mask for {image}: expected {truth / image.stem} with any image ending")
    check_mask_size(image, mask)
    return mask
