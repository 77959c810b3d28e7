"""The engine: every class is decoded once, seen by each backbone once, and modelled many times."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.loading.labelled import Batch, ImageStream
from datasets.types import AnomalyClass
from utils.experiment.class_features import ClassFeatures
from utils.experiment.configuration import Protocol
from utils.experiment.network import Network
from utils.experiment.outputs import Task
from utils.experiment.processes import Processes
from utils.system.console import progress


@dataclass(frozen=True)
class ClassWork:
    """A class that is not finished.

    Attributes:
        item: the class.
        digest: of its files, from before any image was read.
        tasks: those that have no results of the class.
    """

    item: AnomalyClass
    digest: str
    tasks: tuple[Task, ...]


def find_work(
    classes: Sequence[tuple[AnomalyClass, str]],
    tasks: Sequence[Task],
    processes: Processes,
    is_overwritten: bool = False,
) -> list[ClassWork]:
    """The classes that are missing in the output of at least one task.

    Args:
        classes: with the digests of their files.
        tasks: of this process.
        processes: the first one alone looks, for it is the one that writes.
        is_overwritten: whether finished classes are done again.

    Raises:
        OptionError: a class is there of other settings or images.
    """

    def missing() -> list[list[int]]:
        return [
            [
                index
                for index, task in enumerate(tasks)
                if is_overwritten or not task.output.is_finished(item.name, digest)
            ]
            for item, digest in classes
        ]

    return [
        ClassWork(item, digest, tuple(tasks[index] for index in indices))
        for (item, digest), indices in zip(classes, processes.in_first(missing), strict=True)
        if indices
    ]


@dataclass(frozen=True)
class Engine:
    """Runs the tasks of classes.

    Attributes:
        networks: by the name of the backbone.
        protocol: of the models.
        processes: that share the images of a class.
        scratch: folder of the file for feature maps that memory is too small for.
    """

    networks: Mapping[str, Network]
    protocol: Protocol
    processes: Processes
    scratch: Path

    def run_class(self, work: ClassWork, stream: ImageStream) -> None:
        """Do the tasks of a class, whose images are the next ones of ``stream``.

        Raises:
            DataError: an image cannot be read, or the files have changed since the digest.
        """
        started = time.perf_counter()
        share = self.processes.share(work.item)
        counts = len(share.train), len(share.test)
        train: Iterable[Batch] = self._shown(stream.take(counts[0]), counts[0], work.item, "fit")
        test: Iterable[Batch] = self._shown(
            _checked(stream.take(counts[1]), work), counts[1], work.item, "score"
        )
        by_backbone: dict[str, list[Task]] = {}
        for task in work.tasks:
            by_backbone.setdefault(task.job.backbone, []).append(task)
        if len(by_backbone) > 1:
            train, test = list(train), list(test)
        is_shared = sum(len(task.job.models) for task in work.tasks) > 1
        folder = self.scratch if is_shared else None
        for name, tasks in by_backbone.items():
            features = ClassFeatures(
                self.networks[name],
                train,
                test,
                counts,
                len(work.item.train),
                self.protocol,
                self.processes,
                folder,
            )
            for task in tasks:
                self.run_task(task, features, work, started)
                started = time.perf_counter()

    def run_task(
        self, task: Task, features: ClassFeatures, work: ClassWork, started: float
    ) -> None:
        """Fit and score the models of one task."""
        output, n_test = task.output, len(work.item.test)
        with output.write_class(work.item, work.digest, started) as writer:
            for spec in task.job.models:
                model = features.fit(spec, output.is_calibrated)
                writer.fitted(model)
                scores = features.score(model, spec, output.keeps_images)
                scores = self.processes.gather(scores, model, n_test)
                writer.scored(spec, model, scores, features.examples)

    def _shown(
        self, batches: Iterable[Batch], n_images: int, item: AnomalyClass, phase: str
    ) -> Iterator[Batch]:
        is_shown = self.processes.is_first
        return progress(batches, n_images, item.name, phase, is_shown=is_shown)


def _checked(batches: Iterable[Batch], work: ClassWork) -> Iterator[Batch]:
    """The last images of a class, then a check that its files are still those of the digest."""
    yield from batches
    work.item.check_unchanged(work.digest)
