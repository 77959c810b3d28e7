"""What a class consists of, said in one line before any number is."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from datasets.types import AnomalyClass
from padim.reading.pillow_image import FORMATS, check_webp

Size = tuple[int, int]


@dataclass(frozen=True)
class DataSummary:
    """What is said of the images of a class, training and test images together.

    Attributes:
        n_images: images used.
        endings: how many have each ending, without the dot; the most frequent first.
        sides: shortest and longest side of all images in pixels; None if no header can be read.
        n_not_square: images that are squashed, for they are resized to a square.
        not_square: width and height of one of these; None without any.
        skipped: how many files are not used, by reason; the most frequent first.
        unseen: the share of each side, at either end, that the model does not look at.
    """

    n_images: int
    endings: Mapping[str, int]
    sides: Size | None
    n_not_square: int
    not_square: Size | None
    skipped: Mapping[str, int]
    unseen: float

    @property
    def text(self) -> str:
        """One line, such as ``70 images (40 jpg, 30 png), 192 to 900 px, 4 skipped (4 hidden)``."""
        parts = [f"{self.n_images} image{'s' * (self.n_images != 1)} ({_counts(self.endings)})"]
        if self.sides is not None:
            low, high = self.sides
            parts.append(f"{low} px" if low == high else f"{low} to {high} px")
        if self.skipped:
            parts.append(f"{sum(self.skipped.values())} skipped ({_counts(self.skipped)})")
        sentences = [", ".join(parts)]
        if self.not_square is not None:
            sentences.append(squashed_text(self.n_not_square, self.not_square))
        if self.unseen > 0:
            percent = 100 * self.unseen
            share = f"{percent:.0f}" if percent >= 1 else f"{percent:.1g}"
            sentences.append(f"the outer {share} % of each side is not looked at")
        return "; ".join(sentences)


def squashed_text(count: int, example: Size) -> str:
    """What is said of images that are not square, of which one has the size of ``example``."""
    return f"{count} not square, such as {example[0]} x {example[1]}: squashed to a square"


def unseen_share(resize: int, crop: int) -> float:
    """The share of a side, at either end, that a centre crop leaves out."""
    return (resize - crop) / (2 * resize)


@lru_cache(maxsize=64)
def summarise(item: AnomalyClass, resize: int, crop: int) -> DataSummary:
    """Summarise a class; the headers of its image files are read.

    Args:
        item: the class.
        resize, crop: as its images are preprocessed.
    """
    samples = (*item.train, *item.test)
    endings = [sample.path.suffix.lower().lstrip(".") for sample in samples]
    # Frames of videos would have to be decoded.
    sizes = _sizes([sample.path for sample in samples if sample.frame is None])
    not_square = [size for size in sizes if size[0] != size[1]]
    return DataSummary(
        n_images=len(samples),
        endings=by_count(endings),
        sides=(min(map(min, sizes)), max(map(max, sizes))) if sizes else None,
        n_not_square=len(not_square),
        not_square=not_square[0] if not_square else None,
        skipped=by_count(one.reason for one in item.skipped),
        unseen=unseen_share(resize, crop),
    )


def _sizes(paths: Sequence[Path]) -> list[Size]:
    """Width and height of each image as stored; one that is damaged is named when it is decoded."""
    sizes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            with suppress(Exception):  # Pillow raises almost any on a damaged file
                sizes.append(_size(path))
    return sizes


def _size(path: Path) -> Size:
    """As Pillow's header has it: the metadata, which may stand behind all pixels, do not matter."""
    with path.open("rb") as file:
        start = file.read(32)
        if start[8:12] == b"WEBP":
            check_webp(start, path.stat().st_size)
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            return image.size


def by_count(values: Iterable[str]) -> dict[str, int]:
    """How often each value comes, the most frequent first."""
    return dict(Counter(values).most_common())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name or 'without ending'}" for name, count in counts.items())
