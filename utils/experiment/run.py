"""The run: for every class fit, score, measure, draw and write, then the tables and the page."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from datasets.demo import draw_demo_set
from datasets.errors import DataError
from datasets.layouts.table import LAYOUTS, choose_classes, preprocessing_of
from datasets.loading.labelled import ImageStream
from datasets.types import AnomalyClass
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.errors import ModelError
from padim.model import PaDiM
from padim.parallel.process_group import Team
from utils.errors import OptionError
from utils.evaluation.class_record import ClassRecord
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.measure import measure_class
from utils.experiment.feature_store import OnePass
from utils.experiment.options import RunOptions
from utils.experiment.results import ResultsFolder
from utils.experiment.run_name import folder_name, obstacle, printable_options, run_name, settings
from utils.report.class_figures import draw_class_figures
from utils.report.seeds import write_seed_tables
from utils.report.tables import scores_csv, terminal_table
from utils.system.console import DEMO, UNTRAINED, progress, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.memory import keep_memory


@dataclass(frozen=True)
class SeedRun:
    """One seed's configuration, and where its results go."""

    config: PaDiMConfig
    results: ResultsFolder


@dataclass(frozen=True)
class ClassWork:
    """A class that is to be done.

    Attributes:
        item: the class.
        digest: of its files, when the run began.
        seed_runs: those that are missing it.
    """

    item: AnomalyClass
    digest: str
    seed_runs: list[SeedRun]


def run(backbone_name: str, args: RunOptions) -> None:
    """Run a backbone over the classes of a data set, as the options say.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    keep_memory()
    device = choose_device(args.device)
    team = Team.join(device)
    is_demo = args.data_path is None
    root = args.save_path / "demo_data" if is_demo else args.data_path
    if team.is_first:
        check_writable(args.save_path)
        if is_demo:
            draw_demo_set(root)
    team.told("the data set is there")
    layout = LAYOUTS[args.dataset]
    names = choose_classes(layout, root, args.classes)
    classes = [layout.read_class(root, name) for name in names]
    digests = [item.digest() for item in classes]  # before any image is read
    stream = _read(classes, args, device, team).start()  # while the network is loaded
    backbone, is_untrained = _load_backbone(backbone_name, args, is_demo)
    warnings = [UNTRAINED] * is_untrained + [DEMO] * is_demo
    seed_runs = _seed_runs(backbone, args, device, warnings)
    replaced = names if args.overwrite else ()
    with ExitStack() as stack:
        for one in seed_runs if team.is_first else ():
            one.results.make()
            stack.enter_context(locked(one.results.path))
            one.results.check(layout.find_classes(root), replaced)
        if team.is_first:
            warn(warnings)
        _check_alike(classes, seed_runs, team)
        todo = _unfinished(classes, digests, seed_runs, args.overwrite, team)
        if len(todo) < len(classes):
            stream.close()
            stream = _read([work.item for work in todo], args, device, team)
        _run_classes(todo, seed_runs, backbone.to(device), stream, args, team)
        n_kept = len(classes) - len(todo)
        if team.is_first:
            _print_end(seed_runs, n_kept)
            if args.seeds is not None:
                _print_seeds(seed_runs, backbone, args, warnings)
            warn(warnings)
        team.leave()


def _check_alike(classes: Sequence[AnomalyClass], seed_runs: Sequence[SeedRun], team: Team) -> None:
    """Make sure that this process does what the first one does, on whatever machine.

    Raises:
        DataError, OptionError: it does not, so that they can make no numbers together.
    """
    if team.size == 1:
        return
    given = [one.results.settings for one in seed_runs]
    files = {item.name: item.digest(with_times=False) for item in classes}
    firsts_given, firsts_files = team.told((given, files))
    here = f"process {team.rank} (on {platform.node()})"
    if given != firsts_given:
        raise OptionError(
            f"{here} has other weights or options than process 0; give all processes the same"
        )
    for name in files | firsts_files:
        if files.get(name) != firsts_files.get(name):
            raise DataError(
                f"{here} finds other images of class {name} than process 0; "
                "let all processes see the same data set"
            )


def _unfinished(
    classes: Sequence[AnomalyClass],
    digests: Sequence[str],
    seed_runs: Sequence[SeedRun],
    is_overwritten: bool,
    team: Team,
) -> list[ClassWork]:
    """The classes that one of the runs at least is missing."""

    def missing(item: AnomalyClass, digest: str) -> list[int]:
        return [
            index
            for index, one in enumerate(seed_runs)
            if is_overwritten or not one.results.finished(item.name, digest)
        ]

    found = None
    if team.is_first:  # who alone knows, for the others may look when it has begun to write
        found = list(map(missing, classes, digests))
    return [
        ClassWork(item, digest, [seed_runs[index] for index in indices])
        for item, digest, indices in zip(classes, digests, team.told(found), strict=True)
        if indices
    ]


def _run_classes(
    todo: Sequence[ClassWork],
    seed_runs: Sequence[SeedRun],
    backbone: Backbone,
    stream: ImageStream,
    args: RunOptions,
    team: Team,
) -> None:
    """Do classes, whose images are all that ``stream`` has."""
    try:
        for work in todo:
            _run_class(work, backbone, stream, args, team)
    finally:  # also when stopped, or at a file that cannot be read: what is done can be looked at
        for one in seed_runs if team.is_first else ():
            if one.results.records():
                one.results.write_tables()
                one.results.write_overview()
    stream.close()


def _read(
    classes: Sequence[AnomalyClass], args: RunOptions, device: torch.device, team: Team
) -> ImageStream:
    """This process's share of the images of all classes."""
    return ImageStream(
        [_share(item, team) for item in classes],
        preprocessing_of(args.dataset, args.resize, args.crop, args.rd_version),
        args.batch_size,
        args.num_workers,
        pin_memory=device.type == "cuda",
        cache=args.image_cache,
    )


def _seed_runs(
    backbone: Backbone, args: RunOptions, device: torch.device, warnings: Sequence[str]
) -> list[SeedRun]:
    """A run for every seed.

    Raises:
        ModelError: more channels asked for than there are; nothing is written then.
    """
    configs = [
        PaDiMConfig(
            *(args.reduction, args.embedding_dim, seed),
            *(args.resize, args.crop, args.epsilon, args.sigma),
        )
        for seed in args.seeds or [args.seed]
    ]
    blanks = [PaDiM(backbone, config) for config in configs]
    name = folder_name(backbone, args, warnings)
    is_untrained = UNTRAINED in warnings
    return [
        SeedRun(
            config,
            ResultsFolder(
                args.save_path,
                name if args.seeds is None else f"{name}_seed{config.seed}",
                run_name(backbone, config),
                settings(blank, is_untrained, args),
                {"options": printable_options(args), "versions": describe(device)},
                warnings,
                obstacle(args, warnings),
            ),
        )
        for config, blank in zip(configs, blanks, strict=True)
    ]


def _run_class(
    work: ClassWork,
    backbone: Backbone,
    stream: ImageStream,
    args: RunOptions,
    team: Team,
) -> None:
    """Do all of one class, for every seed that it is missing of."""
    start = time.perf_counter()
    item = work.item
    share = _share(item, team)
    counts = len(share.train), len(share.test)
    train = progress(stream.take(counts[0]), counts[0], item.name, "fit", is_shown=team.is_first)
    test = progress(stream.take(counts[1]), counts[1], item.name, "score", is_shown=team.is_first)
    folder = args.save_path if len(work.seed_runs) > 1 else None
    images = OnePass(backbone, train, test, counts, len(item.train), folder, team)
    for one in work.seed_runs:
        record = _do_class(work, backbone, one, images, args, team)
        if record is None:
            continue
        seconds = round(time.perf_counter() - start, 2)
        one.results.finish(replace(record, seconds=seconds))
        one.results.write_tables()
        start = time.perf_counter()


def _share(item: AnomalyClass, team: Team) -> AnomalyClass:
    """This process's share of a class."""
    train, test = team.share(len(item.train)), team.share(len(item.test))
    return replace(item, train=item.train[train], test=item.test[test])


def _do_class(
    work: ClassWork,
    backbone: Backbone,
    one: SeedRun,
    images_seen: OnePass,
    args: RunOptions,
    team: Team,
) -> ClassRecord | None:
    """Fit a model to a class, and write what is kept of it.

    Returns:
        The class's record; None to all processes but the first, who writes.
    """
    item = work.item
    model = PaDiM(backbone, one.config)
    images_seen.fit(model)

    def score() -> ClassScores | None:
        scored = images_seen.score(model)
        if one is work.seed_runs[0]:  # the images have been read now, for the other seeds too
            item.check_unchanged(work.digest)
        scored = scored.gather(len(item.test), team)
        model.gather()
        return scored

    if not team.is_first:
        score()
        return None
    with one.results.staged(item.name) as stage, ThreadPoolExecutor(1) as saver:
        path, is_half = stage / "models" / f"{item.name}.pt", args.model_precision == "float16"
        save = partial(saver.submit, model.save, path, is_half)
        # The file takes its time, so it is written beside all that follows, where that can be.
        saved = save() if model.is_whole else None
        scored = score()
        saved = saved or save()
        calibration, rate = model.calibration, args.false_alarm_rate
        record = measure_class(item, scored, calibration, rate)
        figures = draw_class_figures(record, item, scored, args.figures, stage)
        record = replace(record.with_figures(figures), data_digest=work.digest)
        scores = stage / "scores" / f"{item.name}.csv"
        scores.write_text(scores_csv(record), encoding="utf-8", errors="backslashreplace")
        saved.result()
    return record


def _load_backbone(name: str, args: RunOptions, is_demo: bool) -> tuple[Backbone, bool]:
    """The backbone, and whether its weights are untrained.

    The demo goes on with untrained weights where the trained ones cannot be had, for it is there to
    show the program; a run on real data does not, for its numbers would be taken for PaDiM's.
    """
    build = partial(Backbone, name, layers=args.layers, precision=args.network_precision)
    try:
        return build(args.weights), args.weights == "random"
    except ModelError as error:
        if not is_demo or args.weights != "imagenet":
            raise
        warn([str(error)])
        return build("random"), True


def _print_end(seed_runs: Sequence[SeedRun], n_kept: int) -> None:
    for one in seed_runs:
        results, records = one.results, one.results.records()
        if len(seed_runs) > 1:
            print(f"\nseed {one.config.seed}")
        print(terminal_table(records))
        if n_kept:
            print(f"classes that were there already: {n_kept} (--overwrite does them again)")
        print(f"\nTables, curves, figures and models: {results.path}")
        print(f"To look through: {results.path / 'index.html'}")
    model = results.path / "models" / f"{records[0].class_name}.pt"
    command = ("python", "predict.py", "--model", str(model), "--input", "DIR")
    print(f"To judge your own images: {shlex.join(command)} --save_path judged")


def _print_seeds(
    seed_runs: Sequence[SeedRun], backbone: Backbone, args: RunOptions, warnings: Sequence[str]
) -> None:
    """The table over all seeds, on paper and on the terminal."""
    name = folder_name(backbone, args, warnings)
    folder: Path = args.save_path / "_".join((f"{name}_seeds", *map(str, args.seeds)))
    folder.mkdir(exist_ok=True)
    table = write_seed_tables(
        folder,
        f"{name}, {len(seed_runs)} seeds",
        run_name(backbone, seed_runs[0].config),
        {one.config.seed: one.results.rows() for one in seed_runs},
        warnings,
        obstacle(args, warnings),
    )
    print(f"\nmean \u00b1 standard deviation over the seeds {', '.join(map(str, args.seeds))}")
    print(table)
    print(f"The same, and beside the published numbers: {folder}")
