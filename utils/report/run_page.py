"""The page of a run: one HTML file with the results, the curves and every test image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.evaluation.class_record import ClassRecord, ImageRecord
from utils.evaluation.draws import Interval
from utils.evaluation.metric_names import DEFAULT_METRICS
from utils.report.curves import PRO_SIZE, ROC_SIZE
from utils.report.figures import figure_size
from utils.report.html import render
from utils.report.rows import COUNTS, Row, result_rows
from utils.report.text import format_number

WORDS = {
    **{name: name.upper() for name in ("auroc", "ap", "f1", "pro", "aupimo")},
    **{"iou": "IoU", "fpr1": "at 1 % FPR", "fpr5": "at 5 % FPR"},
}
LABELS = {"n_train": "train images", "n_test": "test images"}


@dataclass(frozen=True)
class _Column:
    label: str
    is_oracle: bool


@dataclass(frozen=True)
class _Cell:
    text: str
    value: float | int | None
    interval: Interval | None


@dataclass(frozen=True)
class _TableRow:
    """A row of the table; ``position`` is that of its class in the data, None for a mean."""

    label: str
    position: int | None
    cells: tuple[_Cell, ...]


def render_run_page(
    title: str,
    warnings: Sequence[str],
    facts: Mapping[str, str],
    records: Sequence[ClassRecord],
    links: Sequence[str],
    crop: int,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """The text of ``index.html``.

    Args:
        title: of the page.
        warnings: shown as a banner.
        facts: options and versions by name, shown on request.
        records: the finished classes.
        links: files next to the page.
        crop: side of the maps in pixels, which decides the size of the figures.
        metrics: the columns of the table.
    """
    columns = (*metrics, *COUNTS)
    rows = result_rows(records)
    # The script finds the images of a row by position: a name may be written out differently.
    positions = {record.class_name: position for position, record in enumerate(records)}
    return render(
        "run.html",
        title=title,
        warnings=warnings,
        facts=facts,
        links=links,
        columns=[_column(name) for name in columns],
        class_rows=[
            _table_row(row, columns, positions[row.name]) for row in rows if not row.is_mean
        ],
        mean_rows=[_table_row(row, columns, None) for row in rows if row.is_mean],
        notes=[(record.class_name, note) for record in records for note in record.notes],
        roc_size=ROC_SIZE,
        pro_size=PRO_SIZE,
        data={"figure_size": figure_size(crop), "classes": [_class_data(one) for one in records]},
    )


def _column(name: str) -> _Column:
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return _Column(LABELS.get(name, words), name.endswith("_f1"))


def _table_row(row: Row, columns: Sequence[str], position: int | None) -> _TableRow:
    ends = row.intervals
    values = ((name, row.value(name)) for name in columns)
    cells = (_Cell(format_number(name, value), value, ends.get(name)) for name, value in values)
    return _TableRow(row.label, position, tuple(cells))


def _class_data(record: ClassRecord) -> dict[str, object]:
    return {
        "name": record.class_name,
        "good": record.n_good,
        "defective": record.n_defective,
        "images": [_image_data(image) for image in record.images],
    }


def _image_data(image: ImageRecord) -> dict[str, object]:
    names = ("path", "defect", "label", "score", "misranked", "figure")
    return {name: getattr(image, name) for name in names}
