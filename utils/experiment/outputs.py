"""The interface of the engine to the places for results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from datasets.types import AnomalyClass
from padim.model import PaDiM
from utils.evaluation.class_scores import ClassScores
from utils.experiment.configuration import Job, ModelSpec


class ClassWriter(Protocol):
    """Receives the models of one class, one after another."""

    def fitted(self, model: PaDiM, train: Sequence[bytes]) -> None:
        """A model has been fitted; its test images are scored next.

        Args:
            model: the model.
            train: checksums of the pixels of all training images.
        """

    def scored(
        self, spec: ModelSpec, model: PaDiM, scores: ClassScores, examples: torch.Tensor | None
    ) -> None:
        """The test images have been scored.

        Args:
            spec: of the model.
            model: the model, whole.
            scores: of all test images.
            examples: a few test images, uint8 (n, 3, crop, crop).
        """

    def results(self) -> Sequence[Mapping[str, float | None]]:
        """The metrics of every configuration, to be shown when the class is finished."""


class Output(Protocol):
    """Where the results of a job go."""

    @property
    def is_calibrated(self) -> bool:
        """Whether the models are calibrated by leave-one-out scores."""

    @property
    def keeps_images(self) -> bool:
        """Whether the scores come with the images."""

    def is_finished(self, item: AnomalyClass, digest: str) -> bool:
        """Whether the results of a class and their files are complete.

        Raises:
            OptionError: they are of other settings or other images.
        """

    def write_class(
        self, item: AnomalyClass, digest: str, started: float
    ) -> AbstractContextManager[ClassWriter]:
        """Write the results of a class. It is finished when the block ends well.

        Args:
            item: the class.
            digest: of its files.
            started: ``time.perf_counter`` at the start of the class.
        """


@dataclass(frozen=True)
class Task:
    """A job, and where its results go."""

    job: Job
    output: Output
