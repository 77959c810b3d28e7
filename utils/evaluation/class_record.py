"""The record of a class: everything that tables, curves and pages show of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from utils.evaluation.draws import unpack

T = TypeVar("T")
CurvePoints = tuple[list[float], list[float]]  # x and y


@dataclass(frozen=True)
class ImageRecord:
    """One test image.

    Attributes:
        path: relative to the folder of the class; a video frame has its number behind it.
        defect: ``good`` or the kind of defect.
        label: 1 if the image is defective, else 0.
        score: image score, a Mahalanobis distance.
        p_value: conformal p-value; None without a calibration.
        misranked: share of the images of the other kind that the image is ranked wrongly
            against, 0 to 1; None if one kind is missing.
        figure: path of its figure, relative to the folder of the run; None if none was drawn.
    """

    path: str
    defect: str
    label: int
    score: float
    p_value: float | None
    misranked: float | None
    figure: str | None

    @classmethod
    def from_json(cls, content: object) -> ImageRecord:
        """The image of a decoded JSON object.

        Raises:
            ValueError: it is not a whole image record.
        """
        fields = _Fields(content)
        label = fields.take("label", _count)
        if label > 1:
            raise ValueError(f"label is {label}, not 0 or 1")
        return cls(
            path=fields.take("path", _text),
            defect=fields.take("defect", _text),
            label=label,
            score=fields.take("score", _number),
            p_value=fields.take("p_value", _optional(_number)),
            misranked=fields.take("misranked", _optional(_number)),
            figure=fields.take("figure", _optional(_text)),
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
            ValueError: it is not a whole threshold.
        """
        fields = _Fields(content)
        return cls(fields.take("value", _optional(_number)), fields.take("name", _text))


@dataclass(frozen=True)
class ClassRecord:
    """The results of one class.

    Attributes:
        class_name: name of the class.
        order: position of the class in tables: the paper's order, then all others.
        metrics: by name; None for a metric that does not exist for the class.
        draws: each metric in all draws of the test images, as ``draws.pack`` has it.
        n_train: number of training images.
        n_test: number of test images.
        seconds: wall time of the class; None until it has been measured.
        notes: remarks for the reader of the numbers.
        threshold: of the predicted masks.
        curves: ``image_roc``, ``pixel_roc`` and ``pro`` as x and y; None for a missing curve.
        images: every test image.
        data_digest: checksum of the names, sizes and times of the files of the class; None until
            it is known.
        image_checksum: of what is in the files; None until it is known.
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
    curves: Mapping[str, CurvePoints | None]
    images: tuple[ImageRecord, ...]
    data_digest: str | None
    image_checksum: str | None

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
        """The record of a decoded JSON object. Keys that are no attributes are ignored.

        Raises:
            ValueError: it is not a whole record: a value is missing, of another type, or not
                finite.
        """
        fields = _Fields(content)
        return cls(
            class_name=fields.take("class_name", _text),
            order=fields.take("order", _count),
            metrics=fields.take("metrics", _mapping(_optional(_number))),
            draws=fields.take("draws", _mapping(_draws)),
            n_train=fields.take("n_train", _count),
            n_test=fields.take("n_test", _count),
            seconds=fields.take("seconds", _optional(_number)),
            notes=fields.take("notes", _tuple(_text)),
            threshold=fields.take("threshold", Threshold.from_json),
            curves=fields.take("curves", _mapping(_optional(_curve))),
            images=fields.take("images", _tuple(ImageRecord.from_json)),
            data_digest=fields.take("data_digest", _optional(_text)),
            image_checksum=fields.take("image_checksum", _optional(_text)),
        )


class _Fields:
    """The values of a JSON object, each checked when it is taken."""

    def __init__(self, content: object) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"a JSON object is expected, not {type(content).__name__}")
        self._content = content

    def take(self, name: str, check: Callable[[object], T]) -> T:
        if name not in self._content:
            raise ValueError(f"{name} is missing")
        try:
            return check(self._content[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is expected, not {value!r}")
    return value


def _draws(value: object) -> str:
    unpack(text := _text(value))
    return text


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"a finite number is expected, not {value!r}")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"a count is expected, not {value!r}")
    return value


def _optional(check: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else check(value)


def _tuple(check: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def checked(value: object) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"a list is expected, not {value!r}")
        return tuple(check(item) for item in value)

    return checked


def _mapping(check: Callable[[object], T]) -> Callable[[object], dict[str, T]]:
    def checked(value: object) -> dict[str, T]:
        fields = _Fields(value)
        return {name: fields.take(name, check) for name in value}  # type: ignore[attr-defined]

    return checked


def _curve(value: object) -> CurvePoints:
    axes = _tuple(_tuple(_number))(value)
    if len(axes) != 2 or len(axes[0]) != len(axes[1]):
        raise ValueError("a curve is two lists of one length")
    return list(axes[0]), list(axes[1])
