"""What a backbone gives for the images of a class, kept so that many models can be made of it.

Decoding and the backbone are most of a run. Draws of channels, reductions and single layers all
start from the same taps, so these are made once. A 224-pixel image takes 1.4 MB with ResNet-18,
5.6 MB with Wide ResNet-50-2 and 0.7 MB with EfficientNet-B5.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from datasets.loading.labelled import Batch
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.parallel.process_group import ALONE, Team
from utils.evaluation.class_scores import ClassScores, score_class

TAP_BYTES = 4 * 2**30  # of one split of a class; what is larger goes to a file


class TapStore:
    """The taps of images, batch by batch as the backbone gave them.

    They are kept on the device where it has the room twice, in memory up to ``TAP_BYTES``, and
    beyond that in a file that has no name, so that nothing is left of it whatever happens.

    Args:
        batches: taps of the images, each (B, C_l, H_l, W_l).
        n_images: how many images they are together.
        folder: where the file may go.

    Raises:
        OSError: the folder has no room for it.
    """

    def __init__(self, batches: Iterable[list[torch.Tensor]], n_images: int, folder: Path) -> None:
        self._blocks: list[slice] = []
        self._taps: list[torch.Tensor] = []
        end = 0
        for batch in batches:
            if not self._taps:
                self._device = batch[0].device
                self._taps = _room_for(batch, n_images, folder)
            self._blocks.append(slice(end, end + len(batch[0])))
            end = self._blocks[-1].stop
            for kept, tap in zip(self._taps, batch, strict=True):
                kept[self._blocks[-1]] = tap.permute(0, 2, 3, 1)

    def of(self, indices: Sequence[int]) -> Iterable[list[torch.Tensor]]:
        """The same batches of some of the taps, to be gone through any number of times."""
        return _Selection(self, indices)

    def batches(self, indices: Sequence[int]) -> Iterator[list[torch.Tensor]]:
        """Once through the batches of some of the taps."""
        for block in self._blocks:
            yield [
                self._taps[index][block].permute(0, 3, 1, 2).to(self._device) for index in indices
            ]


class OnePass:
    """The images of one class, for models of one backbone: decoded and seen once by all of them.

    Args:
        backbone: the models'.
        train, test: the images of the class.
        counts: how many images these are.
        n_train: how many training images there are, those of the team's other processes too.
        folder: where taps may go that memory is too small for; None where there will be but one
            model, for which nothing is kept.
        team: the processes that share the images of the class.
    """

    def __init__(
        self,
        backbone: Backbone,
        train: Iterable[Batch],
        test: Iterable[Batch],
        counts: tuple[int, int],
        n_train: int,
        folder: Path | None,
        team: Team = ALONE,
    ) -> None:
        self._train, self._test, self._n_train, self._team = train, test, n_train, team
        self._taps: list[TapStore] = []
        if folder is not None:
            blank = PaDiM(backbone, PaDiMConfig("none"))
            fitted_on = blank.tap_batches(batch.images for batch in train)
            self._taps.append(TapStore(fitted_on, counts[0], folder))
            self._test = list(test)
            scored = blank.tap_batches(batch.images for batch in self._test)
            self._taps.append(TapStore(scored, counts[1], folder))
            self._every = range(len(backbone.layers))

    def fit(self, model: PaDiM) -> None:
        """Fit a model to the class; the only one, where there is no ``folder`` for taps."""
        if self._taps:
            model.fit_taps(self._taps[0].of(self._every), self._n_train, team=self._team)
        else:
            model.fit((batch.images for batch in self._train), self._n_train, self._team)

    def score(self, model: PaDiM) -> ClassScores:
        """Score the test images of the class with a model that has been fitted."""
        taps = self._taps[1].of(self._every) if self._taps else None
        return score_class(model, self._test, taps)


class _Selection:
    def __init__(self, store: TapStore, indices: Sequence[int]) -> None:
        self._store, self._indices = store, indices

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        return self._store.batches(self._indices)


def _room_for(batch: list[torch.Tensor], n_images: int, folder: Path) -> list[torch.Tensor]:
    """Tensors (n, H_l, W_l, C_l), in which a tap's own order, channels last, is kept."""
    shapes = [(n_images, *tap.shape[2:], tap.shape[1]) for tap in batch]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    n_bytes = 4 * sum(sizes)
    device = batch[0].device
    if device.type == "cuda" and 2 * n_bytes < torch.cuda.mem_get_info(device)[0]:
        return [batch[0].new_empty(shape) for shape in shapes]
    flat = torch.empty(sum(sizes)) if n_bytes <= TAP_BYTES else _nameless(sum(sizes), folder)
    return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def _nameless(size: int, folder: Path) -> torch.Tensor:
    """float32 (size,) in a file of ``folder`` that goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)  # in a team the first process alone has made it
    descriptor, name = tempfile.mkstemp(prefix=".taps-", dir=folder)
    try:
        if hasattr(os, "posix_fallocate"):  # a full disk is met here, not as a fault in the middle
            os.posix_fallocate(descriptor, 0, 4 * size)
        return torch.from_file(name, shared=True, size=size)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)
