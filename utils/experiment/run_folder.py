"""The folder of a run: its classes, and the files for each class and for all.

A class is finished when ``records/<class>.json`` exists: it is written last. Everything about
several classes (tables, curves, page) is made from these records only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets.loading.labelled import Batch
from datasets.region_of_interest import ClassRegion
from datasets.types import AnomalyClass
from padim.backbones import Backbone
from padim.config import TIMM
from padim.errors import ModelError
from padim.storage.files import naming, remove, sweep, temporary_folder
from padim.storage.model_file import load_model
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.class_scores import score_class
from utils.experiment.class_writer import RunClassWriter
from utils.experiment.conditions import Conditions, reason_not_comparable, reason_text
from utils.experiment.options import RunOptions
from utils.experiment.provenance import Provenance
from utils.experiment.record_store import RecordError, RecordStore, as_read
from utils.experiment.stored_class import (
    MODEL,
    PER_CLASS,
    StoredClass,
    outputs_of,
    read_class,
    read_classes,
)
from utils.report.charts import CURVE_FILES, curve_files
from utils.report.class_figures import draw_class_figures
from utils.report.command import command_line
from utils.report.curves import draw_pro_curves, draw_roc_curves
from utils.report.rows import Row, result_rows
from utils.report.run_page import render_run_page
from utils.report.tables import results_csv, results_markdown, skipped_csv
from utils.system.console import warn
from utils.system.files import write_json, write_text

SCRIPTS = {
    "resnet18": "main_resnet.py",
    "wide_resnet50_2": "main_wide_resnet.py",
    "efficientnet_b5": "main_eff_net.py",
}
REMEDY = "--overwrite with that class among --classes"


@dataclass(frozen=True)
class RunInfo:
    """The description of a run.

    Attributes:
        run_name: the key of its published numbers.
        options: of the run.
        settings: everything that decides the numbers, except the crop and the region.
        crops: side of the crop of every class of the data set.
        regions: the regions of interest of the data set, by class.
        conditions: warnings about the numbers.
        versions: of the packages, and the device.
        provenance: which program, when.
    """

    run_name: str
    options: RunOptions
    settings: Mapping[str, Any]
    crops: Mapping[str, int]
    regions: Mapping[str, ClassRegion]
    conditions: Conditions
    versions: Mapping[str, str]
    provenance: Provenance

    @property
    def reason_not_comparable(self) -> str | None:
        """Why the numbers must not be compared with published ones; None if they may."""
        has_region = bool(self.regions)
        reason = reason_not_comparable(self.options, self.conditions, has_region)
        return reason_text(reason, self.options, has_region)

    def settings_of(self, class_name: str) -> dict[str, Any]:
        """Everything that decides the numbers of a class."""
        region = self.regions.get(class_name)
        return {
            **self.settings,
            "crop": self.crops.get(class_name, self.settings["crop"]),
            "region_checksum": None if region is None else region.checksum,
        }

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        name = self.settings["backbone"]
        if name in SCRIPTS:
            return command_line(SCRIPTS[name], self.options)
        return command_line("main_timm.py", self.options, "--backbone", name.removeprefix(TIMM))

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
        for folder in ("records", "figures", "models", "scores", "training"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)

    def check(self, data_classes: Sequence[str], own: Sequence[str], is_overwritten: bool) -> None:
        """Check that kept results fit into the same tables; print which do not count.

        Args:
            data_classes: all classes of the data set.
            own: those of this run.
            is_overwritten: whether these are done again.

        Raises:
            OptionError: a kept class is of other settings or of another data set.
        """
        for folder in (self.path, self._store.folder):
            sweep(folder)
        replaced = own if is_overwritten else ()
        found, damaged = read_classes(self.path)
        for one in found:
            if one.stored.name in replaced:
                continue
            if one.stored.name not in data_classes:
                raise self._store.mismatch(one.stored.name, "it is not in this data set")
            self._store_of(one.stored.name).check(one.stored)
        for name, error in damaged.items():
            what = "is done again" if name in own else "is not in the tables"
            warn([f"class {name} {what}: {error}"] * (name not in replaced))

    def is_finished(self, item: AnomalyClass, digest: str) -> bool:
        """Whether a class is finished; as ``Output`` has it."""
        return self._finished(item, digest) is not None

    def lacks_figures(self, item: AnomalyClass, digest: str) -> bool:
        """Whether a finished class has fewer figures than the options ask for."""
        found = self._finished(item, digest)
        return found is not None and found.lacks_figures(self.info.options.figures)

    @contextmanager
    def write_class(
        self, item: AnomalyClass, digest: str, started: float
    ) -> Iterator[RunClassWriter]:
        """Write the files of a class, then its record and the tables."""
        with self.staged(item.name) as stage, ThreadPoolExecutor(1) as saver:
            crop, region = self.info.crops[item.name], self.info.regions.get(item.name)
            writer = RunClassWriter(item, digest, self.info.options, crop, region, stage, saver)
            yield writer
            record = writer.finish()
        seconds = round(time.perf_counter() - started, 2)
        self.finish(replace(record, seconds=seconds, data_digest=digest))
        self.write_tables(self.records())

    def draw_figures(
        self, item: AnomalyClass, digest: str, backbone: Backbone, batches: Sequence[Batch]
    ) -> None:
        """Draw the figures of a finished class again, with its model.

        Args:
            item: the class.
            digest: of its files.
            backbone: of the model.
            batches: the test images.

        Raises:
            ModelError: the model file is damaged; the class no longer counts as finished.
        """
        found = self._finished(item, digest)
        assert found is not None, "only a finished class lacks figures alone"
        try:
            model = load_model(self.path / MODEL.format(item.name), backbone)
        except ModelError as error:
            self._store.forget(item.name)
            raise ModelError(f"{error}; run again to do class {item.name} again") from error
        scores, n_figures = score_class(model, batches), self.info.options.figures
        with self.staged(item.name, PER_CLASS[:1]) as stage:
            figures = draw_class_figures(found.record, item, scores, n_figures, stage)
        self.finish(found.record.with_figures(figures))

    @contextmanager
    def staged(self, name: str, patterns: Sequence[str] = PER_CLASS) -> Iterator[Path]:
        """A hidden folder for the files of a class, named as in ``patterns``.

        If the block ends well they replace the former files of the class; if not, they are removed.
        """
        with naming(self.path), temporary_folder(self.path) as stage:
            for pattern in patterns:
                (stage / pattern.format(name)).parent.mkdir(parents=True, exist_ok=True)
            yield stage
            self._store.forget(name)
            for pattern in patterns:
                new, old = stage / pattern.format(name), self.path / pattern.format(name)
                remove(old)
                if new.exists():
                    new.replace(old)

    def finish(self, record: ClassRecord) -> None:
        """Mark a class as finished by its record."""
        name = record.class_name
        outputs = outputs_of(self.path, name, [image.figure for image in record.images])
        content = record.to_json()
        self._store_of(name).finish(name, record.data_digest or "", content, outputs)

    def records(self) -> list[ClassRecord]:
        """The records of the classes finished with these settings, in the order of the tables.

        Others exist only until a run with ``--overwrite`` replaces them.
        """
        found, _ = read_classes(self.path)
        records = [
            one.record for one in found if self._store_of(one.stored.name).is_current(one.stored)
        ]
        return sorted(records, key=lambda record: (record.order, record.class_name))

    def rows(self) -> list[Row]:
        """The rows of the tables."""
        return result_rows(self.records())

    def write_tables(self, records: Sequence[ClassRecord]) -> None:
        """Write ``results.csv``, ``results.json`` and ``results.md`` of ``self.records()``."""
        info = self.info
        rows, warnings = result_rows(records), info.conditions.warnings()
        write_text(self.path / "results.csv", results_csv(rows))
        skipped = [file for record in records for file in record.skipped]
        write_text(self.path / "skipped.csv", skipped_csv(skipped))
        content = {
            "run": self.name,
            "warnings": warnings,
            "settings": self._settings(records),
            "options": info.printable_options(),
            "versions": dict(info.versions),
            "program": asdict(info.provenance),
            "results": [row.to_json() for row in rows],
            "thresholds": {record.class_name: _thresholds(record) for record in records},
            "data": {record.class_name: self._data(record) for record in records},
            "notes": {record.class_name: list(record.notes) for record in records},
        }
        write_json(self.path / "results.json", content)
        reason = info.reason_not_comparable
        markdown = results_markdown(
            self.name, info.run_name, records, warnings, reason, info.options.metrics
        )
        write_text(self.path / "results.md", markdown)

    def write_overview(self, records: Sequence[ClassRecord]) -> None:
        """Write ``index.html``, and the files of the curves that any class has."""
        info = self.info
        warnings = info.conditions.warnings()
        loud = [warning.partition(":")[0] for warning in warnings]
        title = ". ".join((f"PaDiM {self.name}", *loud))
        drawn = curve_files(records)
        for name, draw in zip(CURVE_FILES, (draw_roc_curves, draw_pro_curves), strict=True):
            if name in drawn:
                draw(records, title, self.path / name)
            else:  # of classes that are not in the tables any more
                remove(self.path / name)
        page = render_run_page(
            title=f"PaDiM {self.name}",
            warnings=warnings,
            command=info.command,
            facts={**self._settings(records), **info.versions},
            records=records,
            links=("results.csv", "results.md", "results.json"),
            crops=info.crops,
            run_name=info.run_name,
            reason_not_comparable=info.reason_not_comparable,
            metrics=info.options.metrics,
        )
        write_text(self.path / "index.html", page)

    def _store_of(self, class_name: str) -> RecordStore:
        """The records, with the settings of one class."""
        return replace(self._store, settings=self.info.settings_of(class_name))

    def _settings(self, records: Sequence[ClassRecord]) -> dict[str, Any]:
        """The settings of the run; the crop and the region are None if the classes differ in it."""
        each = [self.info.settings_of(record.class_name) for record in records]
        return as_read({k: v if all(o[k] == v for o in each) else None for k, v in each[0].items()})

    def _data(self, record: ClassRecord) -> dict[str, Any]:
        """The remark on the images of a class."""
        known = {} if record.data is None else {**asdict(record.data), "text": record.data.text}
        region = self.info.regions.get(record.class_name)
        looked_at = {} if region is None else {"region": region.text}
        return {**known, "crop": self.info.crops[record.class_name], **looked_at}

    def _finished(self, item: AnomalyClass, digest: str) -> StoredClass | None:
        try:
            found = read_class(self.path, item.name)
            if found is None:
                return None
            self._store_of(item.name).check(found.stored, digest)
            found.check_images(item)
        except RecordError:  # ``check`` has said why
            return None
        return found


def _thresholds(record: ClassRecord) -> dict[str, Any]:
    """The pixel threshold by its name, and the image threshold with its rate."""
    image = record.image_threshold
    return {**asdict(record.threshold), "image": None if image is None else asdict(image)}
