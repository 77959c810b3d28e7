"""The gallery of a page: images, the threshold they are judged by, and the pictures of each.

This is the data of the page's script, the same for a run and for a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from utils.evaluation.class_record import ClassRecord, ImageRecord
from utils.report.figures import PanelBoxes, panel_boxes


@dataclass(frozen=True)
class GalleryImage:
    """One image.

    Attributes:
        path: its name, unique in its class.
        score: image score.
        p_value: None without a calibration.
        label: 1 if it is known to be defective, 0 if good; None if nothing is known.
        defect: ``good`` or the kind of defect; empty if nothing is known.
        misranked: as in ``ImageRecord``.
        picture: address of its figure or overlay, relative to the page; None if none was drawn.
        original: address of the image itself; None if there is none beside the page.
    """

    path: str
    score: float
    p_value: float | None
    label: int | None = None
    defect: str = ""
    misranked: float | None = None
    picture: str | None = None
    original: str | None = None


@dataclass(frozen=True)
class GalleryClass:
    """The images that share a scale of scores.

    Attributes:
        name: of the class or model.
        threshold: an image with a higher score is defective; None without one.
        images: of the class.
        panels: where the panels are in each of its figures; None if a picture is one panel.
    """

    name: str
    threshold: float | None
    images: tuple[GalleryImage, ...]
    panels: PanelBoxes | None = None


def gallery_data(classes: Sequence[GalleryClass], n_all: int) -> dict[str, Any]:
    """The gallery as JSON can hold it.

    Args:
        classes: to show.
        n_all: number of images that there are, shown or not.
    """
    return {"classes": [asdict(item) for item in classes], "all": n_all}


def gallery_class(record: ClassRecord, crop: int) -> GalleryClass:
    """The gallery of a class of a run; the panels of its figures follow from its crop."""
    threshold = record.image_threshold
    return GalleryClass(
        record.class_name,
        None if threshold is None else threshold.value,
        tuple(_gallery_image(image) for image in record.images),
        panel_boxes(crop),
    )


def _gallery_image(image: ImageRecord) -> GalleryImage:
    return GalleryImage(
        path=image.path,
        score=image.score,
        p_value=image.p_value,
        label=image.label,
        defect=image.defect,
        misranked=image.misranked,
        picture=image.figure,
    )
