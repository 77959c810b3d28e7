"""A finished class of a run's folder: its record and the files that belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.types import AnomalyClass
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.metric_names import METRICS
from utils.experiment.record_store import Record, RecordError, read_record, read_records
from utils.report.class_figures import worst_first

MODEL = "models/{}.safetensors"  # of a class
SCORES = "scores/{}.csv"
TRAINING = "training/{}.csv"
PER_CLASS = ("figures/{}", MODEL, SCORES, TRAINING)
CURVES = ("image_roc", "pixel_roc", "pro")


@dataclass(frozen=True)
class StoredClass:
    """A class whose record is whole and whose model and scores are there.

    Attributes:
        path: the folder of the run.
        stored: the record as it was read.
        record: its content.
    """

    path: Path
    stored: Record
    record: ClassRecord

    @classmethod
    def of_record(cls, path: Path, stored: Record) -> StoredClass:
        """The class of a record.

        Raises:
            RecordError: the record is not whole, or a file is missing or of another size.
        """
        place = path / "records" / f"{stored.name}.json"
        try:
            found = cls(path, stored, ClassRecord.from_json(stored.content))
            found.check_content()
        except ValueError as error:
            raise RecordError(f"{place} is damaged ({error})") from error
        for name in found.missing(name for name in stored.outputs if _kind(name) != "figures"):
            raise RecordError(f"{path / name} is missing or of another size")
        return found

    def check_content(self) -> None:
        """Check that the values are consistent.

        Raises:
            ValueError: they are not.
        """
        record, outputs = self.record, self.stored.outputs
        if record.class_name != self.stored.name:
            raise ValueError(f"class_name: {record.class_name} is another class")
        for kind, names, given in (
            ("metrics", METRICS, record.metrics),
            ("curves", CURVES, record.curves),
        ):
            if set(names) != set(given):
                raise ValueError(f"{kind}: {', '.join(names)} are expected")
        own = {kind.format(self.stored.name) for kind in PER_CLASS[1:]}
        if {name for name in outputs if _kind(name) != "figures"} != own:
            raise ValueError("outputs: a model, scores and training scores are expected")
        for name in outputs:
            if ".." in PurePosixPath(name).parts or name.startswith("/"):
                raise ValueError(f"outputs: {name} is in another folder")
        figures = {image.figure for image in record.images} - {None}
        if figures != {name for name in outputs if _kind(name) == "figures"}:
            raise ValueError("images: their figures are not those of outputs")

    def check_images(self, item: AnomalyClass) -> None:
        """Check that the record has the images of a class.

        Raises:
            RecordError: it has others.
        """
        given = [(image.path, image.defect) for image in self.record.images]
        if given != [(item.path_of(sample), sample.defect) for sample in item.test]:
            place = self.path / "records" / f"{self.stored.name}.json"
            raise RecordError(f"{place} is of other test images than class {item.name} has")

    def lacks_figures(self, n_figures: int | None) -> bool:
        """Whether a figure of the ``n_figures`` worst ranked images, or of all, is missing."""
        images = self.record.images
        names = [images[index].figure for index in worst_first(images)[:n_figures]]
        return None in names or bool(self.missing(name for name in names if name))

    def missing(self, names: Iterable[str]) -> list[str]:
        """The names of outputs that are missing or have another size than when written."""
        return [name for name in names if _size(self.path / name) != self.stored.outputs[name]]


def read_class(path: Path, name: str) -> StoredClass | None:
    """The finished class of a run's folder; None if it has no record.

    Raises:
        RecordError: its record does not count, or files are missing.
    """
    stored = read_record(path / "records", name)
    return None if stored is None else StoredClass.of_record(path, stored)


def read_classes(path: Path) -> tuple[list[StoredClass], dict[str, RecordError]]:
    """The finished classes of a run's folder, and by name why others do not count."""
    stored, damaged = read_records(path / "records")
    found = []
    for record in stored:
        try:
            found.append(StoredClass.of_record(path, record))
        except RecordError as error:
            damaged[record.name] = error
    return found, damaged


def outputs_of(path: Path, name: str, figures: Sequence[str | None]) -> dict[str, int]:
    """The files of a class with their sizes, as its record keeps them."""
    others = [pattern.format(name) for pattern in PER_CLASS if not pattern.startswith("figures")]
    return {file: (path / file).stat().st_size for file in (*others, *filter(None, figures))}


def _kind(name: str) -> str:
    return name.partition("/")[0]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):  # a name with a null byte is no name
        return None
