"""The numbers of a job on a class, and where they are kept; an output of the engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, reduce
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from datasets.types import AnomalyClass
from padim.anomaly_map import image_scores
from padim.model import PaDiM
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.image_checksum import image_checksum
from utils.evaluation.measure import measure_numbers
from utils.experiment.configuration import Configuration, Job, ModelSpec, Protocol
from utils.experiment.record_store import RecordStore, read_records
from utils.reproduction.plan import TIMED, Dataset

REMEDY = "delete that file"
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Result:
    """The numbers of one configuration on one class.

    Attributes:
        dataset: the name of the data set.
        class_name: the class.
        configuration: the name of the configuration.
        seed: of the channels drawn.
        numbers: by metric; None for a number that does not exist.
        image_checksum: of the images of the class.
    """

    dataset: str
    class_name: str
    configuration: str
    seed: int
    numbers: Mapping[str, float | None]
    image_checksum: str | None = None


class JobRecords:
    """The numbers of one job on the classes of one data set; an ``Output`` of the engine.

    Args:
        folder: of all records.
        dataset: the data set.
        job: the job.
        protocol: of its models.
        weights_checksum: of its backbone.
        is_untrained: whether that has random weights.
        environment: versions and device, kept with the numbers.
    """

    is_calibrated = False
    keeps_images = False

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        job: Job,
        protocol: Protocol,
        weights_checksum: str,
        is_untrained: bool,
        environment: Mapping[str, str],
    ) -> None:
        self._dataset, self._job, self._environment = dataset, job, dict(environment)
        settings = {
            "backbone": job.backbone,
            "weights_checksum": weights_checksum,
            "is_untrained": is_untrained,
            "configurations": [asdict(one) for one in job.configurations],
            **asdict(protocol),
        }
        self._store = RecordStore(folder, settings, "job", REMEDY)

    def is_finished(self, class_name: str, digest: str) -> bool:
        """Whether there are numbers of a class; as ``Output`` has it."""
        return self._store.is_finished(self._name(class_name), digest)

    @contextmanager
    def write_class(self, item: AnomalyClass, digest: str, started: float) -> Iterator[JobWriter]:
        """Write the numbers of a class."""
        writer = JobWriter(item, self._job)
        yield writer
        content = {
            "dataset": self._dataset.name,
            "class": item.name,
            "environment": self._environment,
            "image_checksum": _checksum(item, digest),
            "numbers": writer.numbers(),
        }
        self._store.finish(self._name(item.name), digest, content)

    def _name(self, class_name: str) -> str:
        return f"{self._dataset.name}/{class_name}/{self._job.name}"


class JobWriter:
    """Measures the configurations of a job on one class.

    Args:
        item: the class.
        job: the job.
    """

    def __init__(self, item: AnomalyClass, job: Job) -> None:
        self._item, self._job = item, job
        self._scores: dict[ModelSpec, ClassScores] = {}
        self._costs: Numbers = {}

    def fitted(self, model: PaDiM) -> None:
        """Nothing is kept of a model."""

    def scored(
        self, spec: ModelSpec, model: PaDiM, scores: ClassScores, examples: torch.Tensor | None
    ) -> None:
        """Keep the maps of a model, and what it costs if the paper says so too."""
        self._scores[spec] = scores
        if self._job.configurations[0] in TIMED and examples is not None:
            self._costs = _cost(model, examples)

    def numbers(self) -> list[Numbers]:
        """The numbers of every configuration, in the order of the job."""
        return [self._measure(one) | self._costs for one in self._job.configurations]

    def _measure(self, configuration: Configuration) -> Numbers:
        parts = [self._scores[spec] for spec in configuration.models]
        maps = reduce(torch.add, (part.maps for part in parts))
        scores = image_scores(maps).cpu().numpy()
        return measure_numbers(self._item, replace(parts[0], maps=maps, scores=scores))


def read_results(
    folder: Path, checksums: Mapping[str, str], is_untrained: bool
) -> Iterator[Result]:
    """All numbers there are, also of backbones that are not in use, but of no other weights.

    Args:
        folder: of all records.
        checksums: of the weights of every backbone in use.
        is_untrained: whether these are random.
    """
    for record in read_records(folder):
        settings: Mapping[str, Any] = record.settings
        if settings["is_untrained"] != is_untrained:
            continue
        checksum = settings["weights_checksum"]
        if checksums.get(settings["backbone"], checksum) != checksum:
            continue
        content = record.content
        for one, numbers in zip(settings["configurations"], content["numbers"], strict=True):
            yield Result(
                dataset=content["dataset"],
                class_name=content["class"],
                configuration=one["name"],
                seed=one["seed"],
                numbers=numbers,
                image_checksum=content["image_checksum"],
            )


@lru_cache(maxsize=1)  # the jobs of a class follow each other
def _checksum(item: AnomalyClass, digest: str) -> str:
    return image_checksum(item)


def _cost(model: PaDiM, examples: torch.Tensor) -> Numbers:
    """Median seconds from the crop of one image to its map, and the memory of the Gaussians."""
    seconds = []
    for image in chain(examples[:3], examples):  # the first three warm up
        start = time.perf_counter()
        model(image[None])[1].cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    gaussian: Any = model.gaussian
    return {
        "seconds_per_image": statistics.median(seconds[3:]),
        "memory_gb": (gaussian.mean.nbytes + gaussian.factor.nbytes) / 1e9,
    }
