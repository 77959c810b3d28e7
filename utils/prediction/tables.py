"""The tables of a prediction, filled as the images are judged: scores, regions, failures.

A prediction writes them under other names until its end. A watch appends to them batch by batch:
scores.csv last, so that the images in it have complete rows in all tables.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from padim.storage.files import written_whole
from utils.prediction.judge import Judgement

SCORES = ("path", "score", "p_value", "decision")
FAILED = ("path", "reason")
REGIONS = (
    *("path", "decision", "region", "left", "top", "right", "bottom", "area", "peak"),
    *("peak_x", "peak_y", "p_value"),
)


@dataclass(frozen=True)
class Tables:
    """The open tables of a prediction.

    Attributes:
        scores, failed, regions: CSV writers of ``scores.csv``, ``failed.csv``, ``regions.csv``.
        lines: ``regions.jsonl``, a line for each image.
    """

    scores: Any
    failed: Any
    regions: Any
    lines: TextIO
    _appended: tuple[_Appended, ...] = ()

    @classmethod
    def appended_to(cls, folder: Path) -> Tables:
        """Continue or begin the tables of a watch; ``commit`` writes the new rows."""
        heads = {"regions.csv": REGIONS, "regions.jsonl": (), "failed.csv": FAILED}
        heads |= {"scores.csv": SCORES}
        files = [_Appended(folder / name, columns) for name, columns in heads.items()]
        regions, failed, scores = (
            csv.writer(file, lineterminator="\n") for file in (files[0], *files[2:])
        )
        tables = cls(scores, failed, regions, files[1], tuple(files))
        tables.commit()
        return tables

    def commit(self) -> None:
        """Write the new rows of a watch to the disk, scores.csv last."""
        for file in self._appended:
            file.commit()

    @classmethod
    @contextmanager
    def written_to(cls, folder: Path) -> Iterator[Tables]:
        """Open the tables; they appear under their names when the block ends well."""
        with (
            csv_table(folder / "scores.csv", *SCORES) as scores,
            csv_table(folder / "failed.csv", *FAILED) as failed,
            csv_table(folder / "regions.csv", *REGIONS) as regions,
            _text_file(folder / "regions.jsonl") as lines,
        ):
            yield cls(scores, failed, regions, lines)

    def add(self, item: Judgement) -> None:
        """Add an image that has been judged."""
        p_value = "" if item.p_value is None else item.p_value
        self.scores.writerow((item.name, item.score, p_value, item.decision))
        for number, one in enumerate(item.regions or (), start=1):
            where = (item.name, item.decision, number, *one.box, one.area, one.peak)
            self.regions.writerow((*where, *one.position, one.p_value))
        self.lines.write(json.dumps(_json_line(item)) + "\n")

    def add_failed(self, name: str, reason: str) -> None:
        """Add an image that could not be judged or written."""
        self.failed.writerow((name, reason))


class _Appended(io.StringIO):
    """Rows that are added to a file together; a new one begins with its columns."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        super().__init__()
        self._path, self._head = path, ",".join(columns) + "\n" if columns else ""

    def commit(self) -> None:
        rows = self.getvalue()
        if not rows and self._path.exists():
            return
        with self._path.open("ab") as file:
            head = "" if file.tell() else self._head
            file.write((head + rows).encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        self.seek(0)
        self.truncate()


def recover(folder: Path) -> Iterator[Judgement]:
    """Cut the tables of a watch back to complete images, and yield their judgements.

    A killed process may leave an incomplete row, or rows of images that scores.csv lacks. The
    judgements have no regions.
    """
    n_images = max(0, _cut(folder / "scores.csv") - 1)
    _cut(folder / "regions.jsonl", n_images, is_csv=False)
    n_regions = 0
    if n_images:
        with (folder / "regions.jsonl").open(encoding="utf-8") as file:
            for line in file:
                found = json.loads(line)
                n_regions += len(found["regions"] or ())
                is_defective = {"defective": True, "normal": False, None: None}[found["decision"]]
                size = found["width"], found["height"]
                judged = found["path"], found["score"], found["p_value"], is_defective, size
                yield Judgement(*judged)
    _cut(folder / "regions.csv", 1 + n_regions)
    _cut(folder / "failed.csv")


def _cut(path: Path, most: int | None = None, is_csv: bool = True) -> int:
    """Cut a table to at most ``most`` complete rows, and return their number.

    A field in quotes may contain line ends.
    """
    if not path.exists():
        return 0
    n_rows = end = at = n_quotes = 0
    with path.open("r+b") as file:
        for line in file:
            at += len(line)
            n_quotes += line.count(b'"') if is_csv else 0
            if line.endswith(b"\n") and n_quotes % 2 == 0 and n_rows != most:
                n_rows, end = n_rows + 1, at
        file.truncate(end)
    return n_rows


@contextmanager
def csv_table(path: Path, *columns: str) -> Iterator[Any]:
    """A CSV writer; its file appears when the block ends well."""
    with _text_file(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        yield table


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    with (
        written_whole(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def _json_line(item: Judgement) -> dict[str, object]:
    """The line of an image in ``regions.jsonl``; docs/judging.md explains the names."""
    regions = item.regions
    return {
        "path": item.name,
        "width": item.size[0],
        "height": item.size[1],
        "score": item.score,
        "p_value": item.p_value,
        "decision": item.decision or None,
        "regions": None
        if regions is None
        else [
            {
                "box": one.box,
                "area": one.area,
                "peak": one.peak,
                "position": one.position,
                "p_value": one.p_value,
            }
            for one in regions
        ],
    }
