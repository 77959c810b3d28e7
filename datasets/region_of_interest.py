"""Where to look in the images of a class: a mask for all classes, or one in the class's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.layouts import Layout
from datasets.types import REGION, AnomalyClass, DataError
from padim.errors import ImageError, PaDiMError

if TYPE_CHECKING:
    import torch

EVERYWHERE = "none"  # instead of a file: masks in the folders of classes are not used


@dataclass(frozen=True)
class ClassRegion:
    """Where to look in the images of a class.

    Attributes:
        path: the file of the mask.
        mask: bool (crop, crop), true where to look.
        share: of the whole image, looked at.
    """

    path: Path
    mask: torch.Tensor
    share: float

    @property
    def checksum(self) -> str:
        """Of the mask: the same mask in another file has the same."""
        content = repr(tuple(self.mask.shape)).encode() + self.mask.numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def text(self) -> str:
        """Such as ``43 % of each image is looked at (region disc.png)``."""
        return f"{looked_at_text(self.share)} (region {self.path})"


def looked_at_text(share: float) -> str:
    """What is said of a model that looks at a part of the images."""
    percent = f"{100 * share:.0f}" if share >= 0.01 else f"{100 * share:.1g}"
    return f"{percent} % of each image is looked at"


def region_file(layout: Layout, root: Path, name: str) -> Path | None:
    """The mask in the folder of a class; None if there is none."""
    places = (root / part / name / REGION for part in (".", *layout.folders))
    return next((place for place in places if place.exists()), None)


def read_regions(
    layout: Layout, root: Path, given: str | None, resize: int, crops: Mapping[str, int]
) -> dict[str, ClassRegion]:
    """The regions of the classes of a data set; classes without one are not in it.

    Args:
        layout: of the data set.
        root: its folder.
        given: a file for all classes, which comes before those in their folders; ``EVERYWHERE``
            for none; None for those in the folders.
        resize: side of the resized images.
        crops: side of the crop of every class.

    Raises:
        PaDiMError: a mask cannot be used.
    """
    if given == EVERYWHERE:
        return {}
    files = {name: Path(given) if given else region_file(layout, root, name) for name in crops}
    return {
        name: _read(path, resize, crops[name], given)
        for name, path in files.items()
        if path is not None
    }


def _read(path: Path, resize: int, crop: int, given: str | None) -> ClassRegion:
    from padim.preprocessing import Preprocessing  # slow to import
    from padim.region_of_interest import read_region

    with _named(given):
        mask = Preprocessing(resize, crop).crop_of_mask(read_region(path))
        if not mask.any():
            raise DataError(
                f"region {path} has no white pixel within the crop; --crop none looks at the "
                "whole image",
                "region",
            )
    return ClassRegion(path, mask, float(mask.sum()) / resize**2)


def check_regions(
    classes: Sequence[AnomalyClass], regions: Mapping[str, ClassRegion], given: str | None
) -> None:
    """Check that every mask has the shape of all images of its class, from their headers.

    Args:
        classes: the classes.
        regions: of those that have one.
        given: as in ``read_regions``.

    Raises:
        PaDiMError: one has not.
    """
    from padim.reading.image_file import image_size
    from padim.region_of_interest import check_shape, read_region

    for item in (item for item in classes if item.name in regions):
        path = regions[item.name].path
        mask = read_region(path)
        # Frames of videos would have to be decoded.
        for image in (one.path for one in (*item.train, *item.test) if one.frame is None):
            with suppress(ImageError), _named(given):  # whoever reads a damaged image says it
                check_shape(mask, image_size(image), f"image {image}", f"region {path}")


@contextmanager
def _named(given: str | None) -> Iterator[None]:
    """Errors name the option only if the mask was given by it."""
    try:
        yield
    except PaDiMError as error:
        if given is not None or isinstance(error, ImageError):
            raise
        raise DataError(str(error)) from error


def refuse_regions(layout: Layout, root: Path, names: Sequence[str], remedy: str) -> None:
    """Check that no class has a mask in its folder, for those who cannot use it.

    Raises:
        DataError: one has.
    """
    for name in names:
        if path := region_file(layout, root, name):
            raise DataError(f"class {name} has a region, {path}, which is not used here; {remedy}")
