"""Judge images as they arrive in folders, until a signal.

The tables tell which images were judged, so a watch continues where it ended, however it ended. The
page and summary.json are written at the start, when nothing arrives, and at the end.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NoReturn

import torch

from datasets.loading.unlabelled import FolderBatch, read_batch
from datasets.loading.watched import Arrival, FolderWatch, Stamp, check_folders
from padim.parallel.process_group import ProcessGroup
from utils.errors import OptionError
from utils.prediction.end_report import Tally, drift_of, facts_of, print_end, write_report
from utils.prediction.judged_batches import Pass, record, writers
from utils.prediction.judging import (
    Parts,
    check_place,
    load_parts,
    own_folders,
    prepare,
    summary_of,
    write_skipped,
)
from utils.prediction.options import PredictOptions
from utils.prediction.tables import Tables, recover
from utils.report.figures import heat_colours
from utils.report.prediction_page import PAGE_ROWS
from utils.system.console import one_line, say, warn
from utils.system.device import choose_device, describe
from utils.system.stop import Stopped, check_stop, end_well

POLL = 0.02  # seconds between two looks at the folders
REFRESH = 60.0  # seconds between two pages, while nothing arrives
# Keys of summary.json on which results depend. The thresholds of any two models differ.
SAME = (
    *("weights_checksum", "false_alarm_rate", "image_threshold", "pixel_threshold"),
    *("resize", "crop", "map_size", "min_area"),
)


def watch(options: PredictOptions) -> int:
    """Judge images as they arrive, until SIGINT or SIGTERM.

    Returns:
        How many images could not be judged or written, in all.

    Raises:
        DataError, ModelError, OptionError: an input cannot be used.
    """
    device = choose_device(options.device)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise OptionError("--watch is for one process; start predict.py without torchrun")
    check_place(options)
    check_folders(options.input)  # before anything is loaded or written
    with ExitStack() as stack:
        parts = load_parts(options, device, ())
        is_going_on = not options.overwrite and (options.save_path / "summary.json").is_file()
        prepare(options, stack, is_going_on)
        if is_going_on:
            _check_same(parts)
        pool = stack.enter_context(writers())
        work = _Watch(parts, Pass(parts.model, parts.writer, pool, ProcessGroup()), pool)
        warn(parts.warnings())
        try:
            work.run()
        except Stopped:
            work.report()
            judge, outcome = parts.writer.judge, work.tally.outcome
            print_end(options, judge, outcome, drift_of(parts.model, judge, outcome))
            warn(parts.warnings())
            end_well()
    return work.tally.outcome.n_failed


class _Watch:
    """A watch at work.

    Args:
        parts: what judges.
        judging: of batches.
        pool: threads that decode.
    """

    def __init__(self, parts: Parts, judging: Pass, pool: ThreadPoolExecutor) -> None:
        self._parts, self._judging, self._pool = parts, judging, pool
        self._options = options = parts.writer.options
        self.tally = Tally(judging.n_kept)
        self._before, self._judged_until = self._recover()
        judging.restore(self.tally.worst)
        self._folders = FolderWatch(options.input, own_folders(options), self._is_known)
        self._missing: set[str] = set()
        self._is_reported, self._reported = False, 0.0

    def run(self) -> NoReturn:
        """Judge images as they arrive.

        Raises:
            Stopped: a signal came.
        """
        _warm_up(self._parts)
        self._folders.poll(0)
        self.report()
        tables = Tables.appended_to(self._options.save_path)
        where, n_known = " ".join(map(str, self._options.input)), self._folders.n_known
        line = f"{self._options.model.stem}: watching {where}; {n_known} images are done already"
        print(one_line(line), flush=True)
        while True:
            check_stop()
            arrivals = self._folders.poll(self._options.batch_size)
            self._say_missing()
            if arrivals:
                self._judge(arrivals, tables)
                continue
            if not self._is_reported and time.monotonic() - self._reported > REFRESH:
                self.report()
            time.sleep(POLL)

    def report(self) -> None:
        """Write summary.json, the page and skipped.csv."""
        skipped, model = self._folders.skipped, self._parts.model
        data = summary_of(self._folders.images, skipped, model)
        write_skipped(self._options.save_path / "skipped.csv", skipped)
        about = data, self._parts.warnings(), describe(model.device)
        write_report(model, self._parts.writer, self.tally.outcome, *about)
        self._is_reported, self._reported = True, time.monotonic()

    def _judge(self, arrivals: Sequence[Arrival], tables: Tables) -> None:
        last = {one.image.path for one in arrivals if one.is_last}
        images = [one.image for one in arrivals]
        batch = read_batch(images, self._parts.model.preprocessing, self._pool.map)
        # A file that changed while it was read may have been read in part: it arrives again.
        whole = [i for i, image in enumerate(batch.found) if self._folders.is_unchanged(image)]
        failed = [(image, why) for image, why in batch.failed if image.path in last]
        for image, _ in batch.failed:
            if image.path not in last:
                self._folders.put_off(image)
        if not whole and not failed:
            return
        crops = batch.crops[whole] if batch.crops is not None and whole else None
        found, sizes = [batch.found[i] for i in whole], [batch.sizes[i] for i in whole]
        outcome = self._judging.judge(FolderBatch(found, crops, sizes, failed))
        record(outcome, self.tally, tables)
        tables.commit()
        for image in (*found, *(image for image, _ in failed)):
            self._folders.settle(image)
        for item in outcome.judged:
            p_value = "" if item.p_value is None else f", p-value {item.p_value:.3g}"
            line = f"{item.decision or 'judged'}: {item.name}, score {item.score:.4g}{p_value}"
            print(one_line(line), flush=True)
        self._is_reported = False

    def _recover(self) -> tuple[set[str], int]:
        """Count what earlier watches judged; the names, and when the last one was judged, in ns."""
        folder, names, part = self._options.save_path, set(), []
        table = folder / "scores.csv"
        until = table.stat().st_mtime_ns if table.exists() else 0
        for item in recover(folder):
            names.add(item.name)
            part.append(item)
            if len(part) == PAGE_ROWS:
                self.tally.add(part)
                part.clear()
        self.tally.add(part)
        if (folder / "failed.csv").exists():
            with (folder / "failed.csv").open(encoding="utf-8", newline="") as file:
                failed = [row["path"] for row in csv.DictReader(file)]
            names.update(failed)
            self.tally.add((), len(failed))
        return names, until

    def _is_known(self, name: str, stamp: Stamp) -> bool:
        return name in self._before and stamp[0] <= self._judged_until

    def _say_missing(self) -> None:
        """Say that a folder is gone, or there again."""
        missing = self._folders.missing
        for path in missing - self._missing:
            say(one_line(f"--input {path} cannot be read; waiting for it"))
        for path in self._missing - missing:
            say(one_line(f"--input {path} is there again"))
        self._missing = set(missing)


def _warm_up(parts: Parts) -> None:
    """Do what only the first image takes, a second, before it comes."""
    side = parts.model.config.crop
    maps, _ = parts.model(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    parts.writer.judge.regions(maps[0].cpu().numpy(), (side, side))
    heat_colours()


def _check_same(parts: Parts) -> None:
    """Check that earlier results had the same settings.

    Raises:
        OptionError: they did not.
    """
    folder = parts.writer.options.save_path
    data = summary_of((), (), parts.model)
    now = facts_of(parts.writer.options, parts.model, parts.writer.judge, Tally(0).outcome, data)
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        differing = next((name for name in SAME if before[name] != now[name]), None)
    except (ValueError, KeyError, TypeError):
        raise OptionError(
            f"{folder / 'summary.json'} is damaged, or of another version: give another folder, or "
            "--overwrite to start afresh"
        ) from None
    if differing is not None:
        raise OptionError(
            f"--save_path {folder} was judged with {differing} {before[differing]}, and now it is "
            f"{now[differing]}: give another folder, or --overwrite to start afresh"
        )
