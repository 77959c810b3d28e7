"""The feature maps of the images of a class, kept to fit many models to them.

Decoding and the backbone take most of the time of a run. Draws of channels, reductions and single
layers all use the same feature maps, so they are computed once. A 224-pixel image takes 1.4 MB with
ResNet-18, 5.6 MB with Wide ResNet-50-2 and 0.7 MB with EfficientNet-B5.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from padim.storage.files import naming, temporary_file

MEMORY_BYTES = 4 * 2**30  # of one split of a class; larger ones go to a file


class FeatureStore:
    """The feature maps of images, batch by batch as the backbone computed them.

    They stay on the device if it has room for them twice, in memory up to ``MEMORY_BYTES``, and
    otherwise in a file without a name, which is gone when the process ends.

    Args:
        batches: feature maps of the images, each (B, C_l, H_l, W_l).
        n_images: number of images of all batches.
        folder: of the file.

    Raises:
        OSError: the folder has no room for the file.
    """

    def __init__(self, batches: Iterable[list[torch.Tensor]], n_images: int, folder: Path) -> None:
        self._blocks: list[slice] = []
        self._maps: list[torch.Tensor] = []
        end = 0
        for batch in batches:
            if not self._maps:
                self._device = batch[0].device
                self._maps = _room_for(batch, n_images, folder)
            self._blocks.append(slice(end, end + len(batch[0])))
            end = self._blocks[-1].stop
            for kept, feature_map in zip(self._maps, batch, strict=True):
                kept[self._blocks[-1]] = feature_map.permute(0, 2, 3, 1)

    def of(self, indices: Sequence[int]) -> Iterable[list[torch.Tensor]]:
        """The batches of some of the layers, to be read any number of times."""
        return _Selection(self, indices)

    def batches(self, indices: Sequence[int]) -> Iterator[list[torch.Tensor]]:
        """Read the batches of some of the layers once."""
        for block in self._blocks:
            yield [
                self._maps[index][block].permute(0, 3, 1, 2).to(self._device) for index in indices
            ]


class _Selection:
    def __init__(self, store: FeatureStore, indices: Sequence[int]) -> None:
        self._store, self._indices = store, indices

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        return self._store.batches(self._indices)


def _room_for(batch: list[torch.Tensor], n_images: int, folder: Path) -> list[torch.Tensor]:
    """Tensors (n, H_l, W_l, C_l): channels last, the order the feature maps have in memory."""
    shapes = [(n_images, *one.shape[2:], one.shape[1]) for one in batch]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    n_bytes = 4 * sum(sizes)
    device = batch[0].device
    if device.type == "cuda" and 2 * n_bytes < torch.cuda.mem_get_info(device)[0]:
        return [batch[0].new_empty(shape) for shape in shapes]
    flat = torch.empty(sum(sizes)) if n_bytes <= MEMORY_BYTES else _nameless(sum(sizes), folder)
    return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def _nameless(size: int, folder: Path) -> torch.Tensor:
    """float32 (size,) in a file of ``folder`` that ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)  # other processes than the first have not made it
    with naming(folder), temporary_file(folder) as (path, descriptor):
        if descriptor is not None and hasattr(
            os, "posix_fallocate"
        ):  # a full disk is an error here, not a crash later
            os.posix_fallocate(descriptor, 0, 4 * size)
        return torch.from_file(str(path), shared=True, size=size)
