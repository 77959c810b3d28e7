"""The processes that share the images of a run. Only this module asks for the rank."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from datasets.types import AnomalyClass, DataError
from padim.model import PaDiM
from padim.parallel.process_group import ProcessGroup
from utils.errors import OptionError
from utils.evaluation.class_scores import ClassScores
from utils.experiment.outputs import Output, Task

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run. Only rank 0 writes files.

    Attributes:
        group: the process group.
    """

    group: ProcessGroup = field(default_factory=ProcessGroup)

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Wait for the other processes that the environment describes.

        Raises:
            ModelError: they do not start.
        """
        return cls(ProcessGroup.from_environment(device))

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.group.is_first

    def in_first(self, work: Callable[[], T]) -> T:
        """Call a function in the first process only. All processes get its result."""
        return self.group.broadcast(work() if self.is_first else None)

    def in_first_only(self, work: Callable[[], None]) -> None:
        """Call a function in the first process only. The others do not wait for it."""
        if self.is_first:
            work()

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with the outputs of this process: only the first one writes."""
        return [
            task if self.is_first else replace(task, output=_Silent.like(task.output))
            for task in tasks
        ]

    def share(self, item: AnomalyClass) -> AnomalyClass:
        """This process's share of a class."""
        train, test = self.group.shard(len(item.train)), self.group.shard(len(item.test))
        return replace(item, train=item.train[train], test=item.test[test])

    def gather(self, scores: ClassScores, model: PaDiM, n_test: int) -> ClassScores:
        """Gather all scores and the whole model in the first process.

        Returns:
            The scores of all test images in the first process; those of their share in the others.
        """
        gathered = scores.gather(n_test, self.group)
        model.gather()
        return scores if gathered is None else gathered

    def check_alike(self, classes: Sequence[AnomalyClass], settings: Sequence[Mapping]) -> None:
        """Check that this process has the images and the settings of the first one.

        Raises:
            DataError: it has other images.
            OptionError: it has other weights or options.
        """
        if self.group.world_size == 1:
            return
        files = {item.name: item.digest(with_times=False) for item in classes}
        first_settings, first_files = self.group.broadcast((list(settings), files))
        here = f"process {self.group.rank} (on {platform.node()})"
        if list(settings) != first_settings:
            raise OptionError(
                f"{here} has other weights or options than process 0; give all processes the same"
            )
        for name in files | first_files:
            if files.get(name) != first_files.get(name):
                raise DataError(
                    f"{here} finds other images of class {name} than process 0; "
                    "let all processes see the same data set"
                )

    def gathered(self, own: Sequence[T]) -> list[T]:
        """The values of all processes' shares, in order, in the first process."""
        return [value for part in self.group.gather_objects(own) for value in part]

    def leave(self) -> None:
        """Leave the process group when all is done."""
        self.group.close()


@dataclass(frozen=True)
class _Silent:
    """The output of a process that does not write."""

    is_calibrated: bool
    keeps_images: bool

    @classmethod
    def like(cls, output: Output) -> _Silent:
        return cls(output.is_calibrated, output.keeps_images)

    def is_finished(self, item: AnomalyClass, digest: str) -> bool:
        return False

    def write_class(
        self, item: AnomalyClass, digest: str, started: float
    ) -> AbstractContextManager[_Silent]:
        return nullcontext(self)

    def fitted(self, model: PaDiM, train: Sequence[bytes]) -> None:
        pass

    def scored(self, *result: object) -> None:
        pass

    def results(self) -> Sequence[Mapping[str, float | None]]:
        return []
