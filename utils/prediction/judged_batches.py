"""One pass over images: each batch is judged, its files written, its rows added to the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier

from datasets.loading.unlabelled import FolderBatch, FoundImage
from padim.model import PaDiM
from padim.parallel.process_group import ProcessGroup
from utils.prediction.end_report import Outcome, Tally, highest
from utils.prediction.judge import Judgement
from utils.prediction.tables import Tables
from utils.prediction.writer import ImageWriter
from utils.report.prediction_page import PAGE_ROWS
from utils.system.console import one_line, say

WRITERS = 4  # threads that write maps and overlays; each holds an image at its original size

Problem = tuple[FoundImage, str]


def writers() -> ThreadPoolExecutor:
    """A pool whose threads have all started.

    If a signal stops the run while a thread starts, nothing waits for that thread, and it may end
    in the middle of a file.
    """
    pool, barrier = ThreadPoolExecutor(WRITERS), Barrier(WRITERS)
    list(pool.map(lambda _: barrier.wait(), range(WRITERS)))
    return pool


@dataclass(frozen=True)
class BatchOutcome:
    """The results of a batch: the images judged, and those with a problem and its reason."""

    judged: Sequence[Judgement] = ()
    problems: Sequence[Problem] = ()

    def __len__(self) -> int:
        return len({item.name for item in self.judged} | {image.name for image, _ in self.problems})


class Pass:
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

    def rounds(self, batches: Iterable[FolderBatch], n_rounds: int) -> Iterator[BatchOutcome]:
        """The outcomes of all processes' batches, in order, in the first process."""
        own = iter(batches)
        for _ in range(n_rounds):
            batch = next(own, None)  # in the last round there may be none for this process
            outcome = BatchOutcome() if batch is None else self.judge(batch)
            yield from self._group.gather_objects(outcome)

    def collect(self, outcomes: Iterable[BatchOutcome], tables: Tables | None) -> Outcome:
        """Fill the tables, which the first process has; the others have no outcomes."""
        tally = Tally(self.n_kept)
        for found in outcomes:
            assert tables is not None
            record(found, tally, tables)
        self._remove_overlays(tally.worst[: self._writer.options.figures or 0])
        return tally.outcome

    @property
    def n_kept(self) -> int:
        """Judgements with the highest scores that are kept, for the page and the overlays."""
        return max(PAGE_ROWS, self._writer.options.figures or 0)

    def restore(self, worst: Sequence[Judgement]) -> None:
        """Continue after an earlier process, with its highest scores."""
        self._drawn = list(worst[: self._writer.options.figures or 0])

    def _remove_overlays(self, kept: Sequence[Judgement]) -> None:
        """Remove those that other processes' images displace."""
        for drawn in self._group.gather_objects(self._drawn):
            self._remove(drawn, {item.name for item in kept})

    def _remove(self, drawn: Sequence[Judgement], kept: set[str]) -> None:
        for item in drawn:
            if item.name not in kept:
                self._writer.remove_pictures(item.name)

    def judge(self, batch: FolderBatch) -> BatchOutcome:
        """Judge a batch and write the files of its images."""
        if batch.crops is None:
            return BatchOutcome([], batch.failed)
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
        return BatchOutcome(judged, [*batch.failed, *unwritten])

    def _choose_drawn(self, judged: Sequence[Judgement]) -> list[bool]:
        """Which images of a batch get an overlay. Overlays that they displace are removed."""
        n_figures = self._writer.options.figures
        if n_figures is None:
            return [True] * len(judged)
        before = self._drawn
        self._drawn = highest(n_figures, [*before, *judged])
        kept = {item.name for item in self._drawn}
        self._remove(before, kept)
        return [item.name in kept for item in judged]


def record(found: BatchOutcome, tally: Tally, tables: Tables) -> None:
    """Add the results of a batch to the tables, and print failures."""
    for item in found.judged:
        tables.add(item)
    for image, reason in found.problems:
        tables.add_failed(image.name, reason)
        say(f"failed: {one_line(image.name)}: {one_line(reason)}")
    tally.add(found.judged, len(found.problems))
