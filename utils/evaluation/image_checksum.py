"""A checksum that tells whether two people have the same images."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path

from datasets.types import AnomalyClass, DataError, Sample

LETTERS = 16  # of a checksum, 64 bits
PART = 2**20  # bytes read at once


def image_checksum(item: AnomalyClass) -> str:
    """The SHA-256 of the contents of the image and mask files of a class, 16 letters.

    It depends on the bytes of each training image, and of each test image with its mask. It does
    not depend on the names, order and times of the files, nor on the kinds of defects.

    Raises:
        DataError: a file cannot be read.
    """
    of_file = cache(_of_file)  # a video once, not once a frame

    def line(split: str, sample: Sample) -> str:
        label = "defective" if sample.is_defective else "good"
        mask = of_file(sample.mask) if sample.mask else None
        if sample.more_masks:
            mask = " ".join(sorted(map(of_file, (sample.mask, *sample.more_masks))))
        return f"{split} {label} {of_file(sample.path)} {sample.frame} {mask} {sample.mask_frame}\n"

    lines = [line(split, sample) for split in ("train", "test") for sample in getattr(item, split)]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:LETTERS]


@lru_cache(maxsize=1)
def checksum_of(item: AnomalyClass, digest: str) -> str:
    """``image_checksum``, once for all seeds and configurations of a class.

    Args:
        item: the class.
        digest: of its files, ``AnomalyClass.digest``.
    """
    return image_checksum(item)


def _of_file(path: Path) -> str:
    summary = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(PART):
                summary.update(part)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    return summary.hexdigest()
