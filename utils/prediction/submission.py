"""The files for the evaluation server of MVTec AD 2.

    anomaly_images/<class>/<split>/<name>.tiff               float16, as large as the image
    anomaly_images_thresholded/<class>/<split>/<name>.png    0 and 255

The layout is that of MVTec's own utilities (``utils.py``, published with the data set), which check
it. Other public code for the server writes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile
from PIL import Image

from datasets.loading.unlabelled import FoundImage
from padim.calibration import is_above
from padim.storage.files import written_whole
from utils.errors import OptionError

SPLITS = ("test_private", "test_private_mixed")
CONTINUOUS, THRESHOLDED = FOLDERS = ("anomaly_images", "anomaly_images_thresholded")


def check_names(images: Sequence[FoundImage]) -> None:
    """Check that every image has its own path in a submission.

    Raises:
        OptionError: one is not of a private split, or two have the same path.
    """
    seen: dict[PurePosixPath, Path] = {}
    for image in images:
        name = _name(image.path)
        if name in seen:
            raise OptionError(
                f"{seen[name]} and {image.path} would both be {name} for the evaluation server; "
                "give one of them"
            )
        seen[name] = image.path


def write_submission(folder: Path, image: FoundImage, units: np.ndarray, is_cut: bool) -> None:
    """Write the two files of an image.

    Args:
        folder: of the prediction.
        image: the image, in a folder ``<class>/<split>``.
        units: its map in units of the pixel threshold, (height, width) of the image.
        is_cut: whether there is such a threshold; without one only the map is written.
    """
    name = _name(image.path)
    path = folder / CONTINUOUS / f"{name}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        tifffile.imwrite(partial, units.clip(0, np.finfo(np.float16).max).astype(np.float16))
    if is_cut:
        path = folder / THRESHOLDED / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            flagged = np.where(is_above(units, 1), np.uint8(255), np.uint8(0))
            Image.fromarray(flagged).save(partial, format="PNG")


def _name(path: Path) -> PurePosixPath:
    """``<class>/<split>/<name>`` of an image, without its ending."""
    folder = path.absolute().parent  # links are named as they are given
    parts = (*(folder.resolve() if ".." in folder.parts else folder).parts, path.name)
    if len(parts) < 4 or parts[-2] not in SPLITS:
        raise OptionError(
            f"--maps mvtec_ad2 is for <class>/{SPLITS[0]} and <class>/{SPLITS[1]} of MVTec AD 2; "
            f"{path} is in neither"
        )
    return PurePosixPath(parts[-3], parts[-2], path.stem)
