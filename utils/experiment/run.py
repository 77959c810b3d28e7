"""A run of a ``main_*`` script: one backbone, one configuration for each seed, all classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import torch

from datasets.demo import draw_demo_set
from datasets.doubts import doubts_of
from datasets.layouts import LAYOUTS, choose_classes, preprocessing_of
from datasets.loading.labelled import ImageStream
from datasets.types import AnomalyClass
from padim.backbones import Backbone
from padim.errors import ModelError
from padim.model import PaDiM
from utils.experiment.conditions import Conditions
from utils.experiment.configuration import Configuration, Job, ModelSpec, Protocol
from utils.experiment.end_report import print_end, print_seeds
from utils.experiment.engine import Engine, find_work
from utils.experiment.network import Network
from utils.experiment.options import RunOptions
from utils.experiment.outputs import Task
from utils.experiment.processes import Processes
from utils.experiment.provenance import Provenance
from utils.experiment.record_store import read_record
from utils.experiment.run_folder import RunFolder, RunInfo
from utils.experiment.run_name import folder_name, run_name, run_settings
from utils.system.console import warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import tune_worker

Classes = Sequence[tuple[AnomalyClass, str]]  # with the digests of their files


def run(backbone_name: str, options: RunOptions) -> None:
    """Run a backbone over the classes of a data set.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    device = choose_device(options.device)
    processes = Processes.join(device)
    processes.in_first(partial(_prepare, options))
    classes = _read_classes(options)
    processes.in_first_only(partial(_say_doubts, classes, options))
    indices = processes.in_first(partial(_seem_unfinished, backbone_name, options, classes))
    expected = [classes[index][0] for index in indices]
    with ExitStack() as stack:
        # The workers decode while the network is loaded.
        stream = stack.enter_context(_open_stream(expected, options, device, processes))
        backbone, conditions = _load_backbone(backbone_name, options)
        folders = _run_folders(backbone, options, device, conditions)
        processes.in_first(partial(_hold, folders, options, stack, conditions))
        settings = [folder.info.settings for folder in folders]
        processes.check_alike([item for item, _ in classes], settings)
        tasks = processes.tasks(_tasks(folders, backbone, options))
        todo = find_work(classes, tasks, processes, options.overwrite)
        if [work.item for work in todo] != expected:
            stream.close()
            stream = stack.enter_context(
                _open_stream([work.item for work in todo], options, device, processes)
            )
        networks = {backbone_name: Network(backbone.to(device))}
        engine = Engine(networks, _protocol(options), processes, options.save_path)
        with always(lambda: processes.in_first_only(partial(_write_reports, folders))):
            for work in todo:
                engine.run_class(work, stream)
        n_kept = len(classes) - len(todo)
        processes.in_first(partial(_end, folders, n_kept, options, conditions))
        processes.leave()


@contextmanager
def always(report: Callable[[], None]) -> Iterator[None]:
    """Report when the block ends, also if it is stopped: what is finished can be looked at.

    If both the block and the report fail, the error of the block is the one that is raised.
    """
    try:
        yield
    except BaseException:
        with suppress(Exception):
            report()
        raise
    report()


def _prepare(options: RunOptions) -> None:
    check_writable(options.save_path)
    if options.data_path is None:
        draw_demo_set(_root(options))


def _root(options: RunOptions) -> Path:
    return options.save_path / "demo_data" if options.data_path is None else options.data_path


def _read_classes(options: RunOptions) -> Classes:
    """The classes with their digests, which are made before any image is read."""
    layout, root = LAYOUTS[options.dataset], _root(options)
    classes = [
        layout.read_class(root, name) for name in choose_classes(layout, root, options.classes)
    ]
    return [(item, item.digest()) for item in classes]


def _say_doubts(classes: Classes, options: RunOptions) -> None:
    warn([doubt for item, _ in classes for doubt in doubts_of(item, options.bits)])


def _seem_unfinished(backbone_name: str, options: RunOptions, classes: Classes) -> list[int]:
    """The classes that seem unfinished before the network is loaded, so that they can be decoded.

    Only with the network it is known whether a record counts. If one does not, the stream is
    opened again.
    """
    conditions = Conditions(options.weights == "random", options.data_path is None)
    folder = folder_name(backbone_name, options.layers, options, conditions)
    stores = [options.save_path / name / "records" for name in _folder_names(folder, options)]

    def seems_finished(item: AnomalyClass, digest: str) -> bool:
        records = [read_record(store, item.name) for store in stores]
        return all(record is not None and record.data_digest == digest for record in records)

    return [
        index
        for index, (item, digest) in enumerate(classes)
        if options.overwrite or not seems_finished(item, digest)
    ]


def _open_stream(
    classes: Sequence[AnomalyClass],
    options: RunOptions,
    device: torch.device,
    processes: Processes,
) -> ImageStream:
    """This process's share of the images of some classes; workers start if there are any."""
    stream = ImageStream(
        [processes.share(item) for item in classes],
        preprocessing_of(
            options.dataset, options.resize, options.crop, options.rd_version, options.bits
        ),
        options.batch_size,
        options.num_workers,
        pin_memory=device.type == "cuda",
        cache=options.image_cache,
        worker_init=tune_worker,
    )
    return stream.start() if classes else stream


def _load_backbone(name: str, options: RunOptions) -> tuple[Backbone, Conditions]:
    """The backbone, and whether its numbers are results of PaDiM.

    If the trained weights cannot be had, the demo goes on with untrained ones: it shows the
    program. A run on real data does not, for its numbers would be taken for those of PaDiM.
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


def _specs(options: RunOptions) -> list[ModelSpec]:
    """A model for each seed."""
    seeds = options.seeds or (options.seed,)
    return [ModelSpec(None, options.reduction, options.embedding_dim, seed) for seed in seeds]


def _protocol(options: RunOptions) -> Protocol:
    return Protocol(options.resize, options.crop, options.epsilon, options.sigma, options.bits)


def _folder_names(name: str, options: RunOptions) -> list[str]:
    if options.seeds is None:
        return [name]
    return [f"{name}_seed{seed}" for seed in options.seeds]


def _run_folders(
    backbone: Backbone, options: RunOptions, device: torch.device, conditions: Conditions
) -> list[RunFolder]:
    """A folder for each seed.

    Raises:
        ModelError: more channels asked for than there are; nothing is written then.
    """
    configs = [_protocol(options).config_of(spec) for spec in _specs(options)]
    blanks = [PaDiM(backbone, config) for config in configs]
    names = _folder_names(folder_name(backbone.name, backbone.layers, options, conditions), options)
    versions, provenance = describe(device), Provenance.of_this_run()
    return [
        RunFolder(
            options.save_path / name,
            RunInfo(
                run_name(backbone, blank.config),
                options,
                run_settings(blank, options, conditions),
                conditions,
                versions,
                provenance,
            ),
        )
        for name, blank in zip(names, blanks, strict=True)
    ]


def _tasks(folders: Sequence[RunFolder], backbone: Backbone, options: RunOptions) -> list[Task]:
    return [
        Task(
            Job(
                folder.name,
                (
                    Configuration(
                        folder.info.run_name,
                        backbone.name,
                        spec.reduction,
                        spec.embedding_dim,
                        seed=spec.seed,
                    ),
                ),
            ),
            folder,
        )
        for folder, spec in zip(folders, _specs(options), strict=True)
    ]


def _hold(
    folders: Sequence[RunFolder], options: RunOptions, stack: ExitStack, conditions: Conditions
) -> None:
    """Make the folders, keep other runs out until ``stack`` ends, and check what they hold."""
    layout, root = LAYOUTS[options.dataset], _root(options)
    replaced = choose_classes(layout, root, options.classes) if options.overwrite else ()
    for folder in folders:
        folder.make()
        stack.enter_context(locked(folder.path))
        folder.check(layout.find_classes(root), replaced)
    warn(conditions.warnings())


def _write_reports(folders: Sequence[RunFolder]) -> None:
    for folder in folders:
        if folder.records():
            folder.write_tables()
            folder.write_overview()


def _end(
    folders: Sequence[RunFolder], n_kept: int, options: RunOptions, conditions: Conditions
) -> None:
    print_end(folders, n_kept)
    if options.seeds is not None:
        print_seeds(folders, options)
    warn(conditions.warnings())
