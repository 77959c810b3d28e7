"""The engine: decodes a class once, runs each backbone on it once, and fits many models."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets.loading.labelled import Batch, ImageStream
from datasets.region_of_interest import ClassRegion
from datasets.types import AnomalyClass
from utils.experiment.class_features import ClassFeatures
from utils.experiment.configuration import Protocol
from utils.experiment.network import Network
from utils.experiment.outputs import Task
from utils.experiment.processes import Processes
from utils.report.text import format_number
from utils.system.console import Pace, one_line, progress, say

Numbers = Mapping[str, "float | None"]


@dataclass(frozen=True)
class ClassWork:
    """A class that is not finished.

    Attributes:
        item: the class.
        digest: of its files, computed before any image is read.
        tasks: the tasks without results of the class.
    """

    item: AnomalyClass
    digest: str
    tasks: tuple[Task, ...]

    @property
    def n_images(self) -> int:
        """The number of its images."""
        return len(self.item.train) + len(self.item.test)


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
        processes: only the first one looks, since it writes.
        is_overwritten: whether finished classes are run again.

    Raises:
        OptionError: a class has results of other settings or images.
    """

    def missing() -> list[list[int]]:
        return [
            [
                index
                for index, task in enumerate(tasks)
                if is_overwritten or not task.output.is_finished(item, digest)
            ]
            for item, digest in classes
        ]

    return [
        ClassWork(item, digest, tuple(tasks[index] for index in indices))
        for (item, digest), indices in zip(classes, processes.in_first(missing), strict=True)
        if indices
    ]


class ClassLines:
    """A line for every class that is finished: its time, its AUROC, and the time that is left.

    Args:
        todo: the classes that are to be finished.
    """

    def __init__(self, todo: Sequence[ClassWork]) -> None:
        self._n_classes, self._n_finished = len(todo), 0
        self._pace = Pace(sum(work.n_images for work in todo))

    def finished(self, work: ClassWork, seconds: float, results: Sequence[Numbers]) -> None:
        """Print the line of a class.

        Args:
            work: the class.
            seconds: its time.
            results: metrics of every configuration.
        """
        self._n_finished += 1
        self._pace.done += work.n_images
        ends = (f"class {self._n_finished} of {self._n_classes}", self._pace.left())
        say(f"{_what(work, seconds, results)}; {', '.join(filter(None, ends))}", sys.stdout)


@dataclass(frozen=True)
class Engine:
    """Runs the tasks of classes.

    Attributes:
        networks: by the name of the backbone.
        protocol: of the models, except the crop.
        crops: side of the crop of every class.
        processes: that share the images of a class.
        scratch: folder of the file for feature maps that do not fit into memory.
        lines: printed when a class is finished.
        regions: the regions of interest, by class.
    """

    networks: Mapping[str, Network]
    protocol: Protocol
    crops: Mapping[str, int]
    processes: Processes
    scratch: Path
    lines: ClassLines
    regions: Mapping[str, ClassRegion] = field(default_factory=dict)

    def run_class(self, work: ClassWork, stream: ImageStream) -> None:
        """Run the tasks of a class, whose images are next in ``stream``, and print its line.

        Raises:
            DataError: an image cannot be read, or the files have changed since the digest.
        """
        begun = started = time.perf_counter()
        results: list[Numbers] = []
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
        protocol = replace(self.protocol, crop=self.crops[work.item.name])
        is_shared = sum(len(task.job.models) for task in work.tasks) > 1
        folder = self.scratch if is_shared else None
        n_train, is_shown = len(work.item.train), self.processes.is_first and len(work.tasks) > 1
        region = self.regions.get(work.item.name)
        for name, tasks in by_backbone.items():
            shared = (protocol, self.processes, folder, None if region is None else region.mask)
            features = ClassFeatures(self.networks[name], train, test, counts, n_train, *shared)
            what = f"{work.item.name}, {name}"
            for task in progress(tasks, len(tasks), what, "models", "model", is_shown):
                results += self.run_task(task, features, work, started)
                started = time.perf_counter()
        if self.processes.is_first:
            self.lines.finished(work, time.perf_counter() - begun, results)

    def run_task(
        self, task: Task, features: ClassFeatures, work: ClassWork, started: float
    ) -> Sequence[Numbers]:
        """Fit and score the models of one task; returns the metrics of its configurations."""
        output, n_test = task.output, len(work.item.test)
        with output.write_class(work.item, work.digest, started) as writer:
            for spec in task.job.models:
                model = features.fit(spec, output.is_calibrated)
                writer.fitted(model, self.processes.gathered(features.train_checksums))
                scores = features.score(model, spec, output.keeps_images)
                scores = self.processes.gather(scores, model, n_test)
                writer.scored(spec, model, scores, features.examples)
        return writer.results()

    def _shown(
        self, batches: Iterable[Batch], n_images: int, item: AnomalyClass, phase: str
    ) -> Iterator[Batch]:
        is_shown = self.processes.is_first
        return progress(batches, n_images, item.name, phase, is_shown=is_shown)


def _checked(batches: Iterable[Batch], work: ClassWork) -> Iterator[Batch]:
    """The last images of a class, then a check that its files are still those of the digest."""
    yield from batches
    work.item.check_unchanged(work.digest)


def _what(work: ClassWork, seconds: float, results: Sequence[Numbers]) -> str:
    """Such as ``bottle: 12.3 s, image AUROC 0.995, pixel AUROC 0.981``, with ranges of several."""
    parts = [f"{work.item.name}: {seconds:.1f} s"]
    parts += [f"{len(results)} configurations"] * (len(results) > 1)
    for level in ("image", "pixel"):
        values = sorted(v for one in results if (v := one[f"{level}_auroc"]) is not None)
        shown = dict.fromkeys(format_number("auroc", value) for value in values)
        ends = list(shown)[:: max(1, len(shown) - 1)]
        parts += [f"{level} AUROC {' to '.join(ends)}"] * bool(ends)
    return one_line(", ".join(parts))
