"""The folder of a run: which classes are in it, and what is written for each and for all.

A class is finished when ``records/<class>.json`` is there: it is written last. Everything that
speaks of several classes (tables, curves, page) is made from these records alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datasets.types import AnomalyClass
from padim.model import PaDiM
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.image_checksum import image_checksum
from utils.evaluation.measure import measure_class
from utils.experiment.conditions import Conditions, reason_not_comparable, reason_text
from utils.experiment.configuration import ModelSpec
from utils.experiment.options import RunOptions
from utils.experiment.provenance import Provenance
from utils.experiment.record_store import Record, RecordStore, as_read, read_record, read_records
from utils.report.class_figures import draw_class_figures
from utils.report.curves import draw_pro_curves, draw_roc_curves
from utils.report.rows import Row, result_rows
from utils.report.run_page import render_run_page
from utils.report.tables import results_csv, results_markdown, scores_csv
from utils.system.files import write_json, write_text

PER_CLASS = ("figures/{}", "models/{}.pt", "scores/{}.csv")
REMEDY = "--overwrite with that class among --classes"


@dataclass(frozen=True)
class RunInfo:
    """What is said of a run.

    Attributes:
        run_name: the key of its published numbers.
        options: of the run.
        settings: everything that decides the numbers.
        conditions: what must be read before them.
        versions: of the packages, and the device.
        provenance: which program, when.
    """

    run_name: str
    options: RunOptions
    settings: Mapping[str, Any]
    conditions: Conditions
    versions: Mapping[str, str]
    provenance: Provenance

    @property
    def reason_not_comparable(self) -> str | None:
        """Why the numbers must not be compared with published ones; None if they may."""
        reason = reason_not_comparable(self.options, self.conditions)
        return reason_text(reason, self.options)

    def printable_options(self) -> dict[str, Any]:
        """The options by name, as JSON can hold them."""
        return {
            name: value if isinstance(value, (int, float, tuple, type(None))) else str(value)
            for name, value in vars(self.options).items()
        }


class RunFolder:
    """What one configuration writes below ``save_path``; an ``Output`` of the engine.

    Args:
        path: the folder.
        info: of the run.
    """

    is_calibrated = True
    keeps_images = True

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path, self.name, self.info = path, path.name, info
        self._store = RecordStore(path / "records", info.settings, "class", REMEDY)

    def make(self) -> None:
        """Make the folder and those inside it.

        Raises:
            OSError: it cannot be written to.
        """
        for folder in ("records", "figures", "models", "scores"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)

    def check(self, data_classes: Sequence[str], replaced: Sequence[str]) -> None:
        """Check that what stays in the folder fits into the same tables.

        Args:
            data_classes: all classes of the data set.
            replaced: those that are done again.

        Raises:
            OptionError: a class that stays is of other settings or of another data set.
        """
        for stored, _ in self._stored():
            if stored.name in replaced:
                continue
            if stored.name not in data_classes:
                raise self._store.mismatch(stored.name, "it is not in this data set")
            self._store.check(stored)

    def is_finished(self, class_name: str, digest: str) -> bool:
        """Whether a class is finished; as ``Output`` has it."""
        stored = read_record(self._store.folder, class_name)
        if stored is None or _class_record(stored) is None:
            return False
        return self._store.is_finished(class_name, digest)

    @contextmanager
    def write_class(
        self, item: AnomalyClass, digest: str, started: float
    ) -> Iterator[RunClassWriter]:
        """Write the files of a class, then its record and the tables."""
        with self.staged(item.name) as stage, ThreadPoolExecutor(1) as saver:
            writer = RunClassWriter(item, self.info.options, stage, saver)
            yield writer
            record = writer.finish()
        seconds = round(time.perf_counter() - started, 2)
        self.finish(replace(record, seconds=seconds, data_digest=digest))
        self.write_tables()

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """A hidden folder for the files of a class, named as in ``PER_CLASS``.

        If the block ends well they replace the former files of the class; if not, they are gone.
        """
        stage = self.path / f".partial-{name}"
        shutil.rmtree(stage, ignore_errors=True)
        try:
            for pattern in PER_CLASS:
                (stage / pattern.format(name)).parent.mkdir(parents=True, exist_ok=True)
            yield stage
            self._forget(name)
            for pattern in PER_CLASS:
                if (stage / pattern.format(name)).exists():
                    (stage / pattern.format(name)).replace(self.path / pattern.format(name))
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def finish(self, record: ClassRecord) -> None:
        """Mark a class as finished by its record."""
        self._store.finish(record.class_name, record.data_digest or "", record.to_json())

    def records(self) -> list[ClassRecord]:
        """The records of the classes finished with these settings, in the order of the tables.

        There are others only while a run with ``--overwrite`` has not come to them yet.
        """
        records = [record for stored, record in self._stored() if self._store.is_current(stored)]
        return sorted(records, key=lambda record: (record.order, record.class_name))

    def rows(self) -> list[Row]:
        """The rows of the tables."""
        return result_rows(self.records())

    def write_tables(self) -> None:
        """Write ``results.csv``, ``results.json`` and ``results.md``."""
        records, info = self.records(), self.info
        rows, warnings = result_rows(records), info.conditions.warnings()
        write_text(self.path / "results.csv", results_csv(rows))
        content = {
            "run": self.name,
            "warnings": warnings,
            "settings": as_read(info.settings),
            "options": info.printable_options(),
            "versions": dict(info.versions),
            "program": asdict(info.provenance),
            "results": [row.to_json() for row in rows],
            "thresholds": {record.class_name: asdict(record.threshold) for record in records},
            "notes": {record.class_name: list(record.notes) for record in records},
        }
        write_json(self.path / "results.json", content)
        reason = info.reason_not_comparable
        markdown = results_markdown(
            self.name, info.run_name, records, warnings, reason, info.options.metrics
        )
        write_text(self.path / "results.md", markdown)

    def write_overview(self) -> None:
        """Write ``roc_curve.png``, ``pro_curve.png`` and ``index.html``."""
        records, info = self.records(), self.info
        warnings = info.conditions.warnings()
        loud = [warning.partition(":")[0] for warning in warnings]
        title = ". ".join((f"PaDiM {self.name}", *loud))
        draw_roc_curves(records, title, self.path / "roc_curve.png")
        draw_pro_curves(records, title, self.path / "pro_curve.png")
        options = {f"--{name}": value for name, value in info.printable_options().items()}
        facts = {**options, **as_read(info.settings), **info.versions}
        page = render_run_page(
            title=f"PaDiM {self.name}",
            warnings=warnings,
            facts={name: str(value) for name, value in facts.items()},
            records=records,
            links=("results.csv", "results.md", "results.json"),
            crop=info.options.crop,
            metrics=info.options.metrics,
        )
        write_text(self.path / "index.html", page)

    def _stored(self) -> Iterator[tuple[Record, ClassRecord]]:
        """The records whose content is whole too."""
        for stored in read_records(self._store.folder):
            record = _class_record(stored)
            if record is not None:
                yield stored, record

    def _forget(self, name: str) -> None:
        """Remove what is there of a class, its record first."""
        self._store.forget(name)
        for pattern in PER_CLASS:
            path = self.path / pattern.format(name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class RunClassWriter:
    """Writes the model, the figures and the scores of one class.

    Args:
        item: the class.
        options: of the run.
        stage: the folder of its files.
        saver: the thread that writes the model, then makes the checksum of the images.
    """

    def __init__(
        self, item: AnomalyClass, options: RunOptions, stage: Path, saver: ThreadPoolExecutor
    ) -> None:
        self._item, self._options, self._stage, self._saver = item, options, stage, saver
        self._saved: Future[None] | None = None
        self._checksum: Future[str] | None = None
        self._record: ClassRecord | None = None

    def fitted(self, model: PaDiM) -> None:
        """Start writing the model file in the background, while the test images are scored."""
        if model.is_gathered:
            self._save(model)

    def scored(
        self, spec: ModelSpec, model: PaDiM, scores: ClassScores, examples: torch.Tensor | None
    ) -> None:
        """Measure the class, draw its figures and write its scores."""
        if self._saved is None:
            self._save(model)
        item, options = self._item, self._options
        self._checksum = self._saver.submit(image_checksum, item)
        record = measure_class(item, scores, model.calibration, options.false_alarm_rate)
        figures = draw_class_figures(record, item, scores, options.figures, self._stage)
        self._record = record.with_figures(figures)
        path = self._stage / "scores" / f"{item.name}.csv"
        text = scores_csv(self._record)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")

    def finish(self) -> ClassRecord:
        """Wait for the model file; the record of the class."""
        if self._saved is None or self._checksum is None or self._record is None:
            raise RuntimeError(f"class {self._item.name} has not been scored")
        self._saved.result()
        return replace(self._record, image_checksum=self._checksum.result())

    def _save(self, model: PaDiM) -> None:
        path = self._stage / "models" / f"{self._item.name}.pt"
        is_half = self._options.model_precision == "float16"
        self._saved = self._saver.submit(model.save, path, is_half)


def _class_record(stored: Record) -> ClassRecord | None:
    try:
        return ClassRecord.from_json(stored.content)
    except ValueError:
        return None
