"""The numbers of a job on a class, and where they are kept; an output of the engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from datasets.layouts.mvtec import differing_counts
from datasets.types import AnomalyClass
from padim.anomaly_map import image_scores
from padim.model import PaDiM
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.image_checksum import checksum_of
from utils.evaluation.measure import measure_numbers
from utils.evaluation.schema import Fields, count, flag, mapping, number, optional, several, text
from utils.experiment.configuration import Configuration, Job, ModelSpec, Protocol
from utils.experiment.record_store import (
    Record,
    RecordError,
    RecordStore,
    read_record,
    read_records,
)
from utils.reproduction.plan import STC, TIMED, Dataset
from utils.system.console import warn

REMEDY = "delete that file"
METRICS = ("image_auroc", "pixel_auroc", "pro")  # of every configuration; there may be others
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
        differing: a sentence if the class only has the name of one of MVTec AD's; else None.
    """

    dataset: str
    class_name: str
    configuration: str
    seed: int
    numbers: Mapping[str, float | None]
    image_checksum: str | None = None
    differing: str | None = None


class JobRecords:
    """The numbers of one job on the classes of one data set; an ``Output`` of the engine.

    Args:
        folder: of all records.
        dataset: the data set.
        job: the job.
        protocol: of its models, but for the crop.
        crops: side of the crop of every class.
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
        crops: Mapping[str, int],
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
        self._store, self._crops = RecordStore(folder, settings, "job", REMEDY), crops

    def is_finished(self, item: AnomalyClass, digest: str) -> bool:
        """Whether there are numbers of a class; as ``Output`` has it."""
        try:
            record = read_record(self._store.folder, self._name(item.name))
            if record is not None:
                _results(self._store.folder, record)
                self._store_of(item.name).check(record, digest)
        except RecordError as error:
            warn([f"{self._job.name} of class {item.name} is run again: {error}"])
            return False
        return record is not None

    @contextmanager
    def write_class(self, item: AnomalyClass, digest: str, started: float) -> Iterator[JobWriter]:
        """Write the numbers of a class."""
        writer = JobWriter(item, self._job)
        yield writer
        content = {
            "dataset": self._dataset.name,
            "class": item.name,
            "n_train": len(item.train),
            "n_test": len(item.test),
            "environment": self._environment,
            "image_checksum": checksum_of(item, digest),
            "numbers": writer.numbers(),
        }
        self._store_of(item.name).finish(self._name(item.name), digest, content)

    def _store_of(self, class_name: str) -> RecordStore:
        """The records, with the settings of one class."""
        settings = {**self._store.settings, "crop": self._crops[class_name]}
        return replace(self._store, settings=settings)

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
        self._numbers: list[Numbers] = []

    def fitted(self, model: PaDiM, train: Sequence[bytes]) -> None:
        """Nothing is kept of a model."""

    def scored(
        self, spec: ModelSpec, model: PaDiM, scores: ClassScores, examples: torch.Tensor | None
    ) -> None:
        """Keep the maps of a model, and what it costs if the paper says so too."""
        self._scores[spec] = scores
        if self._job.configurations[0] in TIMED and examples is not None:
            self._costs = _cost(model, examples)

    def results(self) -> Sequence[Mapping[str, float | None]]:
        """The numbers, to be shown."""
        return self._numbers

    def numbers(self) -> list[Numbers]:
        """The numbers of every configuration, in the order of the job."""
        self._numbers = [self._measure(one) | self._costs for one in self._job.configurations]
        return self._numbers

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
    records, _ = read_records(folder)
    for record in records:
        with suppress(RecordError):  # it is not in the tables; if it is needed, it is run again
            settings, results = record.settings, _results(folder, record)
            if settings["is_untrained"] != is_untrained:
                continue
            checksum = settings["weights_checksum"]
            if checksums.get(settings["backbone"], checksum) == checksum:
                yield from results


def _results(folder: Path, record: Record) -> list[Result]:
    """The numbers of a record.

    Raises:
        RecordError: it does not hold what a record of a job holds.
    """
    try:
        fields, settings = Fields(dict(record.content)), Fields(dict(record.settings))
        settings.take("is_untrained", flag)
        for name in ("backbone", "weights_checksum"):
            settings.take(name, text)
        configurations = settings.take("configurations", several(_name_and_seed))
        numbers = fields.take("numbers", several(mapping(optional(number))))
        checksum = fields.take("image_checksum", text)
        dataset, class_name = fields.take("dataset", text), fields.take("class", text)
        counts = fields.take("n_train", count), fields.take("n_test", count)
        if len(numbers) != len(configurations) or not all(
            set(METRICS) <= set(one) for one in numbers
        ):
            raise ValueError("numbers: those of every configuration are expected")
        if not record.name.startswith(f"{dataset}/{class_name}/"):
            raise ValueError(f"it is of class {class_name} of {dataset}")
    except ValueError as error:
        raise RecordError(f"{folder / record.name}.json is damaged ({error})") from error
    pairs = zip(configurations, numbers, strict=True)
    differing = None if dataset == STC.name else differing_counts(class_name, *counts)
    return [Result(dataset, class_name, *one, found, checksum, differing) for one, found in pairs]


def _name_and_seed(value: object) -> tuple[str, int]:
    fields = Fields(value)
    return fields.take("name", text), fields.take("seed", count)


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
