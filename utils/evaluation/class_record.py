"""The record of a class: everything that tables, curves and pages show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from datasets.summary import DataSummary
from datasets.types import AnomalyClass
from utils.evaluation.draws import unpack
from utils.evaluation.schema import (
    Fields,
    count,
    flag,
    mapping,
    number,
    optional,
    several,
    share,
    text,
)
from utils.evaluation.training_images import TrainingImage

CurvePoints = tuple[list[float], list[float]]  # x and y


@dataclass(frozen=True)
class ImageRecord:
    """One test image.

    Attributes:
        path: relative to the folder of the class; for a video frame, with its number.
        defect: ``good`` or the kind of defect.
        label: 1 if the image is defective, else 0.
        score: image score, a Mahalanobis distance.
        p_value: conformal p-value; None without a calibration.
        is_defective: the decision, whether the score is above the image threshold; None without a
            calibration.
        misranked: fraction of the images of the other kind against which the image is ranked
            wrongly, 0 to 1; None if one kind is missing.
        figure: path of its figure, relative to the folder of the run; None if none was drawn.
    """

    path: str
    defect: str
    label: int
    score: float
    p_value: float | None
    is_defective: bool | None
    misranked: float | None
    figure: str | None

    @property
    def decision(self) -> str:
        """``defective``, ``normal`` or, without a decision, nothing."""
        return {True: "defective", False: "normal", None: ""}[self.is_defective]

    @classmethod
    def from_json(cls, content: object) -> ImageRecord:
        """The image of a decoded JSON object.

        Raises:
            ValueError: it is not a whole image record, or holds more.
        """
        with Fields(content) as fields:
            return cls(
                path=fields.take("path", text),
                defect=fields.take("defect", text),
                label=fields.take("label", _label),
                score=fields.take("score", number),
                p_value=fields.take("p_value", optional(share)),
                is_defective=fields.take("is_defective", optional(flag)),
                misranked=fields.take("misranked", optional(share)),
                figure=fields.take("figure", optional(text)),
            )


@dataclass(frozen=True)
class Threshold:
    """The threshold of the predicted masks.

    Attributes:
        value: map value; pixels above it are predicted defective. None without a threshold.
        name: how the value was chosen.
    """

    value: float | None
    name: str

    @classmethod
    def from_json(cls, content: object) -> Threshold:
        """The threshold of a decoded JSON object.

        Raises:
            ValueError: it is not a whole threshold, or holds more.
        """
        with Fields(content) as fields:
            return cls(fields.take("value", optional(number)), fields.take("name", text))


@dataclass(frozen=True)
class ImageThreshold:
    """The threshold of the image scores.

    Attributes:
        value: an image with a higher score is defective.
        rate: its false positive rate, higher than ``requested_rate`` if there are too few
            training images.
        requested_rate: the rate asked for.
    """

    value: float
    rate: float
    requested_rate: float

    @classmethod
    def from_json(cls, content: object) -> ImageThreshold:
        """The threshold of a decoded JSON object.

        Raises:
            ValueError: it is not a whole threshold, or holds more.
        """
        with Fields(content) as fields:
            return cls(
                fields.take("value", number),
                fields.take("rate", share),
                fields.take("requested_rate", share),
            )


@dataclass(frozen=True)
class SkippedFile:
    """A file of the data set that was not used.

    Attributes:
        path: from the folder of the data set.
        reason: why, in a few words.
    """

    path: str
    reason: str

    @classmethod
    def from_json(cls, content: object) -> SkippedFile:
        """The file of a decoded JSON object.

        Raises:
            ValueError: it is not a whole one, or holds more.
        """
        with Fields(content) as fields:
            return cls(fields.take("path", text), fields.take("reason", text))


def skipped_files(item: AnomalyClass) -> tuple[SkippedFile, ...]:
    """The files of a class that are not used."""
    return tuple(SkippedFile(item.file_name(one.path), one.reason) for one in item.skipped)


@dataclass(frozen=True)
class ClassRecord:
    """The results of one class.

    Attributes:
        class_name: name of the class.
        order: position of the class in tables: the paper's order, then all others.
        metrics: by name; None for a metric that does not exist for the class.
        draws: each metric in all draws of the test images, packed by ``draws.pack``.
        n_train: number of training images.
        n_test: number of test images.
        seconds: wall time of the class; None until it has been measured.
        notes: remarks for the reader of the numbers.
        threshold: of the predicted masks.
        image_threshold: of the image scores; None without a calibration.
        curves: ``image_roc``, ``pixel_roc`` and ``pro`` as x and y; None for a missing curve.
        images: every test image.
        data_digest: checksum of the names, sizes and times of the files of the class; None until
            it is known.
        image_checksum: of the contents of the files; None until it is known.
        data: numbers of images and masks; None until it is known.
        skipped: the files of the class that were not used.
        training: every training image with its leave-one-out score, highest first.
    """

    class_name: str
    order: int
    metrics: Mapping[str, float | None]
    draws: Mapping[str, str]
    n_train: int
    n_test: int
    seconds: float | None
    notes: tuple[str, ...]
    threshold: Threshold
    image_threshold: ImageThreshold | None
    curves: Mapping[str, CurvePoints | None]
    images: tuple[ImageRecord, ...]
    data_digest: str | None
    image_checksum: str | None
    data: DataSummary | None = None
    skipped: tuple[SkippedFile, ...] = ()
    training: tuple[TrainingImage, ...] = ()

    @property
    def n_good(self) -> int:
        """Number of good test images."""
        return sum(image.label == 0 for image in self.images)

    @property
    def n_defective(self) -> int:
        """Number of defective test images."""
        return sum(image.label == 1 for image in self.images)

    def with_figures(self, figures: Sequence[str | None]) -> ClassRecord:
        """The record with the path of a figure for every image."""
        pairs = zip(self.images, figures, strict=True)
        return replace(self, images=tuple(replace(image, figure=path) for image, path in pairs))

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, one key for each attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: object) -> ClassRecord:
        """The record of a decoded JSON object.

        Raises:
            ValueError: a value is missing, of another type, not finite or unknown.
        """
        with Fields(content) as fields:
            record = cls(
                class_name=fields.take("class_name", text),
                order=fields.take("order", count),
                metrics=fields.take("metrics", mapping(optional(number))),
                draws=fields.take("draws", mapping(_draws)),
                n_train=fields.take("n_train", count),
                n_test=fields.take("n_test", count),
                seconds=fields.take("seconds", optional(number)),
                notes=fields.take("notes", several(text)),
                threshold=fields.take("threshold", Threshold.from_json),
                image_threshold=fields.take("image_threshold", optional(ImageThreshold.from_json)),
                curves=fields.take("curves", mapping(optional(_curve))),
                images=fields.take("images", several(ImageRecord.from_json)),
                data_digest=fields.take("data_digest", optional(text)),
                image_checksum=fields.take("image_checksum", optional(text)),
                data=fields.take("data", optional(_data_summary)),
                skipped=fields.take("skipped", several(SkippedFile.from_json)),
                training=fields.take("training", several(TrainingImage.from_json)),
            )
        if len(record.images) != record.n_test:
            raise ValueError(f"images: {len(record.images)} of {record.n_test} are there")
        return record


def _label(value: object) -> int:
    if count(value) > 1:
        raise ValueError(f"label is {value}, not 0 or 1")
    return count(value)


def _draws(value: object) -> str:
    unpack(packed := text(value))
    return packed


def _curve(value: object) -> CurvePoints:
    axes = several(several(number))(value)
    if len(axes) != 2 or len(axes[0]) != len(axes[1]):
        raise ValueError("a curve is two lists of one length")
    return list(axes[0]), list(axes[1])


def _data_summary(value: object) -> DataSummary:
    with Fields(value) as fields:
        return DataSummary(
            n_images=fields.take("n_images", count),
            endings=fields.take("endings", mapping(count)),
            sides=fields.take("sides", optional(_size)),
            n_not_square=fields.take("n_not_square", count),
            not_square=fields.take("not_square", optional(_size)),
            skipped=fields.take("skipped", mapping(count)),
            unseen=fields.take("unseen", share),
        )


def _size(value: object) -> tuple[int, int]:
    sides = several(count)(value)
    if len(sides) != 2:
        raise ValueError("a size is two counts")
    return sides[0], sides[1]
