"""Judging new images with a fitted model: one pass over the images, then the tables and the page.

Images stream through. Only a bounded number of the worst judgements is kept, for the page and the
overlays, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.layouts import check_outside_classes
from datasets.loading.unlabelled import FoundImage, find_images, read_batches
from datasets.loading.workers import Hooks
from datasets.summary import DataSummary, by_count, unseen_share
from padim.model import PaDiM
from padim.parallel.process_group import ProcessGroup
from padim.reading.folders import LOCK, Skipped
from padim.storage.files import sweep
from padim.storage.model_file import load_model
from utils.errors import OptionError
from utils.prediction.end_report import Outcome, data_text, drift_of, print_end, write_report
from utils.prediction.judge import Judge
from utils.prediction.judged_batches import Pass, writers
from utils.prediction.options import PredictOptions
from utils.prediction.outputs import make_room, unlike_names
from utils.prediction.overlay import Placement
from utils.prediction.submission import FOLDERS, check_names
from utils.prediction.tables import Tables, csv_table
from utils.prediction.writer import ImageWriter
from utils.system.console import UNTRAINED, one_line, progress, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import tune_worker
from utils.system.stop import check_stop


def predict(options: PredictOptions) -> int:
    """Judge images. Several processes, as ``torchrun`` starts them, each judge some batches.

    Returns:
        How many images could not be judged or written; 0 in other processes than the first.

    Raises:
        DataError, ModelError, OptionError: an input cannot be used.
    """
    device = choose_device(options.device)
    group = ProcessGroup.from_environment(device)
    with ExitStack() as stack:
        unused: list[Skipped] = []
        if group.is_first:  # before the others do anything: what is wrong is said once
            images = _find_images(options, unused)
            parts = load_parts(options, device, images)
            prepare(options, stack)
            group.broadcast(images)
        else:
            images = group.broadcast(None)
            parts = load_parts(options, device, images)
        warnings = parts.warnings()
        warn(warnings if group.is_first else [])
        data = summary_of(images, unused, parts.model)
        if group.is_first:
            print(one_line(f"{options.model.stem}: {data_text(data, parts.model)}"), flush=True)
        outcome = _judge_all(images, parts, group)
        if group.is_first:
            write_skipped(options.save_path / "skipped.csv", unused)
            write_report(parts.model, parts.writer, outcome, data, warnings, describe(device))
            judge = parts.writer.judge
            print_end(options, judge, outcome, drift_of(parts.model, judge, outcome))
            warn(warnings)
        group.close()
    return outcome.n_failed


def _find_images(options: PredictOptions, unused: list[Skipped]) -> list[FoundImage]:
    check_place(options)
    images = find_images(options.input, own_folders(options), unused)
    if options.maps == "mvtec_ad2":
        check_names(images)
    return images


def check_place(options: PredictOptions) -> None:
    """Check that the results do not go among the images; a folder of their own inside is left out.

    Raises:
        DataError, OptionError: they would.
    """
    check_outside_classes(options.save_path, "--save_path")
    for given in options.input:
        if given.resolve() == options.save_path.resolve():
            raise OptionError(
                f"--save_path {options.save_path} is an --input: the next prediction would take "
                "its maps for images; give another folder"
            )


def own_folders(options: PredictOptions) -> list[Path]:
    """The folders of results, which are not searched for images."""
    return [options.save_path / name for name in ("", "maps", "overlays", "originals", *FOLDERS)]


def summary_of(
    images: Sequence[FoundImage], unused: Sequence[Skipped], model: PaDiM
) -> DataSummary:
    """The remark on the images before they are read; their sizes are not known yet."""
    return DataSummary(
        n_images=len(images),
        endings=by_count(image.path.suffix.lower().lstrip(".") for image in images),
        sides=None,
        n_not_square=0,
        not_square=None,
        skipped=by_count(one.reason for one in unused),
        unseen=unseen_share(model.config.resize, model.config.crop),
    )


def write_skipped(path: Path, unused: Sequence[Skipped]) -> None:
    """Write the table of the files that are no images."""
    with csv_table(path, "path", "reason") as table:
        table.writerows((one.path, one.reason) for one in unused)


def prepare(options: PredictOptions, stack: ExitStack, is_kept: bool = False) -> None:
    """Make the folder, lock it until ``stack`` ends, and empty it with ``--overwrite``.

    Args:
        options: of the prediction.
        stack: holds the lock.
        is_kept: whether to continue existing results of this program.
    """
    check_writable(options.save_path)
    is_own = (options.save_path / LOCK).exists()
    stack.enter_context(locked(options.save_path))
    if is_kept and is_own:
        sweep(options.save_path)
    else:
        make_room(options, is_own)


@dataclass(frozen=True)
class Parts:
    """The parts that judge images.

    Attributes:
        model: fitted.
        writer: of each image's files.
    """

    model: PaDiM
    writer: ImageWriter

    def warnings(self) -> list[str]:
        """Warnings to read with the results."""
        return [UNTRAINED] * self.model.backbone.is_untrained + self.writer.judge.doubts()


def load_parts(
    options: PredictOptions, device: torch.device, images: Sequence[FoundImage]
) -> Parts:
    """Load the model, and make the parts that judge the given images."""
    model = load_model(options.model, weights=options.weights, device=device)
    assert model.embedding is not None
    judge = Judge(
        *(model.calibration, options.false_alarm_rate, model.embedding.dim),
        *(model.preprocessing, options.min_area),
    )
    region = None if model.region is None else model.region.mask.cpu().numpy()
    placement = Placement(model.config.resize, model.config.crop, region)
    renamed = unlike_names([image.name for image in images])
    return Parts(model, ImageWriter(options, placement, judge, model.config.bits, renamed))


def _judge_all(images: Sequence[FoundImage], parts: Parts, group: ProcessGroup) -> Outcome:
    """Judge images and write their files. The tables appear at the end.

    The batches are distributed to the processes in turn.
    """
    options = parts.writer.options
    size = options.batch_size
    plan = [images[i : i + size] for i in range(0, len(images), size)]
    with (
        Tables.written_to(options.save_path) if group.is_first else nullcontext() as tables,
        writers() as pool,
        read_batches(
            plan[group.rank :: group.world_size],
            parts.model.preprocessing,
            options.num_workers,
            Hooks(tune_worker, check_stop),
        ) as batches,
    ):
        judged = Pass(parts.model, parts.writer, pool, group)
        rounds = judged.rounds(batches, -(-len(plan) // group.world_size))
        label = options.model.stem
        shown = progress(rounds, len(images), label, "judge", is_shown=group.is_first)
        return judged.collect(shown, tables)
