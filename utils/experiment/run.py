"""A run of a ``main_*`` script: one backbone, one configuration for each seed, all classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets.demo import draw_demo_set
from datasets.doubts import doubts_of
from datasets.layouts import LAYOUTS, choose_classes, choose_crops, preprocessing_by_class
from datasets.loading.labelled import ImageStream
from datasets.loading.workers import Hooks
from datasets.region_of_interest import (
    EVERYWHERE,
    ClassRegion,
    check_regions,
    read_regions,
    refuse_regions,
)
from datasets.types import AnomalyClass
from padim.backbones import Backbone
from padim.errors import ModelError
from padim.storage.files import naming
from utils.experiment.conditions import Conditions
from utils.experiment.data_report import check_places, print_data
from utils.experiment.end_report import print_end, print_seeds
from utils.experiment.engine import ClassLines, Engine, find_work
from utils.experiment.network import Network
from utils.experiment.options import RunOptions
from utils.experiment.processes import Processes
from utils.experiment.record_store import RecordError
from utils.experiment.run_folder import RunFolder
from utils.experiment.run_plan import folder_names, protocol_of, run_folders, tasks_of
from utils.experiment.stored_class import read_class
from utils.report.runs_page import write_runs_page
from utils.system.console import one_line, progress, say, warn
from utils.system.device import choose_device
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import tune_worker
from utils.system.stop import check_stop

Classes = Sequence[tuple[AnomalyClass, str]]  # with the digests of their files


def run(backbone_name: str, options: RunOptions) -> None:
    """Run a backbone over the classes of a data set.

    Raises:
        DataError, ModelError, OptionError: an input cannot be used.
    """
    device = choose_device(options.device)
    processes = Processes.join(device)
    processes.in_first(partial(_prepare, options))
    crops = choose_crops(LAYOUTS[options.dataset], _root(options), options.resize, options.crop)
    classes = _read_classes(options)
    regions = processes.in_first(partial(_read_regions, options, classes, crops))
    processes.in_first_only(partial(_say_doubts, classes, options))
    indices = processes.in_first(partial(_seem_unfinished, backbone_name, options, classes))
    expected = [classes[index][0] for index in indices]
    with ExitStack() as stack:
        # The workers decode while the network is loaded.
        stream = stack.enter_context(_open_stream(expected, crops, options, processes))
        backbone, conditions = _load_backbone(backbone_name, options)
        folders = run_folders(backbone, options, crops, regions, device, conditions)
        processes.in_first(partial(_hold, folders, options, stack, conditions))
        settings = [folder.info.settings for folder in folders]
        processes.check_alike([item for item, _ in classes], settings)
        tasks = processes.tasks(tasks_of(folders, backbone, options))
        todo = find_work(classes, tasks, processes, options.overwrite)
        items = [work.item for work in todo]
        if items != expected:
            stream.close()
            warn(damaged_entries(stream.n_damaged, options.image_cache))
            stream = stack.enter_context(_open_stream(items, crops, options, processes))
        shapes = options.resize, crops, regions
        processes.in_first_only(partial(print_data, items, options.dataset, *shapes))
        networks = {backbone_name: Network(backbone.to(device))}
        scratch, lines = options.save_path, ClassLines(todo)
        protocol = protocol_of(options)
        engine = Engine(networks, protocol, crops, processes, scratch, lines, regions)
        kept = [one for one in classes if one[0] not in items]
        with always(lambda: processes.in_first_only(partial(_write_reports, folders))):
            for work in todo:
                engine.run_class(work, stream)
            redraw = partial(_draw_missing_figures, folders, kept, crops, options, backbone)
            processes.in_first_only(redraw)
        own = [item.name for item, _ in classes]
        processes.in_first(partial(_end, folders, len(kept), own, options))
        warn(conditions.warnings() * processes.is_first)
        warn(damaged_entries(stream.n_damaged, options.image_cache))
        processes.leave()


@contextmanager
def always(report: Callable[[], None]) -> Iterator[None]:
    """Write the report when the block ends, even if it is stopped.

    If both the block and the report fail, the error of the block is raised.
    """
    try:
        yield
    except BaseException:
        with suppress(Exception):
            report()
        raise
    report()


def damaged_entries(n_damaged: int, folder: Path | None) -> list[str]:
    """The remark on a cache with damaged files."""
    return [f"--image_cache {folder}: {n_damaged} damaged files, made again"] * (n_damaged > 0)


def _prepare(options: RunOptions) -> None:
    if options.data_path is not None:
        layout = LAYOUTS[options.dataset]
        check_places(layout, options.data_path, options.save_path, options.image_cache)
    check_writable(options.save_path)
    if options.data_path is None:
        root = _root(options)
        with naming(root):
            draw_demo_set(root)


def _root(options: RunOptions) -> Path:
    return options.save_path / "demo_data" if options.data_path is None else options.data_path


def _read_classes(options: RunOptions) -> Classes:
    """The classes with their digests, computed before any image is read."""
    layout, root = LAYOUTS[options.dataset], _root(options)
    classes = [
        layout.read_class(root, name) for name in choose_classes(layout, root, options.classes)
    ]
    return [(item, item.digest()) for item in classes]


def _read_regions(
    options: RunOptions, classes: Classes, crops: Mapping[str, int]
) -> dict[str, ClassRegion]:
    """The regions of interest of the data set, by class."""
    layout, root = LAYOUTS[options.dataset], _root(options)
    if options.dataset == "rd_mvtec" and options.region != EVERYWHERE:
        what = "its images are turned and cropped at random: give --region none"
        refuse_regions(layout, root, list(crops), what)
        return {}
    regions = read_regions(layout, root, options.region, options.resize, crops)
    check_regions([item for item, _ in classes], regions, options.region)
    return regions


def _say_doubts(classes: Classes, options: RunOptions) -> None:
    warn([doubt for item, _ in classes for doubt in doubts_of(item, options.bits)])


def _seem_unfinished(backbone_name: str, options: RunOptions, classes: Classes) -> list[int]:
    """The classes that seem unfinished before the network is loaded, so that they can be decoded.

    Whether a record counts is only known with the network. If one does not, the stream is opened
    again.
    """
    conditions = Conditions(options.weights == "random", options.data_path is None)
    names = folder_names(backbone_name, options.layers, options, conditions)

    def seems_finished(item: AnomalyClass, digest: str) -> bool:
        try:
            found = [read_class(options.save_path / name, item.name) for name in names]
        except RecordError:
            return False
        return all(one is not None and one.stored.data_digest == digest for one in found)

    return [
        index
        for index, (item, digest) in enumerate(classes)
        if options.overwrite or not seems_finished(item, digest)
    ]


def _open_stream(
    classes: Sequence[AnomalyClass],
    crops: Mapping[str, int],
    options: RunOptions,
    processes: Processes,
) -> ImageStream:
    """This process's share of the images of some classes; workers start if there are any."""
    stream = ImageStream(
        [processes.share(item) for item in classes],
        preprocessing_by_class(
            *(options.dataset, classes, options.resize, crops),
            *(options.rd_version, options.bits),
        ),
        options.batch_size,
        options.num_workers,
        options.image_cache,
        Hooks(tune_worker, check_stop),
    )
    return stream.start() if classes else stream


def _load_backbone(name: str, options: RunOptions) -> tuple[Backbone, Conditions]:
    """The backbone, and whether its numbers are results of PaDiM.

    If the trained weights cannot be downloaded, the demo continues with untrained ones. A run on
    real data does not, since its numbers could be mistaken for those of PaDiM.
    """
    is_demo = options.data_path is None
    build = partial(Backbone, name, layers=options.layers, precision=options.network_precision)
    try:
        return build(options.weights), Conditions(options.weights == "random", is_demo)
    except ModelError as error:
        if not is_demo or options.weights != "imagenet":
            raise
        warn([str(error)])
        return build("random"), Conditions(True, is_demo)


def _hold(
    folders: Sequence[RunFolder], options: RunOptions, stack: ExitStack, conditions: Conditions
) -> None:
    """Make the folders, keep other runs out until ``stack`` ends, and check what they hold."""
    layout, root = LAYOUTS[options.dataset], _root(options)
    own = choose_classes(layout, root, options.classes)
    for folder in folders:
        folder.make()
        stack.enter_context(locked(folder.path))
        folder.check(layout.find_classes(root), own, options.overwrite)
    warn(conditions.warnings())


def _draw_missing_figures(
    folders: Sequence[RunFolder],
    kept: Classes,
    crops: Mapping[str, int],
    options: RunOptions,
    backbone: Backbone,
) -> None:
    """Draw the figures that finished classes lack, from their models and their test images."""
    n_damaged = 0
    for item, digest in kept:
        lacking = [folder for folder in folders if folder.lacks_figures(item, digest)]
        if not lacking:
            continue
        with _open_stream([replace(item, train=())], crops, options, Processes()) as stream:
            n_test = len(item.test)
            batches = list(progress(stream.take(n_test), n_test, item.name, "figures"))
            n_damaged += stream.n_damaged
        item.check_unchanged(digest)
        for folder in lacking:
            folder.draw_figures(item, digest, backbone, batches)
        say(one_line(f"{item.name}: figures drawn from the kept model"), sys.stdout)
    warn(damaged_entries(n_damaged, options.image_cache))


def _write_reports(folders: Sequence[RunFolder]) -> None:
    for folder in folders:
        if records := folder.records():
            folder.write_tables(records)
            folder.write_overview(records)
    write_runs_page(folders[0].path.parent)


def _end(
    folders: Sequence[RunFolder], n_kept: int, own: Sequence[str], options: RunOptions
) -> None:
    print_end(folders, n_kept, own)
    if options.seeds is not None:
        print_seeds(folders, options)
        write_runs_page(options.save_path)  # it names the page of the seeds too
