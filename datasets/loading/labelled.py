"""The images of all classes as one stream of batches, decoded ahead in worker processes.

There is one stream for a run, not one for each class and split: the workers start once, and read
the next class while a class is scored and drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.worker_process import Reading
from datasets.loading.workers import BatchReader, Hooks
from datasets.types import AnomalyClass, Sample
from padim.errors import PaDiMError
from padim.preprocessing import Preprocessing

# Decoded crops are small compared with anything else. The more there may be, the longer workers can
# go on while the network is loaded or a class is fitted.
READ_AHEAD_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Batch:
    """Decoded images of one class and split.

    Attributes:
        images: uint8 (B, 3, crop, crop).
        masks: bool (B, crop, crop); all false for a sample without a mask.
    """

    images: torch.Tensor
    masks: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)


class ImageStream:
    """Batches of all classes, in order: training images, then test images, class after class.

    Args:
        classes: the classes to read, in the order in which they are taken.
        preprocessing: applied to every image and mask.
        batch_size: images a batch, at most.
        num_workers: processes that decode; 0 decodes in the calling process.
        cache: folder where decoded crops are kept for other runs; None for none.
        hooks: called while reading.

    A stream is a context manager: its workers end with the block, also after an error.
    """

    def __init__(
        self,
        classes: Sequence[AnomalyClass],
        preprocessing: Preprocessing,
        batch_size: int = 16,
        num_workers: int = 0,
        cache: Path | None = None,
        hooks: Hooks = Hooks(),  # noqa: B008 - frozen
    ) -> None:
        plan: list[Sequence[Sample]] = []
        for split in (split for item in classes for split in (item.train, item.test)):
            plan += [split[i : i + batch_size] for i in range(0, len(split), batch_size)]
        self._batch_size = batch_size
        self._cache = None if cache is None else ImageCache(cache, preprocessing)
        if self._cache is not None:
            self._cache.sweep()
        reading = Reading(plan, _Reader(preprocessing, self._cache), _collate)
        ahead = _read_ahead(batch_size, preprocessing.crop, num_workers)
        self._open = partial(BatchReader, reading, num_workers, ahead, hooks)
        self._reader: BatchReader[Sample, Batch | PaDiMError] | None = None
        self._batches: Iterator[Batch | PaDiMError] = iter(())

    def start(self) -> ImageStream:
        """Start the workers now; otherwise they start when the first batch is taken."""
        if self._reader is None:
            self._reader = self._open()
            self._batches = iter(self._reader)
        return self

    @property
    def n_damaged(self) -> int:
        """Number of files of the cache that were damaged and made again."""
        return 0 if self._cache is None else self._cache.n_damaged.value

    def close(self) -> None:
        """End the workers, also if the traceback of an error still refers to the stream."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> ImageStream:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def take(self, n_images: int) -> Iterator[Batch]:
        """The next batches, for one split of ``n_images``.

        Raises:
            PaDiMError: an image or mask cannot be read, or a worker ended.
        """
        self.start()
        for batch in islice(self._batches, -(-n_images // self._batch_size)):
            if isinstance(batch, PaDiMError):
                raise batch
            yield batch


def _read_ahead(batch_size: int, crop: int, num_workers: int) -> int:
    """How many batches wait in each worker."""
    batch_bytes = 4 * batch_size * crop**2  # images of three channels, and their masks
    return max(1, READ_AHEAD_BYTES // (batch_bytes * max(1, num_workers)))


class _Reader:
    def __init__(self, preprocessing: Preprocessing, cache: ImageCache | None) -> None:
        self._read: Callable[[Sample], tuple[torch.Tensor, torch.Tensor]] = partial(
            read_sample, preprocessing=preprocessing
        )
        if cache is not None:
            self._read = cache.read

    def __call__(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor] | PaDiMError:
        try:
            return self._read(sample)
        except PaDiMError as error:
            return error  # a value, so that it is told from a fault of the program


def _collate(
    items: list[tuple[torch.Tensor, torch.Tensor] | PaDiMError],
) -> Batch | PaDiMError:
    read = []
    for item in items:
        if isinstance(item, PaDiMError):
            return item
        read.append(item)
    images, masks = zip(*read, strict=True)
    return Batch(torch.stack(images), torch.stack(masks))
