"""The page of a prediction: one plain HTML file with the worst images and their overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from utils.report.page import DASH, fact_list, fill, url, warning_list

TEMPLATE = Path(__file__).with_name("prediction_page.html")
PAGE_ROWS = 2000  # images a page has at most, so that a browser can open it


def render_prediction_page(
    title: str,
    warnings: Sequence[str],
    facts: Mapping[str, object],
    rows: Sequence[Mapping],
) -> str:
    """The text of ``index.html``, a page that needs no server and no network.

    Args:
        title: of the page.
        warnings: shown as a banner.
        facts: name to value, among them ``n_judged``, ``n_defective`` and ``n_failed``.
        rows: of the images shown, worst first: ``name``, ``score``, ``p_value``, ``decision`` and
            ``overlay``, a path beside the page or None.

    All of it may be hostile text: nothing but the template reaches the page as markup.
    """
    return fill(
        TEMPLATE,
        {
            "title": escape(title),
            "warnings": warning_list(warnings),
            "counts": escape(_counts(facts, len(rows))),
            "facts": fact_list({name: str(value) for name, value in facts.items()}),
            "body": "".join(map(_row, rows)),
        },
    )


def _counts(facts: Mapping[str, object], n_shown: int) -> str:
    n_judged, n_defective, n_failed = (
        facts[name] for name in ("n_judged", "n_defective", "n_failed")
    )
    parts = [f"{n_judged} images judged"]
    if n_defective is not None:
        rate = facts["false_alarm_rate"]
        parts.append(f"{n_defective} defective at a false alarm rate of {rate:g}")
    if n_failed:
        parts.append(f"{n_failed} failed, see failed.csv")
    if n_shown < n_judged:
        parts.append(f"the {n_shown} of the highest scores are on this page, all in scores.csv")
    return "; ".join(parts) + "."


def _row(row: Mapping) -> str:
    name, decision = escape(row["name"]), escape(row["decision"])
    overlay, picture = row["overlay"], DASH
    if overlay is not None:
        address = escape(url(overlay))
        picture = (
            f'<a href="{address}"><img src="{address}" loading="lazy" alt="Overlay of {name}"></a>'
        )
    p_value = row["p_value"]
    shown = DASH if p_value is None else f"{p_value:.4f}"
    return (
        f'<tr data-decision="{decision}"><th scope="row" tabindex="0">{name}</th>'
        f'<td data-value="{row["score"]!r}">{row["score"]:.5g}</td>'
        f'<td data-value="{1 if p_value is None else p_value!r}">{shown}</td>'
        f"<td>{decision or DASH}</td><td>{picture}</td></tr>\n"
    )
