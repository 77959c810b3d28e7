"""The page of a run: one plain HTML file with the results, the curves and every test image."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral
from pathlib import Path
from urllib.parse import quote

from utils.evaluation.class_record import ClassRecord

TEMPLATE = Path(__file__).with_name("page.html")
DASH = "\u2013"
WORDS = {"auroc": "AUROC", "ap": "AP", "f1": "F1", "pro": "PRO"}
LABELS = {"n_train": "train images", "n_test": "test images"}
ORACLE = "oracle: the threshold is chosen on the test set itself"


def render_page(
    title: str,
    warnings: Sequence[str],
    facts: Mapping[str, str],
    columns: Sequence[str],
    rows: Sequence[Mapping],
    records: Sequence[ClassRecord],
    links: Sequence[str],
) -> str:
    """Return the text of `index.html`, a page that needs no server and no network.

    `warnings` are shown as a banner, `facts` (name to value) in a fold. `rows` hold `class` and
    the `columns`; those with a true `mean` make the foot of the table. `records` hold one class
    each. `links` are files next to the page.

    All of it may be hostile text: nothing but the template reaches the page as markup, and the
    result can be encoded as UTF-8 even where a file name could not be decoded.
    """
    parts = {
        "title": escape(title),
        "warnings": warning_list(warnings),
        "links": "".join(f'<a href="{escape(url(n))}">{escape(n)}</a>\n' for n in links),
        "facts": fact_list(facts),
        "head": "".join(_heading(name) for name in columns),
        "body": _rows([row for row in rows if not row.get("mean")], columns, records),
        "foot": _rows([row for row in rows if row.get("mean")], columns, ()),
        "notes": _notes(records),
        "data": _json([_class(record) for record in records]),
    }
    return fill(TEMPLATE, parts)


def fill(template: Path, parts: Mapping[str, str]) -> str:
    """The template with ``{{name}}`` replaced by the parts, which are markup already."""
    # One pass, so that text which looks like a placeholder is not filled in again.
    text = template.read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def warning_list(warnings: Sequence[str]) -> str:
    """What must be read before any number, as a banner; nothing where there is nothing."""
    if not warnings:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in warnings)
    return f'<ul class="warnings" aria-label="Warnings">{lines}</ul>'


def fact_list(facts: Mapping[str, str]) -> str:
    """Names and values, the inside of a ``dl``."""
    return "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>\n" for k, v in facts.items())


def _notes(records: Sequence[ClassRecord]) -> str:
    lines = "".join(
        f"<li><b>{escape(record.class_name)}</b>: {escape(note)}</li>"
        for record in records
        for note in record.notes
    )
    return f'<ul class="notes" aria-label="Notes">{lines}</ul>' if lines else ""


def _heading(name: str) -> str:
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    label = f'<span class="label">{escape(LABELS.get(name, words))}</span>'
    if name.endswith("_f1"):
        return f'<th scope="col" title="{ORACLE}">{label} <small>oracle</small></th>'
    return f'<th scope="col">{label}</th>'


def _rows(rows: Sequence[Mapping], columns: Sequence[str], records: Sequence[ClassRecord]) -> str:
    # The script finds the images of a row by position: a name may not survive being written out.
    index = {record.class_name: position for position, record in enumerate(records)}
    lines = []
    for row in rows:
        name = row["class"]
        attribute = f' data-class="{index[name]}"' if name in index else ""
        label = row.get("label", name)
        cells = "".join(_cell(column, row.get(column)) for column in columns)
        lines.append(f'<tr><th scope="row"{attribute}>{escape(label)}</th>{cells}</tr>\n')
    return "".join(lines)


def _cell(column: str, value: float | str | None) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    number = _number(value)
    if number is None:
        return f"<td>{DASH}</td>"
    if isinstance(value, Integral):
        text = str(int(value))
    else:
        is_measure = column != "seconds" and not column.startswith("n_")
        text = f"{number:.3f}" if is_measure else f"{number:.1f}"
    return f'<td data-value="{number!r}">{text}</td>'


def _class(record: ClassRecord) -> dict:
    return {
        "name": record.class_name,
        "good": record.n_good,
        "defective": record.n_defective,
        "images": [
            {
                "path": image.path,
                "defect": image.defect,
                "label": image.label,
                "score": _number(image.score),
                "misranked": _number(image.misranked),
                "figure": image.figure,
            }
            for image in record.images
        ],
    }


def _number(value: float | None) -> float | None:
    """Return a float, or None in place of a value that JSON lacks (infinite, not a number)."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _json(value: object) -> str:
    """Return JSON that cannot end the script element it is put in; it is pure ASCII."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)


def url(name: str) -> str:
    """Return the relative address of a file, bytes that are not UTF-8 included."""
    return quote(name.encode("utf-8", "surrogateescape"), safe="/")
