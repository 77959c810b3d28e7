"""Odd training images: those flagged by the other images, and exact duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.types import AnomalyClass
from padim.calibration import Calibration
from utils.evaluation.schema import Fields, number, optional, several, share, text

ODD_RATE = 0.01  # images with at most this p-value are named
NAMED = 5  # names in a line


@dataclass(frozen=True)
class TrainingImage:
    """One training image, judged by the other ones.

    Attributes:
        path: relative to the folder of the class; for a video frame, with its number.
        score: image score by the Gaussians of the other images; None if it was not computed.
        p_value: the share of the leave-one-out scores that are at least as high, with its own.
        same_as: the paths of the other images of the class, training and test, with the same
            pixels in the crop.
    """

    path: str
    score: float | None
    p_value: float | None
    same_as: tuple[str, ...] = ()

    @property
    def is_odd(self) -> bool:
        """Whether the other images call it defective at ``ODD_RATE``."""
        return self.p_value is not None and self.p_value <= ODD_RATE

    @classmethod
    def from_json(cls, content: object) -> TrainingImage:
        """The image of a decoded JSON object.

        Raises:
            ValueError: it is not a whole one, or holds more.
        """
        with Fields(content) as fields:
            return cls(
                path=fields.take("path", text),
                score=fields.take("score", optional(number)),
                p_value=fields.take("p_value", optional(share)),
                same_as=fields.take("same_as", several(text)),
            )


def judge_training(
    item: AnomalyClass, calibration: Calibration | None, same: Sequence[Sequence[str]]
) -> tuple[TrainingImage, ...]:
    """The training images of a class, highest leave-one-out score first.

    Args:
        item: the class.
        calibration: of a model that has been fitted to it here; None if it has none.
        same: the groups of equal images, as ``equal_images`` finds them.
    """
    n_images = len(item.train)
    scores: dict[int, float] = {}
    if calibration is not None and calibration.scores_in_order is not None:
        found = calibration.scores_in_order
        scores = dict(zip(_scored(n_images, len(found)), found, strict=True))
    ranked = np.sort(list(scores.values()))
    groups = {path: group for group in same for path in group}
    images = []
    for index, sample in enumerate(item.train):
        path, score = item.path_of(sample), scores.get(index)
        p_value = None
        if score is not None:
            p_value = float(len(ranked) - np.searchsorted(ranked, score)) / len(ranked)
        others = tuple(other for other in groups.get(path, ()) if other != path)
        images.append(TrainingImage(path, score, p_value, others))
    return tuple(sorted(images, key=lambda one: (one.score is None, -(one.score or 0))))


def _scored(n_images: int, n_scores: int) -> list[int]:
    """The images that have a leave-one-out score, as ``GaussianLearner`` chooses them.

    If memory is too small for the embeddings of all, it keeps an evenly spread subset.
    """
    rows = [-(-i * n_scores // n_images) for i in range(n_images + 1)]
    return [i for i in range(n_images) if rows[i] < rows[i + 1]]


def checksums(crops: Iterable[np.ndarray]) -> list[bytes]:
    """A checksum of the pixels of each crop, uint8 (crop, crop, 3)."""
    return [hashlib.blake2b(crop.tobytes(), digest_size=16).digest() for crop in crops]


def equal_images(
    item: AnomalyClass, train: Sequence[bytes], test: Sequence[bytes]
) -> list[tuple[str, ...]]:
    """The groups of images that are equal in every pixel, from ``checksums`` of both splits."""
    groups: dict[bytes, list[str]] = {}
    samples = (*item.train, *item.test)
    for sample, checksum in zip(samples, (*train, *test), strict=True):
        groups.setdefault(checksum, []).append(item.path_of(sample))
    return [tuple(paths) for paths in groups.values() if len(paths) > 1]


def duplicate_notes(item: AnomalyClass, same: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The remarks on equal images, first on those in both training and test."""
    train = {item.path_of(sample) for sample in item.train}
    leaks = [group for group in same if 0 < len(train.intersection(group)) < len(group)]
    others = [group for group in same if group not in leaks]
    notes = []
    if leaks:
        what = "the same image is in training and test, so that the numbers are too good"
        notes.append(f"{what}: {_named([' = '.join(group) for group in leaks])}")
    if others:
        notes.append(f"the same image twice: {_named([' = '.join(group) for group in others])}")
    return tuple(notes)


def odd_line(images: Sequence[TrainingImage]) -> str | None:
    """One line that names the training images flagged by the others; None without any."""
    odd = [one for one in images if one.is_odd]
    if not odd:
        return None
    by_chance = int(ODD_RATE * sum(one.score is not None for one in images))
    names = _named([f"{one.path} ({one.score:.4g})" for one in odd])
    return (
        f"look at these training images, which the others call defective at {100 * ODD_RATE:g} % "
        f"({by_chance} would be if all are normal): {names}"
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
