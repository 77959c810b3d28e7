"""Records of finished work, and the one rule by which a run resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from utils.errors import OptionError
from utils.evaluation.schema import Fields, count, mapping, text
from utils.system.files import write_json

RECORD_VERSION = 5  # of what a record holds
MAX_BYTES = 2**28  # of a record; a class with a million test images needs less


class RecordError(ValueError):
    """A record exists, but cannot be used; the message says why."""


@dataclass(frozen=True)
class Record:
    """A complete record, as it was read.

    Attributes:
        name: of what is finished.
        data_digest: checksum of the files it was made from.
        settings: everything else that decides its numbers.
        outputs: the files that were written with it, with their sizes in bytes.
        content: the results.
    """

    name: str
    data_digest: str
    settings: Mapping[str, Any]
    outputs: Mapping[str, int]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RecordStore:
    """The records of a folder, ``<name>.json`` for each finished item.

    A record counts if it is complete, of this version, and contains the name of its file. Other
    items are run again. If a record that counts is of other settings or other files, its numbers
    must not be in the same tables, and the run does not start.

    Attributes:
        folder: of the records.
        settings: everything that decides the numbers, except the data.
        kind: what the names stand for, such as ``class``.
        remedy: how to resolve a record of other settings, besides a new ``--save_path``.
    """

    folder: Path
    settings: Mapping[str, Any]
    kind: str
    remedy: str

    def check(self, record: Record, data_digest: str | None = None) -> None:
        """Check that a record is of these settings and, if a digest is given, of these files.

        Raises:
            OptionError: it is not.
        """
        then, now = record.settings, as_read(self.settings)
        differing = self._differing(record)
        # A checksum differs because an option does; alone, it is all there is to say.
        named = [key for key in differing if not key.endswith("checksum")] or differing
        if differing:
            said = (f"{key} {then.get(key)} then, {now[key]} now" for key in named)
            raise self.mismatch(record.name, "; ".join(said))
        if data_digest not in (None, record.data_digest):
            digests = f"digest {record.data_digest} then, {data_digest} now"
            raise self.mismatch(record.name, f"its image files have changed: {digests}")

    def mismatch(self, name: str, what: str) -> OptionError:
        """The error that says why a record does not go with this run."""
        return OptionError(
            f"{self.kind} {name} in {_path(self.folder, name)} is from another run ({what}): "
            f"give another --save_path, or {self.remedy}"
        )

    def finish(
        self,
        name: str,
        data_digest: str,
        content: Mapping[str, Any],
        outputs: Mapping[str, int] | None = None,
    ) -> None:
        """Write a record, completely or not at all."""
        path = _path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"version": RECORD_VERSION, "name": name, "data_digest": data_digest}
        tail = {"settings": as_read(self.settings), "outputs": dict(outputs or {})}
        whole = as_read({**content, **head, **tail})
        write_json(path, whole | {"checksum": _checksum(whole)})

    def forget(self, name: str) -> None:
        """Remove a record, if there is one."""
        _path(self.folder, name).unlink(missing_ok=True)

    def is_current(self, record: Record) -> bool:
        """Whether a record is of these settings."""
        return not self._differing(record)

    def _differing(self, record: Record) -> list[str]:
        """The settings that differ; one that an older record does not have was None."""
        now = as_read(self.settings)
        return [key for key in now if record.settings.get(key) != now[key]]


def read_records(folder: Path) -> tuple[list[Record], dict[str, RecordError]]:
    """The records of a folder and the folders in it, whatever their settings.

    Returns:
        Those that count, and by name why the others do not.
    """
    found, damaged = [], {}
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix().removesuffix(".json")
        try:
            record = read_record(folder, name)
        except RecordError as error:
            damaged[name] = error
        else:
            found += [] if record is None else [record]
    return found, damaged


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a name; None if there is none.

    Raises:
        RecordError: there is one that does not count.
    """
    path = _path(folder, name)
    try:
        return _checked(_parsed(_read(path)), name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise RecordError(f"{path} is damaged (it is nested too deeply)") from error
    except ValueError as error:
        raise RecordError(f"{path} {error}") from error


def as_read(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content as it is read back from JSON: lists for tuples.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    return json.loads(json.dumps(content, allow_nan=False))


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ValueError("is no file")  # a pipe, for example, would be waited on for ever
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"is damaged (it has more than {MAX_BYTES} bytes)")
    return content


def _parsed(content: bytes) -> dict[str, Any]:
    """Decode JSON that has an object of this version in it."""
    try:
        found = json.loads(content.decode("utf-8"))
        version = Fields(found).take("version", count)
    except ValueError as error:  # also of text that is not UTF-8, or of endless digits
        raise ValueError(f"is damaged ({error})") from error
    if version != RECORD_VERSION:
        raise ValueError(f"is of version {version} of the records, not {RECORD_VERSION}")
    return found


def _checked(content: dict[str, Any], name: str) -> Record:
    """The record of a JSON object.

    Raises:
        ValueError: it is not whole, or of another name.
    """
    try:
        fields = Fields(content)
        fields.take("version", count)
        given, checksum = fields.take("name", text), fields.take("checksum", text)
        if given != name:
            raise ValueError(f"it is the record of {given}")
        if checksum != _checksum({key: content[key] for key in content if key != "checksum"}):
            raise ValueError("its checksum is not that of its content")
        digest = fields.take("data_digest", text)
        settings = fields.take("settings", mapping(lambda value: value))
        outputs = fields.take("outputs", mapping(count))
        return Record(name, digest, settings, outputs, fields.rest() | {"data_digest": digest})
    except ValueError as error:
        raise ValueError(f"is damaged ({error})") from error


def _checksum(content: Mapping[str, Any]) -> str:
    """The checksum of a record's content, whatever its layout."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
