"""The report of a prediction: summary.json, the page and the last lines."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets.region_of_interest import looked_at_text
from datasets.summary import DataSummary, squashed_text
from padim.model import PaDiM
from utils.evaluation.drift import Drift
from utils.prediction.judge import Judge, Judgement
from utils.prediction.options import PredictOptions
from utils.prediction.overlay import LEVELS_PER_UNIT
from utils.prediction.writer import ImageWriter
from utils.report.command import command_line
from utils.report.gallery import GalleryImage
from utils.report.prediction_page import PAGE_ROWS, render_prediction_page
from utils.system.files import write_json, write_text


@dataclass(frozen=True)
class Outcome:
    """The results of a pass over the images.

    Attributes:
        n_judged: images that have a score.
        n_defective: those of them that are defective; 0 without thresholds.
        n_failed: images that could not be read, or whose files could not be written.
        worst: the judgements with the highest scores, highest first.
        p_values: how many images have each p-value; empty without thresholds.
        n_not_square: images that are not square, and are distorted by the resize.
        not_square: width and height of one of them; None without any.
    """

    n_judged: int
    n_defective: int
    n_failed: int
    worst: tuple[Judgement, ...]
    p_values: Mapping[float, int]
    n_not_square: int = 0
    not_square: tuple[int, int] | None = None


class Tally:
    """The outcome so far.

    Args:
        n_kept: judgements with the highest scores that are kept.
    """

    def __init__(self, n_kept: int) -> None:
        self._n_kept = n_kept
        self._n_judged = self._n_defective = self._n_failed = self._n_not_square = 0
        self._not_square: tuple[int, int] | None = None
        self._p_values: Counter[float] = Counter()  # of which there are few
        self.worst: list[Judgement] = []

    def add(self, judged: Sequence[Judgement], n_failed: int = 0) -> None:
        """Count images that were judged, and some that failed."""
        self._n_judged += len(judged)
        self._n_defective += sum(bool(item.is_defective) for item in judged)
        self._n_failed += n_failed
        self._p_values.update(item.p_value for item in judged if item.p_value is not None)
        not_square = [item.size for item in judged if item.size[0] != item.size[1]]
        self._n_not_square += len(not_square)
        self._not_square = self._not_square or next(iter(not_square), None)
        self.worst = highest(self._n_kept, [*self.worst, *judged])

    @property
    def outcome(self) -> Outcome:
        """The outcome so far."""
        counts = self._n_judged, self._n_defective, self._n_failed
        shapes = self._n_not_square, self._not_square
        return Outcome(*counts, tuple(self.worst[:PAGE_ROWS]), Counter(self._p_values), *shapes)


def highest(count: int, judged: Iterable[Judgement]) -> list[Judgement]:
    """The highest scores first; of equal scores, the earlier image first."""
    return heapq.nlargest(count, judged, key=lambda item: item.score)


def write_report(
    model: PaDiM,
    writer: ImageWriter,
    outcome: Outcome,
    data: DataSummary,
    warnings: Sequence[str],
    versions: Mapping[str, str],
) -> None:
    """Write ``summary.json`` and ``index.html``."""
    options = writer.options
    drift = drift_of(model, writer.judge, outcome)
    warnings = [*warnings, *drift_lines(drift)]
    facts = facts_of(options, model, writer.judge, outcome, data)
    facts["drift_p_value"] = None if drift is None else drift.p_value
    write_json(options.save_path / "summary.json", facts | {"versions": versions})
    page = render_prediction_page(
        f"PaDiM {options.model.stem}",
        warnings,
        command_line("predict.py", options),
        {**facts, **versions},
        [_gallery_image(writer, item) for item in outcome.worst],
    )
    write_text(options.save_path / "index.html", page)


def drift_of(model: PaDiM, judge: Judge, outcome: Outcome) -> Drift | None:
    """The drift of the images judged; None without thresholds."""
    if model.calibration is None or judge.thresholds is None:
        return None
    n_training = len(model.calibration.image_scores)
    return Drift.of(outcome.p_values, judge.thresholds.rate, n_training)


def drift_lines(drift: Drift | None) -> list[str]:
    """The remark on the drift, if there is any."""
    line = None if drift is None else drift.line("these images")
    end = "if most of them are normal, they are not like the training images"
    return [] if line is None else [f"{line}; {end}"]


def print_end(options: PredictOptions, judge: Judge, outcome: Outcome, drift: Drift | None) -> None:
    """Print the counts and where the results are."""
    line = f"{outcome.n_judged} images judged"
    if judge.thresholds is not None:
        rate, requested = judge.thresholds.rate, judge.thresholds.requested_rate
        line += f", {outcome.n_defective} of them defective at a false alarm rate of {rate:.3g}"
        line += f" ({requested:g} was asked for)" if rate != requested else ""
    print(line)
    for said in drift_lines(drift):
        print(said)
    if outcome.not_square is not None:
        print(squashed_text(outcome.n_not_square, outcome.not_square))
    if outcome.n_failed:
        print(f"{outcome.n_failed} failed: {options.save_path / 'failed.csv'}")
    print(f"Scores, maps and overlays: {options.save_path}")
    print(f"To look through: {options.save_path / 'index.html'}")


def data_text(data: DataSummary, model: PaDiM) -> str:
    """The remark on the images, and the share that the model looks at if it has a region."""
    if model.region is None:
        return data.text
    return f"{data.text}; {looked_at_text(looked_at(model))}"


def looked_at(model: PaDiM) -> float:
    """The share of an image that a model looks at."""
    share = 1.0 if model.region is None else model.region.share
    return share * (model.config.crop / model.config.resize) ** 2


def facts_of(
    options: PredictOptions, model: PaDiM, judge: Judge, outcome: Outcome, data: DataSummary
) -> dict[str, object]:
    """The content of ``summary.json``, without the versions."""
    thresholds = judge.thresholds
    return {
        "model": str(options.model),
        "backbone": f"{model.backbone.name}, {'+'.join(model.backbone.layers)}",
        "weights": model.backbone.weights,
        "weights_checksum": model.backbone.checksum,
        "requested_false_alarm_rate": options.false_alarm_rate,
        "false_alarm_rate": None if thresholds is None else thresholds.rate,
        "image_threshold": None if thresholds is None else thresholds.image,
        "pixel_threshold": None if thresholds is None else thresholds.pixel,
        "distance_per_map_level": judge.unit / LEVELS_PER_UNIT,
        "map_size": options.map_size,
        "min_area": options.min_area,
        "resize": model.config.resize,
        "crop": model.config.crop,
        "looked_at": looked_at(model),
        "n_judged": outcome.n_judged,
        "n_defective": None if thresholds is None else outcome.n_defective,
        "n_failed": outcome.n_failed,
        "n_not_square": outcome.n_not_square,
        "data": data_text(data, model),
        "skipped": dict(data.skipped),
    }


def _gallery_image(writer: ImageWriter, item: Judgement) -> GalleryImage:
    """An image of the page; the addresses of its pictures are relative to the page."""
    folder = writer.options.save_path
    paths = writer.overlay_path(item.name), writer.original_path(item.name)
    picture, original = (
        path.relative_to(folder).as_posix() if path.is_file() else None for path in paths
    )
    return GalleryImage(item.name, item.score, item.p_value, picture=picture, original=original)
