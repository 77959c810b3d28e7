"""The test images of a class, scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from datasets.loading.labelled import Batch
from padim.model import PaDiM
from padim.parallel.process_group import Team


@dataclass(frozen=True)
class ClassScores:
    """The test images of a class as they were seen, and what the model gave.

    Attributes:
        images: uint8 (n, crop, crop, 3).
        masks: bool (n, crop, crop).
        maps: float32 (n, crop, crop), where the model gave them.
        scores: float32 (n,).
    """

    images: np.ndarray
    masks: np.ndarray
    maps: torch.Tensor
    scores: np.ndarray

    @classmethod
    def of_none(cls, crop: int) -> ClassScores:
        """Of a process whose share of the images is empty."""
        return cls(
            np.empty((0, crop, crop, 3), np.uint8),
            np.empty((0, crop, crop), bool),
            torch.empty(0, crop, crop),
            np.empty(0, np.float32),
        )

    def collected(self, n_images: int, team: Team) -> ClassScores | None:
        """Those of all processes, each of which has its share of ``n_images``.

        Returns:
            All of them, in the memory of the first process; None to the others.
        """
        if team.size == 1:
            return self
        found = [
            team.collected(part, n_images)
            for part in (
                torch.from_numpy(self.images),
                torch.from_numpy(self.masks.view(np.uint8)),
                self.maps,
                torch.from_numpy(self.scores),
            )
        ]
        if not team.is_first:
            return None
        images, masks, maps, scores = found
        return ClassScores(
            images.numpy(), masks.numpy().view(bool), maps.to(self.maps.device), scores.numpy()
        )


def score_class(
    model: PaDiM, batches: Iterable[Batch], taps: Iterable[list[torch.Tensor]] | None = None
) -> ClassScores:
    """Score the test images of a class, and keep what figures need of them.

    Args:
        model: fitted to the class.
        batches: its test images.
        taps: of these, where the backbone has seen them already.
    """
    seen: list[Batch] = []

    def images() -> Iterator[torch.Tensor]:
        for batch in batches:
            seen.append(batch)
            yield batch.images

    if taps is None:
        taps = model.tap_batches(images())
    else:
        seen += batches
    found = list(model.score_batches(taps))  # nothing waits for the device here
    if not found:
        return ClassScores.of_none(model.config.crop)
    return ClassScores(
        np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in seen]),
        np.concatenate([batch.masks.numpy() for batch in seen]),
        torch.cat([maps for maps, _ in found]),
        torch.cat([scores for _, scores in found]).cpu().numpy(),
    )
