"""The page of a prediction: the images with the highest scores, as a gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.report.gallery import GalleryClass, GalleryImage, gallery_data
from utils.report.html import render
from utils.report.key_numbers import KeyNumber, rate_text
from utils.report.text import DASH, format_number

PAGE_ROWS = 2000  # images on a page at most, so that a browser can open it


def render_prediction_page(
    title: str,
    warnings: Sequence[str],
    command: str,
    facts: Mapping[str, object],
    images: Sequence[GalleryImage],
) -> str:
    """The text of ``index.html``.

    Args:
        title: of the page.
        warnings: shown as a banner.
        command: the command line that makes the prediction again.
        facts: name to value, among them ``n_judged``, ``n_defective``, ``n_failed``,
            ``image_threshold``, ``false_alarm_rate`` and ``requested_false_alarm_rate``.
        images: those shown, highest score first.
    """
    threshold: float | None = facts["image_threshold"]  # type: ignore[assignment]
    n_judged: int = facts["n_judged"]  # type: ignore[assignment]
    classes = [GalleryClass(title, threshold, tuple(images))]
    return render(
        "prediction.html",
        title=title,
        warnings=warnings,
        command=command,
        facts=facts,
        tiles=_tiles(facts),
        n_shown=len(images),
        n_judged=n_judged,
        data=gallery_data(classes, n_judged),
    )


def _tiles(facts: Mapping[str, object]) -> list[KeyNumber]:
    tiles = [KeyNumber("Images judged", str(facts["n_judged"]))]
    if facts["n_defective"] is None:
        tiles.append(KeyNumber("Defective", DASH, ("the model has no threshold",)))
    else:
        rate: float = facts["false_alarm_rate"]  # type: ignore[assignment]
        requested: float = facts["requested_false_alarm_rate"]  # type: ignore[assignment]
        line = rate_text([rate], [requested])
        link = ("show them", "defective") if facts["n_defective"] else (None, "")
        tiles.append(KeyNumber("Defective", str(facts["n_defective"]), (line,), *link))
        value: float = facts["image_threshold"]  # type: ignore[assignment]
        learned = "learned from the training images"
        tiles.append(KeyNumber("Image threshold", format_number("score", value), (learned,)))
    if facts["n_failed"]:
        tiles.append(KeyNumber("Failed", str(facts["n_failed"]), ("see failed.csv",)))
    return tiles
