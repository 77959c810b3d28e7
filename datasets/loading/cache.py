"""Decoded crops kept in a folder, so that runs with other seeds or backbones need not decode.

There is one file per image: the crop, the crop of the mask, and a checksum of both. Its name is a
checksum of path, size and time of the files, resize and crop, so a changed image has another file.
A file is rewritten only if its checksum is wrong. It appears under its name when it is complete, so
runs may share a folder.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import torch

from datasets.loading.video import mask_of_frame, read_frame
from datasets.masks import read_mask
from datasets.types import DataError, Sample
from padim.preprocessing import Preprocessing
from padim.reading.image_file import read_image
from padim.storage.files import sweep, written_whole

VERSION = 3  # of the way to make and keep crops; files of other versions are not used
CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class ImageCache:
    """Crops of images and masks by ``preprocessing``, kept in ``folder``.

    Attributes:
        folder: of the files.
        preprocessing: applied to every image and mask.
        n_damaged: number of files that were damaged and made again, in all processes.
    """

    folder: Path
    preprocessing: Preprocessing
    n_damaged: Synchronized[int] = field(default_factory=lambda: multiprocessing.Value("q"))

    def read(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``read_sample``, but decoded only if it is not in the cache.

        Raises:
            DataError: the image or its mask cannot be read, or the folder cannot be written.
        """
        path = self.folder / self._name(sample)
        kept = self._kept(path, self.preprocessing.of(sample.path).crop)
        if kept is not None:
            return kept[:3], kept[3].bool()
        image, mask = read_sample(sample, self.preprocessing)
        self._keep(path, torch.cat((image, mask[None].to(torch.uint8))))
        return image, mask

    def sweep(self) -> None:
        """Remove incomplete files of killed processes."""
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            sweep(folder)

    def _kept(self, path: Path, side: int) -> torch.Tensor | None:
        """The pixels (4, side, side) of a file; None if there is none that is whole."""
        size = 4 * side * side
        try:
            # Mapped, not read: this saves a copy.
            content: np.ndarray = np.memmap(path, np.uint8, mode="c")
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # an empty file cannot be mapped
            content = np.empty(0, np.uint8)
        pixels, checksum = content[:size], content[size:].tobytes()
        if len(pixels) == size and checksum == _checksum(pixels):
            return torch.from_numpy(pixels.reshape(4, side, side))
        with self.n_damaged.get_lock():
            self.n_damaged.value += 1
        return None

    def _name(self, sample: Sample) -> str:
        how = self.preprocessing.of(sample.path)
        facts: list[object] = [VERSION, how, sample.frame, sample.mask_frame]
        for file in sample.files:
            try:
                stat = file.stat()
            except OSError as error:
                raise DataError(f"image {file} cannot be read ({error.strerror})") from error
            facts += [os.fsencode(file.absolute()), stat.st_size, stat.st_mtime_ns]
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
        return f"{name[:2]}/{name}.crop"

    def _keep(self, path: Path, pixels: torch.Tensor) -> None:
        content = pixels.numpy()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial, partial.open("wb") as file:
                file.write(content.tobytes() + _checksum(content))
        except OSError as error:
            raise DataError(
                f"--image_cache {self.folder} cannot be written to ({error.strerror}); "
                "give another folder, or leave it out"
            ) from error


def _checksum(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(pixels.data, digest_size=CHECKSUM_BYTES).digest()


def read_sample(sample: Sample, preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops of a sample: uint8 (3, crop, crop), and bool (crop, crop), false without a mask.

    Raises:
        DataError: the image or its mask cannot be read.
    """
    how = preprocessing.of(sample.path)
    if sample.frame is None:
        image = how.crop_of(read_image(sample.path, how.bits))
    else:
        image = how.crop_of(read_frame(sample.path, sample.frame))
    if sample.mask is None:
        return image, torch.zeros(image.shape[1:], dtype=torch.bool)
    if sample.mask_frame is not None:
        return image, how.crop_of_mask(mask_of_frame(sample.mask, sample.mask_frame))
    masks = [
        how.crop_of_mask(read_mask(path, sample.path)) for path in (sample.mask, *sample.more_masks)
    ]
    return image, torch.stack(masks).any(dim=0)
