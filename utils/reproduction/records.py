"""What has been run: a file for every job and class, written whole when it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from utils.errors import OptionError
from utils.reproduction.plan import Configuration, Dataset, Job
from utils.system.files import write_json

RECORD_VERSION = 1  # of what a record holds


@dataclass(frozen=True)
class Result:
    """The numbers of one configuration on one class.

    Attributes:
        dataset: the name of the data set it was run on.
        class_name: the class.
        configuration: the name of the configuration.
        seed: of its draw.
        numbers: by metric; None where the number does not exist.
    """

    dataset: str
    class_name: str
    configuration: str
    seed: int
    numbers: Mapping[str, float | None]


class Records:
    """The finished jobs below ``folder``.

    Args:
        folder: where they are.
        checksums: of the weights of every backbone in use; what was done with others does not go
            into the same tables.
        is_untrained: whether the weights are untrained; nor do trained and untrained ones.
        environment: versions and device, to be kept with every number.
    """

    def __init__(
        self,
        folder: Path,
        checksums: Mapping[str, str],
        is_untrained: bool,
        environment: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._checksums = checksums
        self._is_untrained = is_untrained
        self._environment = dict(environment)

    def is_finished(self, dataset: Dataset, class_name: str, job: Job, digest: str) -> bool:
        """Whether a job has been done on a class.

        Raises:
            OptionError: it has, but with other weights or on other images.
        """
        path = self._path(dataset, class_name, job)
        record = _read(path)
        if record is None or record["configurations"] != _described(job):
            return False
        for what, then, now in (
            ("weights", record["weights_checksum"], self._checksums[job.backbone]),
            ("image files", record["data_digest"], digest),
        ):
            if then != now:
                raise OptionError(
                    f"{path} was made from other {what} ({then}, now {now}): "
                    "give another --save_path, or delete that file"
                )
        return True

    def finish(
        self,
        dataset: Dataset,
        class_name: str,
        job: Job,
        digest: str,
        numbers: Mapping[Configuration, Mapping[str, float | None]],
    ) -> None:
        """Write down what a job gave."""
        path = self._path(dataset, class_name, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "version": RECORD_VERSION,
            "dataset": dataset.name,
            "class": class_name,
            "data_digest": digest,
            "is_untrained": self._is_untrained,
            "weights_checksum": self._checksums[job.backbone],
            "configurations": _described(job),
            "environment": self._environment,
            "numbers": [numbers[one] for one in job.configurations],
        }
        write_json(path, content)

    def results(self) -> Iterator[Result]:
        """All that is there, of backbones not in use too, but of no other weights."""
        for path in sorted(self._folder.glob("*/*/*.json")):
            record = _read(path)
            if record is None or record["is_untrained"] != self._is_untrained:
                continue
            for one, numbers in zip(record["configurations"], record["numbers"], strict=True):
                checksum = self._checksums.get(one["backbone"], record["weights_checksum"])
                if record["weights_checksum"] == checksum:
                    yield Result(
                        record["dataset"], record["class"], one["name"], one["seed"], numbers
                    )

    def _path(self, dataset: Dataset, class_name: str, job: Job) -> Path:
        return self._folder / dataset.name / class_name / f"{job.name}.json"


def _described(job: Job) -> list[dict]:
    """The configurations of a job, as they are read back."""
    return json.loads(json.dumps([asdict(one) for one in job.configurations]))


def _read(path: Path) -> dict | None:
    """A record, or None where it is missing or not one of ours, and so to be done again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if record["version"] == RECORD_VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
