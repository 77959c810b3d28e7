"""The page of a prediction: one HTML file with the highest scores and their overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.report.html import render

PAGE_ROWS = 2000  # images on a page at most, so that a browser can open it


@dataclass(frozen=True)
class PredictionRow:
    """One image of the page.

    Attributes:
        name: its path in its input.
        score: image score, a Mahalanobis distance.
        p_value: None without a calibration.
        decision: ``normal`` or ``defective``; empty without a calibration.
        overlay: path of its overlay, relative to the page; None if none was drawn.
    """

    name: str
    score: float
    p_value: float | None
    decision: str
    overlay: str | None


def render_prediction_page(
    title: str,
    warnings: Sequence[str],
    facts: Mapping[str, object],
    rows: Sequence[PredictionRow],
) -> str:
    """The text of ``index.html``.

    Args:
        title: of the page.
        warnings: shown as a banner.
        facts: name to value, among them ``n_judged``, ``n_defective``, ``n_failed`` and
            ``false_alarm_rate``.
        rows: of the images shown, highest score first.
    """
    counts = _counts(facts, len(rows))
    return render(
        "prediction.html", title=title, warnings=warnings, counts=counts, facts=facts, rows=rows
    )


def _counts(facts: Mapping[str, object], n_shown: int) -> str:
    parts = [f"{facts['n_judged']} images judged"]
    if facts["n_defective"] is not None:
        rate = facts["false_alarm_rate"]
        parts.append(f"{facts['n_defective']} defective at a false alarm rate of {rate:g}")
    if facts["n_failed"]:
        parts.append(f"{facts['n_failed']} failed, see failed.csv")
    if n_shown != facts["n_judged"]:
        parts.append(f"this page shows the {n_shown} highest scores, scores.csv has all")
    return "; ".join(parts) + "."
