"""Judging new images with a fitted model: one pass over the images, then the tables and the page.

Images stream through. Only a bounded number of the worst judgements is kept, for the page and the
overlays, so memory does not grow with the number of images.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import torch

from datasets.loading.unlabelled import FolderBatch, FoundImage, find_images, read_batches
from padim.model import PaDiM
from padim.model_file import load_model
from utils.prediction.end_report import Outcome, print_end, write_report
from utils.prediction.judge import Judge, Judgement
from utils.prediction.options import PredictOptions
from utils.prediction.outputs import make_room
from utils.prediction.overlay import Placement
from utils.prediction.writer import ImageWriter
from utils.report.prediction_page import PAGE_ROWS
from utils.system.console import UNTRAINED, one_line, progress, say, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable, written_whole
from utils.system.lock import locked
from utils.system.process import tune_worker

WRITERS = 4  # threads that write maps and overlays; each holds an image at its original size

Problem = tuple[FoundImage, str]


def predict(options: PredictOptions) -> int:
    """Judge images.

    Returns:
        How many images could not be judged or written.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    device = choose_device(options.device)
    save_path = options.save_path
    images = find_images(options.input, [save_path, save_path / "maps", save_path / "overlays"])
    model = load_model(options.model, weights=options.weights, device=device)
    assert model.embedding is not None
    judge = Judge(model.calibration, options.false_alarm_rate, model.embedding.dim)
    warnings = [UNTRAINED] * model.backbone.is_untrained + judge.doubts()
    check_writable(save_path)
    with locked(save_path):
        make_room(options)
        warn(warnings)
        placement = Placement(model.config.resize, model.config.crop)
        writer = ImageWriter(options, placement, judge, model.config.bits)
        outcome = _judge_all(images, model, writer, device)
        write_report(model, writer, outcome, warnings, describe(device))
        print_end(options, judge, outcome)
        warn(warnings)
    return outcome.n_failed


def _judge_all(
    images: Sequence[FoundImage], model: PaDiM, writer: ImageWriter, device: torch.device
) -> Outcome:
    """Judge images and write their files. The two tables appear at the end."""
    options = writer.options
    batches = read_batches(
        images,
        model.preprocessing,
        options.batch_size,
        options.num_workers,
        device.type == "cuda",
        tune_worker,
    )
    shown = progress(batches, len(images), options.model.stem, "judge")
    with (
        _table(options.save_path / "scores.csv", "path", "score", "p_value", "decision") as scores,
        _table(options.save_path / "failed.csv", "path", "reason") as failed,
        _writers() as pool,
    ):
        return _Pass(model, writer, pool).run(shown, scores, failed)


def _writers() -> ThreadPoolExecutor:
    """A pool whose threads have all started.

    A signal that stops the run while a thread starts would leave that thread out of those that are
    waited for, in the middle of a file.
    """
    pool, barrier = ThreadPoolExecutor(WRITERS), Barrier(WRITERS)
    list(pool.map(lambda _: barrier.wait(), range(WRITERS)))
    return pool


@dataclass(frozen=True)
class _BatchOutcome:
    judged: Sequence[Judgement]
    problems: Sequence[Problem]


class _Pass:
    """One pass over the images.

    Args:
        model: fitted.
        writer: of each image's files.
        pool: threads that write.
    """

    def __init__(self, model: PaDiM, writer: ImageWriter, pool: ThreadPoolExecutor) -> None:
        self._model, self._writer, self._pool = model, writer, pool
        self._drawn: list[Judgement] = []  # those that have an overlay, if not all have

    def run(self, batches: Iterable[FolderBatch], scores: Any, failed: Any) -> Outcome:
        """Judge all batches; ``scores`` and ``failed`` are CSV writers."""
        n_judged = n_defective = n_failed = 0
        worst: list[Judgement] = []
        for batch in batches:
            found = self._judge(batch)
            for item in found.judged:
                p_value = "" if item.p_value is None else item.p_value
                scores.writerow((item.name, item.score, p_value, item.decision))
            for image, reason in found.problems:
                failed.writerow((image.name, reason))
                say(f"failed: {one_line(image.name)}: {one_line(reason)}")
            n_judged += len(found.judged)
            n_defective += sum(bool(item.is_defective) for item in found.judged)
            n_failed += len(found.problems)
            worst = _highest(PAGE_ROWS, [*worst, *found.judged])
        return Outcome(n_judged, n_defective, n_failed, tuple(worst))

    def _judge(self, batch: FolderBatch) -> _BatchOutcome:
        if batch.crops is None:
            return _BatchOutcome([], batch.failed)
        maps, scores = self._model(batch.crops)
        judged = self._writer.judge.judge(batch.found, scores)
        files = (batch.found, batch.sizes, maps.cpu().numpy(), self._choose_drawn(judged))
        reasons = list(self._pool.map(self._writer.write, *files))  # waits: one batch is held
        pairs = zip(batch.found, reasons, strict=True)
        unwritten = [(image, reason) for image, reason in pairs if reason]
        return _BatchOutcome(judged, [*batch.failed, *unwritten])

    def _choose_drawn(self, judged: Sequence[Judgement]) -> list[bool]:
        """Which images of a batch get an overlay. Overlays that they displace are removed."""
        n_figures = self._writer.options.figures
        if n_figures is None:
            return [True] * len(judged)
        before = self._drawn
        self._drawn = _highest(n_figures, [*before, *judged])
        kept = {item.name for item in self._drawn}
        for item in before:
            if item.name not in kept:
                self._writer.overlay_path(item.name).unlink(missing_ok=True)
        return [item.name in kept for item in judged]


@contextmanager
def _table(path: Path, *columns: str) -> Iterator[Any]:
    """A CSV writer; its file appears when the block ends well."""
    with (
        written_whole(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        yield table


def _highest(count: int, judged: Iterable[Judgement]) -> list[Judgement]:
    """The highest scores first; of equal scores, the earlier image first."""
    return heapq.nlargest(count, judged, key=lambda item: item.score)
