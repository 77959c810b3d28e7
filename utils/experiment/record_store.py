"""Records of finished work, and the one rule by which a run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import OptionError
from utils.system.files import write_json

RECORD_VERSION = 5  # of what a record holds


@dataclass(frozen=True)
class Record:
    """A whole record, as it was read.

    Attributes:
        name: of what is finished.
        data_digest: checksum of the files it was made from.
        settings: everything else that decides its numbers.
        content: all of it, the results among it.
    """

    name: str
    data_digest: str
    settings: Mapping[str, Any]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RecordStore:
    """The records of a folder: ``<name>.json`` for whatever is finished.

    A record counts if it is whole, of this version, and says the name that its file has. Anything
    else is done again. If a record that counts is of other settings or other files, the numbers
    must not go into the same tables, and the run does not start.

    Attributes:
        folder: of the records.
        settings: everything that decides the numbers, but the data.
        kind: what a name is the name of, such as ``class``.
        remedy: how to resolve a record of other settings, other than a new ``--save_path``.
    """

    folder: Path
    settings: Mapping[str, Any]
    kind: str
    remedy: str

    def is_finished(self, name: str, data_digest: str) -> bool:
        """Whether there is a record of these settings and these files.

        Raises:
            OptionError: there is one of others.
        """
        record = read_record(self.folder, name)
        if record is None:
            return False
        self.check(record)
        if record.data_digest != data_digest:
            digests = f"digest {record.data_digest} then, {data_digest} now"
            raise self.mismatch(name, f"its image files have changed: {digests}")
        return True

    def check(self, record: Record) -> None:
        """Check that a record is of these settings.

        Raises:
            OptionError: it is not.
        """
        then, now = record.settings, as_read(self.settings)
        differing = [key for key in now if then.get(key) != now[key]]
        # A checksum differs because an option does; alone, it is all there is to say.
        named = [key for key in differing if not key.endswith("checksum")] or differing
        if differing:
            said = (f"{key} {then.get(key)} then, {now[key]} now" for key in named)
            raise self.mismatch(record.name, "; ".join(said))

    def mismatch(self, name: str, what: str) -> OptionError:
        """The error that says why a record does not go with this run."""
        return OptionError(
            f"{self.kind} {name} in {_path(self.folder, name)} is from another run ({what}): "
            f"give another --save_path, or {self.remedy}"
        )

    def finish(self, name: str, data_digest: str, content: Mapping[str, Any]) -> None:
        """Write a record, completely or not at all."""
        path = _path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"version": RECORD_VERSION, "name": name, "data_digest": data_digest}
        write_json(path, {**content, **head, "settings": self.settings})

    def forget(self, name: str) -> None:
        """Remove a record, if there is one."""
        _path(self.folder, name).unlink(missing_ok=True)

    def is_current(self, record: Record) -> bool:
        """Whether a record is of these settings."""
        return record.settings == as_read(self.settings)


def read_records(folder: Path) -> Iterator[Record]:
    """All whole records of a folder and the folders in it, whatever their settings."""
    for path in sorted(folder.rglob("*.json")):
        record = read_record(folder, path.relative_to(folder).as_posix().removesuffix(".json"))
        if record is not None:
            yield record


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a name; None if there is none, or none that counts."""
    try:
        content = json.loads(_path(folder, name).read_text(encoding="utf-8"))
        if content["version"] != RECORD_VERSION or content["name"] != name:
            return None
        return Record(name, content["data_digest"], dict(content["settings"]), content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are read back from JSON: lists for tuples."""
    return json.loads(json.dumps(settings))


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
