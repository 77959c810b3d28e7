"""Decoded crops kept in a folder, so that another seed or backbone decodes nothing again.

One small file an image: its crop, then its mask's, as raw bytes. The name is a checksum of all that
decides the content (path, size and time of the files, resize and crop), so a changed image is
another file, and nothing is ever rewritten. A file appears whole under its name, so any number of
runs may share a folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.loading.video import mask_of_frame, read_frame
from datasets.masks import read_mask
from datasets.types import DataError, Sample
from padim.image_file import read_image
from padim.preprocessing import Preprocessing

VERSION = 2  # of how a crop is made; another one makes all that is kept invalid


@dataclass(frozen=True)
class ImageCache:
    """Crops of images and masks by ``preprocessing``, kept in ``folder``."""

    folder: Path
    preprocessing: Preprocessing

    def read(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``read_sample``, decoded only where it is not yet kept.

        Raises:
            DataError: the image or its mask cannot be read, or the folder not be written.
        """
        path = self.folder / self._name(sample)
        crop = self.preprocessing.crop
        try:
            is_kept = path.stat().st_size == 4 * crop * crop
        except OSError:
            is_kept = False
        if is_kept:
            # Mapped, not read: a part in the machine's file cache costs one copy.
            kept = np.memmap(path, np.uint8, mode="c", shape=(4, crop, crop))
            pixels = torch.from_numpy(kept)
            return pixels[:3], pixels[3].bool()
        image, mask = read_sample(sample, self.preprocessing)
        self._keep(path, torch.cat((image, mask[None].to(torch.uint8))))
        return image, mask

    def _name(self, sample: Sample) -> str:
        how = self.preprocessing.of(sample.path)
        facts: list[object] = [VERSION, how, sample.frame, sample.mask_frame]
        for file in filter(None, (sample.path, sample.mask)):
            try:
                stat = file.stat()
            except OSError as error:
                raise DataError(f"image {file} cannot be read ({error.strerror})") from error
            facts += [os.fsencode(file.absolute()), stat.st_size, stat.st_mtime_ns]
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
        return f"{name[:2]}/{name}.crop"

    def _keep(self, path: Path, pixels: torch.Tensor) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(pixels.numpy().tobytes())
                Path(name).replace(path)  # closed before, so whole
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"--image_cache {self.folder} cannot be written to ({error.strerror}); "
                "give another folder, or leave it out"
            ) from error


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
    if sample.mask_frame is None:
        return image, how.crop_of_mask(read_mask(sample.mask, sample.path))
    return image, how.crop_of_mask(mask_of_frame(sample.mask, sample.mask_frame))
