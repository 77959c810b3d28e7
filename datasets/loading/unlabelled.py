"""Images to judge: from any folders and files, without labels, decoded ahead in worker processes.

An image that cannot be read is returned with the reason, so that the others can be judged. Only
paths are kept, so that memory does not grow with the images.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from datasets.loading.worker_process import Reading
from datasets.loading.workers import BatchReader, Hooks
from datasets.types import DataError, counted
from padim.config import IMAGE_SUFFIXES
from padim.errors import PaDiMError
from padim.preprocessing import Preprocessing
from padim.reading.folders import (
    NO_FILE,
    RESULTS,
    Skipped,
    are_results,
    list_folder,
    reason_no_image,
    reason_not_searched,
)
from padim.reading.image_file import read_image


@dataclass(frozen=True)
class FoundImage:
    """An image to judge.

    Attributes:
        path: the file.
        name: its path within its input, with ``/`` and without ``..``; unique.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class FolderBatch:
    """Images of one batch: those that could be read, then those that could not.

    Attributes:
        found: the images read.
        crops: uint8 (B, 3, crop, crop), of these; None if there are none.
        sizes: (width, height) in pixels of each.
        failed: the other images, each with the reason.
    """

    found: list[FoundImage]
    crops: torch.Tensor | None
    sizes: list[tuple[int, int]]
    failed: list[tuple[FoundImage, str]]

    def __len__(self) -> int:
        return len(self.found) + len(self.failed)


def find_images(
    inputs: Sequence[Path],
    left_out: Sequence[Path] = (),
    unused: list[Skipped] | None = None,
    option: str = "--input",
) -> list[FoundImage]:
    """All images in folders, however deep, and single files, in the order of their names.

    The name of a file decides whether it is an image, in folders and for single files alike. A
    folder that is reached twice, through a symbolic link, is searched once. With several inputs,
    names begin with that of the folder; if two are still equal, a number is added.

    Args:
        inputs: folders and files.
        left_out: folders inside the inputs that are not searched.
        unused: files that are not used are added to it.
        option: the option of the inputs, for messages.

    Raises:
        DataError: an input is missing, or there is no image.
    """
    skipped = {path.resolve() for path in left_out}
    seen: set[tuple[int, int]] = set()
    names: dict[str, int] = {}
    unused = [] if unused is None else unused
    found = []
    for given in inputs:
        if not given.exists():
            raise DataError(f"{option} {given} does not exist")
        prefix = given.resolve().name if given.is_file() or len(inputs) > 1 else ""
        for path, name in _walk(given, prefix, skipped, seen, unused):
            found.append(FoundImage(path, _unlike(names, name)))
    if not found:
        searched = ", ".join(map(str, inputs))
        why = f"; not used: {counted(unused)}" if unused else ""
        expected = f"expected files *{', *'.join(IMAGE_SUFFIXES)}"
        raise DataError(f"no image in {searched}; {expected}{why}")
    return found


def read_batches(
    plan: Sequence[Sequence[FoundImage]],
    preprocessing: Preprocessing,
    num_workers: int = 0,
    hooks: Hooks = Hooks(),  # noqa: B008 - frozen
) -> BatchReader[FoundImage, FolderBatch]:
    """Decode images, in their order.

    Args:
        plan: the images of each batch.
        preprocessing: applied to each.
        num_workers: processes that decode; 0 decodes in the calling process.
        hooks: called on the way.
    """
    return BatchReader(Reading(plan, _Reader(preprocessing), _collate), num_workers, 1, hooks)


def read_batch(
    images: Sequence[FoundImage], preprocessing: Preprocessing, mapped: Callable[..., Any] = map
) -> FolderBatch:
    """Decode some images now; ``mapped`` may be that of a pool of threads."""
    return _collate(list(mapped(_Reader(preprocessing), images)))


class _Reader:
    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(
        self, image: FoundImage
    ) -> tuple[FoundImage, torch.Tensor | DataError, tuple[int, int]]:
        try:
            pixels = read_image(image.path, self._preprocessing.bits)
            height, width = pixels.shape[:2]
            return image, self._preprocessing.crop_of(pixels), (width, height)
        except (PaDiMError, OSError, MemoryError) as error:
            return image, DataError(str(error) or type(error).__name__), (0, 0)


def _collate(
    items: list[tuple[FoundImage, torch.Tensor | DataError, tuple[int, int]]],
) -> FolderBatch:
    read = [(image, crop, size) for image, crop, size in items if torch.is_tensor(crop)]
    failed = [(image, str(error)) for image, error, _ in items if isinstance(error, DataError)]
    return FolderBatch(
        [image for image, _, _ in read],
        torch.stack([crop for _, crop, _ in read]) if read else None,
        [size for _, _, size in read],
        failed,
    )


def _walk(
    given: Path,
    prefix: str,
    skipped: set[Path],
    seen: set[tuple[int, int]],
    unused: list[Skipped],
) -> Iterator[tuple[Path, str]]:
    """The images of an input, each with its name, depth first."""
    waiting = [(given, prefix)]
    while waiting:
        path, name = waiting.pop()
        try:
            status = path.stat()
            if not stat.S_ISDIR(status.st_mode):
                why = reason_no_image(path.name)
                why = why or (None if stat.S_ISREG(status.st_mode) else NO_FILE)
                if why is None:
                    yield path, name
                else:
                    unused.append(Skipped(path, why))
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if path != given and path.resolve() in skipped:
                continue
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        except OSError:  # a broken link, or a folder that may not be looked into: reading says so
            if path == given or reason_no_image(path.name) is None or path.is_dir():
                yield path, name
            else:
                unused.append(Skipped(path, reason_no_image(path.name) or NO_FILE))
            continue
        why = None
        if path != given:
            why = reason_not_searched(path.name)
            why = why or (RESULTS if are_results([entry.name for entry in entries]) else None)
        if why is not None:
            inside = list_folder(path)
            files = (*inside.images, *(one.path for one in inside.skipped))
            unused += [Skipped(file, why) for file in files]
            continue
        waiting += [
            (path / entry.name, f"{name}/{entry.name}" if name else entry.name) for entry in entries
        ]


def _unlike(names: dict[str, int], name: str) -> str:
    """The name, with a number before its suffix if it is taken; ``names`` counts them."""
    path, unlike = PurePosixPath(name), name
    while unlike in names:
        names[name] += 1
        unlike = str(path.with_name(f"{path.stem}_{names[name]}{path.suffix}"))
    names[unlike] = 1
    return unlike
