"""The test images of a class, scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from datasets.loading.labelled import Batch
from padim.model import PaDiM
from padim.parallel.process_group import ProcessGroup


@dataclass(frozen=True)
class ClassScores:
    """The preprocessed test images of a class, and the model's results.

    Attributes:
        images: uint8 (n, crop, crop, 3); (n, 0, 0, 3) if they are not kept.
        masks: bool (n, crop, crop).
        maps: float32 (n, crop, crop), on the device of the model.
        scores: float32 (n,).
        region: bool (crop, crop), true where the model looks; None for everywhere.
    """

    images: np.ndarray
    masks: np.ndarray
    maps: torch.Tensor
    scores: np.ndarray
    region: np.ndarray | None = None

    @classmethod
    def empty(cls, crop: int) -> ClassScores:
        """The scores of a process without images."""
        return cls(
            np.empty((0, crop, crop, 3), np.uint8),
            np.empty((0, crop, crop), bool),
            torch.empty(0, crop, crop),
            np.empty(0, np.float32),
        )

    def gather(self, n_images: int, group: ProcessGroup) -> ClassScores | None:
        """Gather the scores of all processes in the first one.

        Args:
            n_images: of all processes together; each has its share of them.
            group: the processes.

        Returns:
            The scores of all images in the first process; None in the others.
        """
        if group.world_size == 1:
            return self
        own = (
            torch.from_numpy(self.images),
            torch.from_numpy(self.masks.view(np.uint8)),
            self.maps,
            torch.from_numpy(self.scores),
        )
        gathered = [group.gather(part, n_images) for part in own]
        parts = [part for part in gathered if part is not None]
        if not parts:
            return None
        images, masks, maps, scores = parts
        arrays = images.numpy(), masks.numpy().view(bool)
        return ClassScores(*arrays, maps.to(self.maps.device), scores.numpy(), self.region)


def score_class(
    model: PaDiM,
    batches: Iterable[Batch],
    features: Iterable[list[torch.Tensor]] | None = None,
    keeps_images: bool = True,
) -> ClassScores:
    """Score the test images of a class, and keep what its figures need.

    Args:
        model: fitted to the class.
        batches: its test images.
        features: the feature maps of ``batches``, if they have been computed before.
        keeps_images: whether to keep the images; otherwise ``images`` is empty.
    """
    seen: list[Batch] = []

    def without_images(batch: Batch) -> Batch:
        return batch if keeps_images else replace(batch, images=batch.images[:, :, :0, :0].clone())

    def images() -> Iterator[torch.Tensor]:
        for batch in batches:
            seen.append(without_images(batch))
            yield batch.images

    if features is None:
        features = model.feature_batches(images())
    else:
        seen += map(without_images, batches)
    results = list(model.score_features(features))  # nothing waits for the device here
    if not results:
        return ClassScores.empty(model.config.crop)
    return ClassScores(
        np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in seen]),
        np.concatenate([batch.masks.numpy() for batch in seen]),
        torch.cat([maps for maps, _ in results]),
        torch.cat([scores for _, scores in results]).cpu().numpy(),
        None if model.region is None else model.region.mask.cpu().numpy(),
    )
