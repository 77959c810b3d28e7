"""The folder of a run: which classes are in it, and what is written for each and for all.

A class is finished when ``records/<class>.json`` is there: it is written last, and everything that
speaks of several classes (tables, curves, page) is made from these records alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from utils.errors import OptionError
from utils.evaluation.class_record import ClassRecord
from utils.report.curves import draw_pro_curves, draw_roc_curves
from utils.report.rows import Row, result_rows
from utils.report.run_page import render_run_page
from utils.report.tables import results_csv, results_markdown
from utils.system.files import write_json, write_text

RECORD_VERSION = 3  # of what a record holds
PER_CLASS = ("figures/{}", "models/{}.pt", "scores/{}.csv")


@dataclass(frozen=True)
class StoredRecord:
    """A record as it was read from its file, with the settings it was made with."""

    record: ClassRecord
    settings: Mapping


class ResultsFolder:
    """What one run configuration writes below ``save_path``.

    Args:
        save_path: the user's folder.
        name: of the run, and of the folder inside.
        run_name: of the configuration, which the published numbers are found by.
        settings: everything that decides the numbers; classes with other settings do not go
            into the same tables.
        environment: what else is worth knowing of the run: options, versions, device.
        warnings: to be read before any number.
        obstacle: why the numbers may not be set beside published ones; None where they may.
    """

    def __init__(
        self,
        save_path: Path,
        name: str,
        run_name: str,
        settings: Mapping,
        environment: Mapping,
        warnings: Sequence[str],
        obstacle: str | None,
    ) -> None:
        self.path = save_path / name
        self.name = name
        self._run_name = run_name
        self.settings = json.loads(json.dumps(settings))  # as they are read back
        self._environment = environment
        self._warnings = warnings
        self._obstacle = obstacle

    def make(self) -> None:
        """Make the folder, and those inside that a class's files go to.

        Raises:
            OSError: it cannot be written to.
        """
        for folder in ("records", "figures", "models", "scores"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)

    def check(self, data_classes: Sequence[str], replaced: Sequence[str]) -> None:
        """Make sure that what is there already fits into the same tables.

        Args:
            data_classes: all classes of the data set.
            replaced: those done again whatever is there of them.

        Raises:
            OptionError: a class that stays is from other settings or another data set.
        """
        for stored in self._all_records():
            name, then = stored.record.class_name, stored.settings
            if name in replaced:
                continue
            if name not in data_classes:
                raise self._mismatch(name, "it is not in this data set")
            differing = [key for key in self.settings if then.get(key) != self.settings[key]]
            # A checksum differs because an option does; alone, it is all there is to say.
            named = [key for key in differing if not key.endswith("checksum")] or differing
            if differing:
                said = (f"{key} {then.get(key)} then, {self.settings[key]} now" for key in named)
                raise self._mismatch(name, "; ".join(said))

    def finished(self, name: str, digest: str) -> bool:
        """Whether a class is there, from the same images.

        Raises:
            OptionError: it is there, but from other ones.
        """
        stored = self._read_file(self._record_path(name))
        if stored is not None and stored.record.data_digest != digest:
            raise self._mismatch(name, "its image files have changed since")
        return stored is not None

    def _mismatch(self, name: str, what: str) -> OptionError:
        return OptionError(
            f"class {name} in {self.path} is from another run ({what}): "
            "give another --save_path, or --overwrite with that class among --classes"
        )

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """A folder to write a class's files into, as ``PER_CLASS`` names them, out of sight.

        When the block ends well they replace what was there of the class; when not, they are gone.
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
        """Mark a class as done: its record, with the settings it was made with."""
        whole = {**record.to_json(), "version": RECORD_VERSION, "settings": self.settings}
        write_json(self._record_path(record.class_name), whole)

    def records(self) -> list[ClassRecord]:
        """The records of the classes finished with these settings, in the tables' order.

        There are others only while a run with ``--overwrite`` has not come to them yet.
        """
        return [one.record for one in self._all_records() if one.settings == self.settings]

    def _all_records(self) -> list[StoredRecord]:
        found = [self._read_file(path) for path in (self.path / "records").glob("*.json")]
        known = [stored for stored in found if stored is not None]
        return sorted(known, key=lambda one: (one.record.order, one.record.class_name))

    def rows(self) -> list[Row]:
        """The rows of the tables."""
        return result_rows(self.records())

    def write_tables(self) -> None:
        """``results.csv``, ``results.json`` and ``results.md``."""
        records = self.records()
        rows = result_rows(records)
        write_text(self.path / "results.csv", results_csv(rows))
        content = {
            "run": self.name,
            "warnings": list(self._warnings),
            "settings": self.settings,
            **self._environment,
            "results": [row.to_json() for row in rows],
            "thresholds": {record.class_name: asdict(record.threshold) for record in records},
            "notes": {record.class_name: list(record.notes) for record in records},
        }
        write_json(self.path / "results.json", content)
        markdown = results_markdown(
            self.name, self._run_name, records, self._warnings, self._obstacle
        )
        write_text(self.path / "results.md", markdown)

    def write_overview(self) -> None:
        """``roc_curve.png``, ``pro_curve.png`` and ``index.html``."""
        records = self.records()
        loud = [warning.partition(":")[0] for warning in self._warnings]
        title = ". ".join((f"PaDiM {self.name}", *loud))
        draw_roc_curves(records, title, self.path / "roc_curve.png")
        draw_pro_curves(records, title, self.path / "pro_curve.png")
        options = {f"--{name}": value for name, value in self._environment["options"].items()}
        facts = {**options, **self.settings, **self._environment["versions"]}
        page = render_run_page(
            title=f"PaDiM {self.name}",
            warnings=self._warnings,
            facts={name: str(value) for name, value in facts.items()},
            records=records,
            links=("results.csv", "results.md", "results.json"),
            crop=self.settings["crop"],
        )
        write_text(self.path / "index.html", page)

    def _forget(self, name: str) -> None:
        """Take away what is there of a class, its record first."""
        self._record_path(name).unlink(missing_ok=True)
        for pattern in PER_CLASS:
            path = self.path / pattern.format(name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _record_path(self, name: str) -> Path:
        return self.path / "records" / f"{name}.json"

    def _read_file(self, path: Path) -> StoredRecord | None:
        """A record, or None where it is missing or not one of ours, and so to be done again."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != RECORD_VERSION:
                return None
            return StoredRecord(ClassRecord.from_json(content), content["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
