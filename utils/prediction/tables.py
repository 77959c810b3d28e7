"""The tables of a prediction, filled as the images are judged: scores, regions, failures."""

from __future__ import annotations

import csv
import json
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
    """An image as ``regions.jsonl`` has it; docs/judging.md says what the names mean."""
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
