"""The images of all classes as one stream of batches, decoded ahead in worker processes.

There is one stream for a whole run, not one for each class and split: the workers start once, and
while a class is scored and drawn, the next one is already being read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from datasets.loading import workers
from datasets.loading.cache import ImageCache, read_sample
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

    def pin_memory(self) -> Batch:
        """Called by the loader, where images go on to a GPU."""
        return Batch(self.images.pin_memory(), self.masks.pin_memory())


class ImageStream:
    """Batches of all classes, in order: training images, then test images, class after class.

    Args:
        classes: what to read, in the order in which it will be taken.
        preprocessing: applied to every image and mask.
        batch_size: images a batch, at most.
        num_workers: processes that decode; 0 decodes in the calling process.
        pin_memory: whether batches are pinned, for a GPU.
        cache: folder where decoded crops are kept for other runs; None for none.
        worker_init: called in every worker when it starts.

    A stream is a context manager: its workers end however the block is left.
    """

    def __init__(
        self,
        classes: Sequence[AnomalyClass],
        preprocessing: Preprocessing,
        batch_size: int = 16,
        num_workers: int = 0,
        pin_memory: bool = False,
        cache: Path | None = None,
        worker_init: Callable[[], None] | None = None,
    ) -> None:
        samples: list[Sample] = []
        plan: list[list[int]] = []
        for split in (split for item in classes for split in (item.train, item.test)):
            first, end = len(samples), len(samples) + len(split)
            samples.extend(split)
            plan += [
                list(range(i, min(i + batch_size, end))) for i in range(first, end, batch_size)
            ]
        self._batch_size = batch_size
        self._loader = DataLoader(
            _Samples(samples, preprocessing, cache),
            batch_sampler=plan,
            num_workers=num_workers,
            collate_fn=_collate,
            worker_init_fn=workers.initialiser(worker_init),
            prefetch_factor=_read_ahead(batch_size, preprocessing.crop, num_workers),
            pin_memory=pin_memory,
        )
        self._batches: Generator[Batch | PaDiMError, None, None] | None = None

    def start(self) -> ImageStream:
        """Start the workers now; otherwise they start when the first batch is taken."""
        if self._batches is None:
            self._batches = workers.batches_of(self._loader)
        return self

    def close(self) -> None:
        """End the workers, also if the traceback of an error still refers to the stream."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __enter__(self) -> ImageStream:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def take(self, n_images: int) -> Iterator[Batch]:
        """The next batches, as many as one split of ``n_images`` has.

        Raises:
            PaDiMError: an image or mask cannot be read, or a worker ended.
        """
        self.start()
        assert self._batches is not None
        for batch in islice(self._batches, -(-n_images // self._batch_size)):
            if isinstance(batch, PaDiMError):
                raise batch
            yield batch


def _read_ahead(batch_size: int, crop: int, num_workers: int) -> int | None:
    """How many batches each worker may be ahead."""
    if num_workers == 0:
        return None
    batch_bytes = 4 * batch_size * crop**2  # images of three channels, and their masks
    return max(2, READ_AHEAD_BYTES // (batch_bytes * num_workers))


class _Samples(Dataset):
    def __init__(
        self, samples: list[Sample], preprocessing: Preprocessing, cache: Path | None
    ) -> None:
        self._samples = samples
        self._read: Callable[[Sample], tuple[torch.Tensor, torch.Tensor]] = partial(
            read_sample, preprocessing=preprocessing
        )
        if cache is not None:
            self._read = ImageCache(cache, preprocessing).read

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | PaDiMError:
        try:
            return self._read(self._samples[index])
        except PaDiMError as error:
            return error  # raised in a worker, it would carry the worker's traceback in its text


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
