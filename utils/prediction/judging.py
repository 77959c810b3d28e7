"""Judging new images with a fitted model: one pass over the images, then the tables and the page.

Images stream through. Only a bounded number of the worst judgements is kept, for the page and the
overlays, so memory does not grow with the number of images.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier

import torch

from datasets.layouts import check_outside_classes
from datasets.loading.unlabelled import FolderBatch, FoundImage, find_images, read_batches
from datasets.loading.workers import Hooks
from datasets.summary import DataSummary, by_count, unseen_share
from padim.model import PaDiM
from padim.parallel.process_group import ProcessGroup
from padim.reading.folders import LOCK, Skipped
from padim.storage.model_file import load_model
from utils.prediction.end_report import Outcome, data_text, drift_of, print_end, write_report
from utils.prediction.judge import Judge, Judgement
from utils.prediction.options import PredictOptions
from utils.prediction.outputs import make_room, unlike_names
from utils.prediction.overlay import Placement
from utils.prediction.submission import FOLDERS, check_names
from utils.prediction.tables import Tables, csv_table
from utils.prediction.writer import ImageWriter
from utils.report.prediction_page import PAGE_ROWS
from utils.system.console import UNTRAINED, one_line, progress, say, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import tune_worker
from utils.system.stop import check_stop

WRITERS = 4  # threads that write maps and overlays; each holds an image at its original size

Problem = tuple[FoundImage, str]


def predict(options: PredictOptions) -> int:
    """Judge images. Several processes, as ``torchrun`` starts them, each judge some batches.

    Returns:
        How many images could not be judged or written; 0 in other processes than the first.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    device = choose_device(options.device)
    group = ProcessGroup.from_environment(device)
    with ExitStack() as stack:
        unused: list[Skipped] = []
        if group.is_first:  # before the others do anything: what is wrong is said once
            images = _find_images(options, unused)
            parts = _load(options, device, images)
            _prepare(options, stack)
            group.broadcast(images)
        else:
            images = group.broadcast(None)
            parts = _load(options, device, images)
        warnings = parts.warnings()
        warn(warnings if group.is_first else [])
        data = _summary(images, unused, parts.model)
        if group.is_first:
            print(one_line(f"{options.model.stem}: {data_text(data, parts.model)}"), flush=True)
        outcome = _judge_all(images, parts, group)
        if group.is_first:
            _write_skipped(options.save_path / "skipped.csv", unused)
            write_report(parts.model, parts.writer, outcome, data, warnings, describe(device))
            judge = parts.writer.judge
            print_end(options, judge, outcome, drift_of(parts.model, judge, outcome))
            warn(warnings)
        group.close()
    return outcome.n_failed


def _find_images(options: PredictOptions, unused: list[Skipped]) -> list[FoundImage]:
    check_outside_classes(options.save_path, "--save_path")
    own = [options.save_path / name for name in ("", "maps", "overlays", "originals", *FOLDERS)]
    images = find_images(options.input, own, unused)
    if options.maps == "mvtec_ad2":
        check_names(images)
    return images


def _summary(images: Sequence[FoundImage], unused: Sequence[Skipped], model: PaDiM) -> DataSummary:
    """What is said of the images before they are read; their sizes are not known yet."""
    return DataSummary(
        n_images=len(images),
        endings=by_count(image.path.suffix.lower().lstrip(".") for image in images),
        sides=None,
        n_not_square=0,
        not_square=None,
        skipped=by_count(one.reason for one in unused),
        unseen=unseen_share(model.config.resize, model.config.crop),
    )


def _write_skipped(path: Path, unused: Sequence[Skipped]) -> None:
    with csv_table(path, "path", "reason") as table:
        table.writerows((one.path, one.reason) for one in unused)


def _prepare(options: PredictOptions, stack: ExitStack) -> None:
    """Make the folder, hold it until ``stack`` ends, and empty it if that is asked for."""
    check_writable(options.save_path)
    is_own = (options.save_path / LOCK).exists()
    stack.enter_context(locked(options.save_path))
    make_room(options, is_own)


@dataclass(frozen=True)
class _Parts:
    model: PaDiM
    writer: ImageWriter

    def warnings(self) -> list[str]:
        return [UNTRAINED] * self.model.backbone.is_untrained + self.writer.judge.doubts()


def _load(options: PredictOptions, device: torch.device, images: Sequence[FoundImage]) -> _Parts:
    model = load_model(options.model, weights=options.weights, device=device)
    assert model.embedding is not None
    judge = Judge(
        *(model.calibration, options.false_alarm_rate, model.embedding.dim),
        *(model.preprocessing, options.min_area),
    )
    region = None if model.region is None else model.region.mask.cpu().numpy()
    placement = Placement(model.config.resize, model.config.crop, region)
    renamed = unlike_names([image.name for image in images])
    return _Parts(model, ImageWriter(options, placement, judge, model.config.bits, renamed))


def _judge_all(images: Sequence[FoundImage], parts: _Parts, group: ProcessGroup) -> Outcome:
    """Judge images and write their files. The tables appear at the end.

    The batches are those of one process, and go round the processes.
    """
    options = parts.writer.options
    size = options.batch_size
    plan = [images[i : i + size] for i in range(0, len(images), size)]
    with (
        Tables.written_to(options.save_path) if group.is_first else nullcontext() as tables,
        _writers() as pool,
        read_batches(
            plan[group.rank :: group.world_size],
            parts.model.preprocessing,
            options.num_workers,
            Hooks(tune_worker, check_stop),
        ) as batches,
    ):
        judged = _Pass(parts.model, parts.writer, pool, group)
        rounds = judged.rounds(batches, -(-len(plan) // group.world_size))
        label = options.model.stem
        shown = progress(rounds, len(images), label, "judge", is_shown=group.is_first)
        return judged.collect(shown, tables)


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
    judged: Sequence[Judgement] = ()
    problems: Sequence[Problem] = ()
    not_square: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len({item.name for item in self.judged} | {image.name for image, _ in self.problems})


class _Pass:
    """One pass over the images.

    Args:
        model: fitted.
        writer: of each image's files.
        pool: threads that write.
        group: the processes that share the images.
    """

    def __init__(
        self, model: PaDiM, writer: ImageWriter, pool: ThreadPoolExecutor, group: ProcessGroup
    ) -> None:
        self._model, self._writer, self._pool, self._group = model, writer, pool, group
        self._drawn: list[Judgement] = []  # those that have an overlay, if not all have

    def rounds(self, batches: Iterable[FolderBatch], n_rounds: int) -> Iterator[_BatchOutcome]:
        """The outcomes of all processes' batches, in order, in the first process."""
        own = iter(batches)
        for _ in range(n_rounds):
            batch = next(own, None)  # in the last round there may be none for this process
            outcome = _BatchOutcome() if batch is None else self._judge(batch)
            yield from self._group.gather_objects(outcome)

    def collect(self, outcomes: Iterable[_BatchOutcome], tables: Tables | None) -> Outcome:
        """Fill the tables, which the first process has; the others have no outcomes."""
        n_judged = n_defective = n_failed = n_not_square = 0
        not_square: tuple[int, int] | None = None
        n_figures = self._writer.options.figures or 0
        worst: list[Judgement] = []
        for found in outcomes:
            assert tables is not None
            for item in found.judged:
                tables.add(item)
            for image, reason in found.problems:
                tables.add_failed(image.name, reason)
                say(f"failed: {one_line(image.name)}: {one_line(reason)}")
            n_judged += len(found.judged)
            n_defective += sum(bool(item.is_defective) for item in found.judged)
            n_failed += len(found.problems)
            n_not_square += len(found.not_square)
            not_square = not_square or next(iter(found.not_square), None)
            worst = _highest(max(PAGE_ROWS, n_figures), [*worst, *found.judged])
        self._remove_overlays(worst[:n_figures])
        shapes = n_not_square, not_square
        return Outcome(n_judged, n_defective, n_failed, tuple(worst[:PAGE_ROWS]), *shapes)

    def _remove_overlays(self, kept: Sequence[Judgement]) -> None:
        """Remove those that other processes' images displace."""
        for drawn in self._group.gather_objects(self._drawn):
            self._remove(drawn, {item.name for item in kept})

    def _remove(self, drawn: Sequence[Judgement], kept: set[str]) -> None:
        for item in drawn:
            if item.name not in kept:
                self._writer.remove_pictures(item.name)

    def _judge(self, batch: FolderBatch) -> _BatchOutcome:
        if batch.crops is None:
            return _BatchOutcome([], batch.failed)
        maps, scores = self._model(batch.crops)
        arrays = maps.cpu().numpy()
        judged = self._writer.judge.judge(batch.found, scores)
        found = self._pool.map(self._writer.judge.regions, arrays, batch.sizes)
        judged = [
            replace(item, size=size, regions=regions)
            for item, size, regions in zip(judged, batch.sizes, found, strict=True)
        ]
        files = (batch.found, judged, arrays, self._choose_drawn(judged))
        reasons = list(self._pool.map(self._writer.write, *files))  # waits: one batch is held
        pairs = zip(batch.found, reasons, strict=True)
        unwritten = [(image, reason) for image, reason in pairs if reason]
        not_square = [size for size in batch.sizes if size[0] != size[1]]
        return _BatchOutcome(judged, [*batch.failed, *unwritten], not_square)

    def _choose_drawn(self, judged: Sequence[Judgement]) -> list[bool]:
        """Which images of a batch get an overlay. Overlays that they displace are removed."""
        n_figures = self._writer.options.figures
        if n_figures is None:
            return [True] * len(judged)
        before = self._drawn
        self._drawn = _highest(n_figures, [*before, *judged])
        kept = {item.name for item in self._drawn}
        self._remove(before, kept)
        return [item.name in kept for item in judged]


def _highest(count: int, judged: Iterable[Judgement]) -> list[Judgement]:
    """The highest scores first; of equal scores, the earlier image first."""
    return heapq.nlargest(count, judged, key=lambda item: item.score)
