"""The judging of new images with a fitted model: scores, p-values, decisions, maps, overlays, page.

Images stream through: what is kept of them is a bounded number of the worst, for the page and the
overlays, so memory does not grow with their number.
"""

from __future__ import annotations

import csv
import errno
import heapq
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from os import fsencode
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.errors import DataError
from datasets.loading.unlabelled import FolderBatch, FoundImage, find_images, read_batches
from padim.calibration import Calibration
from padim.model import PaDiM
from padim.preprocessing import Preprocessing, read_image
from utils.errors import OptionError
from utils.prediction.load_model import load_fitted
from utils.prediction.options import PredictOptions
from utils.prediction.overlay import LEVELS_PER_UNIT, Placement, draw_overlay, map_levels
from utils.report.prediction_page import PAGE_ROWS, render_prediction_page
from utils.system.console import UNTRAINED, one_line, progress, say, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable, write_json, write_text, written_whole
from utils.system.lock import locked
from utils.system.memory import hold_memory_flat

OUTPUTS = ("scores.csv", "failed.csv", "summary.json", "index.html", "maps", "overlays")
SCORES_COLUMNS = ("path", "score", "p_value", "decision")
FAILED_COLUMNS = ("path", "reason")
NORMAL, DEFECTIVE = "normal", "defective"
WRITERS = 4  # threads that write maps and overlays; each holds an image at its original size
MAX_NAME = 200  # bytes of a file or folder name, which leaves room for what is put around it
# Of errors in writing, those that are an image's own: its name, or another's where a folder goes.
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ)


@dataclass(frozen=True)
class Judgement:
    """What is said of an image.

    Attributes:
        name: its path in its input.
        score: image score, a Mahalanobis distance.
        p_value: None for a model without calibration.
        decision: ``normal`` or ``defective``; empty for a model without calibration.
    """

    name: str
    score: float
    p_value: float | None
    decision: str


class Judge:
    """A model's thresholds at a rate of false alarms.

    Args:
        calibration: the model's; None where it has none.
        rate: of false alarms.
        dim: channels of the embeddings.

    Attributes:
        image_threshold: the score above which an image is defective; None without calibration.
        unit: the map value that is 1 in maps and overlays: the pixel threshold or, without
            calibration, the root of ``dim``, about which distances of normal patches lie.
    """

    def __init__(self, calibration: Calibration | None, rate: float, dim: int) -> None:
        self._calibration = calibration
        self.has_thresholds = calibration is not None
        self.image_threshold = calibration.image_threshold(rate) if calibration else None
        self.unit = calibration.pixel_threshold(rate) if calibration else dim**0.5

    def judge(self, found: Sequence[FoundImage], scores: torch.Tensor) -> list[Judgement]:
        """Judge images by their scores (B,)."""
        if self._calibration is None:
            pairs = zip(found, scores.tolist(), strict=True)
            return [Judgement(image.name, score, None, "") for image, score in pairs]
        p_values = self._calibration.p_values(scores).tolist()
        return [
            Judgement(image.name, score, p, DEFECTIVE if score > self.image_threshold else NORMAL)
            for image, score, p in zip(found, scores.tolist(), p_values, strict=True)
        ]


class MapWriter:
    """Writes the map and the overlay of an image; from several threads at a time.

    Args:
        save_path: the user's folder.
        placement: of the crop in an image.
        judge: for the unit of the maps.
        args: the options ``maps``, ``map_size`` and ``npy``.
    """

    def __init__(
        self, save_path: Path, placement: Placement, judge: Judge, args: PredictOptions
    ) -> None:
        self._save_path = save_path
        self._placement = placement
        self._judge = judge
        self._args = args

    def write(
        self, image: FoundImage, size: tuple[int, int], crop_map: np.ndarray, is_drawn: bool
    ) -> str | None:
        """Write what the options ask for.

        Args:
            image: which one.
            size: its width and height.
            crop_map: float32 (crop, crop), Mahalanobis distances.
            is_drawn: whether it gets an overlay.

        Returns:
            Why something could not be written; None when all is well.
        """
        try:
            self._write(image, size, crop_map, is_drawn)
        except DataError as error:  # it could be read before: somebody has taken it away
            return str(error)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return f"its map or overlay cannot be written ({error.strerror})"
        return None

    def overlay_path(self, name: str) -> Path:
        """Where the overlay of an image is."""
        return output_path(self._save_path / "overlays", name, ".png")

    def _write(
        self, image: FoundImage, size: tuple[int, int], crop_map: np.ndarray, is_drawn: bool
    ) -> None:
        units = crop_map / self._judge.unit
        maps = self._save_path / "maps"
        if self._args.maps == "all":
            shown = units
            if self._args.map_size == "original":
                shown = self._placement.on_image(units, *size)
            _save_png(Image.fromarray(map_levels(shown)), output_path(maps, image.name, ".png"))
        if self._args.npy:
            path = output_path(maps, image.name, ".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial, partial.open("wb") as file:
                np.save(file, crop_map)
        if is_drawn:
            overlay = draw_overlay(
                read_image(image.path), units, self._placement, self._judge.has_thresholds
            )
            _save_png(overlay, self.overlay_path(image.name))


def predict(args: PredictOptions) -> int:
    """Judge images as the options say.

    Returns:
        How many of them failed.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    hold_memory_flat()
    device = choose_device(args.device)
    own = [args.save_path / name for name in ("maps", "overlays")]
    images = find_images(args.input, [args.save_path, *own])
    model, is_untrained = load_fitted(args.model, args.weights, device)
    judge = Judge(model.calibration, args.false_alarm_rate, model.reduction.dim)
    warnings = [UNTRAINED] * is_untrained + _doubts(model.calibration, args.false_alarm_rate)
    check_writable(args.save_path)
    with locked(args.save_path):
        _make_room(args)
        warn(warnings)
        placement = Placement(model.config.resize, model.config.crop)
        run = _Run(model, judge, MapWriter(args.save_path, placement, judge, args), args)
        run.go(images, device.type == "cuda")
        facts = _facts(args, model, judge, run)
        write_json(args.save_path / "summary.json", facts | {"versions": describe(device)})
        rows = [asdict(item) | {"overlay": _address(run.writer, item, args)} for item in run.worst]
        page = render_prediction_page(f"PaDiM {args.model.stem}", warnings, facts, rows)
        write_text(args.save_path / "index.html", page)
        _print_end(args, judge, run)
        warn(warnings)
        return run.n_failed


def _address(writer: MapWriter, item: Judgement, args: PredictOptions) -> str | None:
    """Of an image's overlay, beside the page; None where it has none."""
    path = writer.overlay_path(item.name)
    return path.relative_to(args.save_path).as_posix() if path.is_file() else None


def output_path(folder: Path, name: str, suffix: str) -> Path:
    """The file for an image: its name with all of its suffix, so that a.png and a.jpg have two.

    A part of the name that is too long for a file is cut, and told apart by its checksum.
    """
    parts = [_shortened(part) for part in name.split("/")]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


class _Run:
    """One pass over the images; afterwards its counts, and the worst images."""

    def __init__(self, model: PaDiM, judge: Judge, writer: MapWriter, args: PredictOptions) -> None:
        self.writer = writer
        self.n_judged = self.n_defective = self.n_failed = 0
        self.worst: list[Judgement] = []
        self._model, self._judge, self._args = model, judge, args
        self._drawn: list[Judgement] = []

    def go(self, images: Sequence[FoundImage], pin_memory: bool) -> None:
        """Judge images and write all that is written an image; the tables appear at the end."""
        args, config = self._args, self._model.config
        batches = read_batches(
            images,
            Preprocessing(config.resize, config.crop),
            args.batch_size,
            args.num_workers,
            pin_memory,
        )
        with (
            _table(args.save_path / "scores.csv", SCORES_COLUMNS) as scores,
            _table(args.save_path / "failed.csv", FAILED_COLUMNS) as failed,
            ThreadPoolExecutor(WRITERS) as pool,
        ):
            for batch in progress(batches, len(images), args.model.stem, "judge"):
                problems = batch.failed
                if batch.crops is not None:
                    judged, unwritten = self._do(batch, pool)
                    scores.writerows(map(_score_row, judged))
                    problems = [*problems, *unwritten]
                for image, reason in problems:
                    failed.writerow((image.name, reason))
                    say(f"failed: {one_line(image.name)}: {one_line(reason)}")
                self.n_failed += len(problems)

    def _do(
        self, batch: FolderBatch, pool: ThreadPoolExecutor
    ) -> tuple[list[Judgement], list[tuple[FoundImage, str]]]:
        """Judge a batch; also returns the images of which something could not be written."""
        maps, scores = self._model.score(batch.crops)
        judged = self._judge.judge(batch.found, scores)
        self.n_judged += len(judged)
        self.n_defective += sum(item.decision == DEFECTIVE for item in judged)
        self.worst = _highest(PAGE_ROWS, [*self.worst, *judged])
        drawn = self._choose_drawn(judged)
        jobs = (batch.found, batch.sizes, maps.cpu().numpy(), drawn)
        reasons = list(pool.map(self.writer.write, *jobs))  # waits: no more than a batch is held
        pairs = zip(batch.found, reasons, strict=True)
        return judged, [(image, reason) for image, reason in pairs if reason]

    def _choose_drawn(self, judged: list[Judgement]) -> list[bool]:
        """Which images of a batch get an overlay; those they push out lose theirs."""
        n_figures = self._args.figures
        if n_figures is None:
            return [True] * len(judged)
        before = self._drawn
        self._drawn = _highest(n_figures, [*before, *judged])
        kept = {item.name for item in self._drawn}
        for item in before:
            if item.name not in kept:
                self.writer.overlay_path(item.name).unlink(missing_ok=True)
        return [item.name in kept for item in judged]


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """A CSV writer whose file appears when the block ends well."""
    with (
        written_whole(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        yield table


def _score_row(item: Judgement) -> tuple:
    return item.name, item.score, "" if item.p_value is None else item.p_value, item.decision


def _highest(count: int, judged: list[Judgement]) -> list[Judgement]:
    """The highest scores first; of equal ones, those that came first."""
    return heapq.nlargest(count, judged, key=lambda item: item.score)


def _save_png(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        image.save(partial, format="PNG", compress_level=1)  # the low bytes of maps hardly pack


def _shortened(part: str) -> str:
    encoded = fsencode(part)
    if len(encoded) <= MAX_NAME:
        return part
    start = encoded[: MAX_NAME - 17].decode("utf-8", "ignore")
    return f"{start}~{sha256(encoded).hexdigest()[:16]}"


def _doubts(calibration: Calibration | None, rate: float) -> list[str]:
    """What must be said of the decisions."""
    if calibration is None:
        return ["NO DECISIONS: the model was fitted on 2 images, too few to find a threshold"]
    if rate < calibration.finest_rate:
        n = len(calibration.image_scores)
        return [
            f"--false_alarm_rate {rate:g} is finer than {n} training images can promise; "
            f"images are judged at {calibration.finest_rate:.3g}"
        ]
    return []


def _make_room(args: PredictOptions) -> None:
    """With ``--overwrite`` empty the folder of what a prediction left.

    Raises:
        OptionError: something is there that may not go.
    """
    folder = args.save_path
    there = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if there and not args.overwrite:
        raise OptionError(
            f"--save_path {folder} holds results already ({there[0].name}): "
            "give --overwrite to replace them, or another folder"
        )
    for path in there:
        inside = [given for given in args.input if given.resolve().is_relative_to(path.resolve())]
        if inside or args.model.resolve().is_relative_to(path.resolve()):
            used = inside[0] if inside else args.model
            raise OptionError(f"{used} is in {path}, which --overwrite replaces; move it first")
    for path in there:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _facts(args: PredictOptions, model: PaDiM, judge: Judge, run: _Run) -> dict[str, object]:
    return {
        "model": str(args.model),
        "backbone": f"{model.backbone.name}, {'+'.join(model.backbone.layers)}",
        "weights": model.backbone.weights,
        "weights_checksum": model.backbone.checksum(),
        "false_alarm_rate": args.false_alarm_rate,
        "image_threshold": judge.image_threshold,
        "pixel_threshold": judge.unit if judge.has_thresholds else None,
        "distance_per_map_level": judge.unit / LEVELS_PER_UNIT,
        "map_size": args.map_size,
        "resize": model.config.resize,
        "crop": model.config.crop,
        "n_judged": run.n_judged,
        "n_defective": run.n_defective if judge.has_thresholds else None,
        "n_failed": run.n_failed,
    }


def _print_end(args: PredictOptions, judge: Judge, run: _Run) -> None:
    called = f", {run.n_defective} of them defective" if judge.has_thresholds else ""
    rate = f" at a false alarm rate of {args.false_alarm_rate:g}" if judge.has_thresholds else ""
    print(f"{run.n_judged} images judged{called}{rate}")
    if run.n_failed:
        print(f"{run.n_failed} failed: {args.save_path / 'failed.csv'}")
    print(f"Scores, maps and overlays: {args.save_path}")
    print(f"To look through: {args.save_path / 'index.html'}")
