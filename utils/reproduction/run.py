"""The runs behind the paper's tables: what is not there yet is run, then the tables are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import torch

from datasets.layouts import LAYOUTS, choose_classes, preprocessing_of
from datasets.loading.labelled import Batch, ImageStream
from datasets.types import AnomalyClass
from utils.reproduction import plan
from utils.reproduction.options import ReproduceOptions
from utils.reproduction.passes import Network, Numbers, Pass
from utils.reproduction.plan import Configuration, Dataset, Job
from utils.reproduction.records import Records
from utils.reproduction.report import Facts, write_report
from utils.system.console import UNTRAINED, progress, warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.memory import keep_memory

RESIZE = 256  # pixels, in every table


def reproduce(args: ReproduceOptions) -> None:
    """Run what the tables need and is not there yet, and write the tables.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    keep_memory()
    device = choose_device(args.device)
    check_writable(args.save_path)
    jobs = plan.jobs(args.tables, args.backbones, args.draws)
    classes = {dataset: _read_classes(dataset, args) for dataset in jobs}
    networks = _load(jobs, args, device)
    is_untrained = args.is_untrained
    checksums = {name: network.whole.checksum for name, network in networks.items()}
    environment = describe(device)
    records = Records(args.save_path / "records", checksums, is_untrained, environment)
    warnings = [UNTRAINED] * is_untrained
    facts = Facts(args.draws, warnings, environment)
    warn(warnings)

    def report() -> None:
        write_report(args.save_path, list(records.results()), facts)

    n_done = 0
    with locked(args.save_path):
        try:
            for dataset, group in jobs.items():
                todo = classes[dataset]
                n_done += _run_dataset(dataset, todo, group, networks, records, args, report)
        finally:  # also when stopped: what is done can be looked at
            report()
    print(f"configurations run now: {n_done}; the others were there already")
    print(f"Tables and plots: {args.save_path / 'tables.md'}")
    warn(warnings)


def _read_classes(dataset: Dataset, args: ReproduceOptions) -> list[AnomalyClass]:
    layout = LAYOUTS[dataset.layout]
    is_mvtec = dataset is not plan.STC
    root = args.data_path if is_mvtec else args.stc_path
    names = choose_classes(layout, root, args.classes if is_mvtec else None)
    return [layout.read_class(root, name) for name in names]


def _load(
    jobs: Mapping[Dataset, Sequence[Job]], args: ReproduceOptions, device: torch.device
) -> dict[str, Network]:
    """All networks that are needed, before anything is run, for one may not be there."""
    used = {job.backbone for group in jobs.values() for job in group}
    networks = {}
    for name in plan.BACKBONES:
        if name in used:
            networks[name] = Network(name, args.weights[name], device)
    return networks


def _run_dataset(
    dataset: Dataset,
    classes: Sequence[AnomalyClass],
    group: Sequence[Job],
    networks: Mapping[str, Network],
    records: Records,
    args: ReproduceOptions,
    report: Callable[[], None],
) -> int:
    """Run what is missing of a data set; returns how many configurations that was."""
    todo: list[tuple[AnomalyClass, str, list[Job]]] = []
    for item in classes:
        digest = item.digest()
        missing = [job for job in group if not records.is_finished(dataset, item.name, job, digest)]
        if missing:
            todo.append((item, digest, missing))
    crop = LAYOUTS[dataset.layout].crop or RESIZE
    stream = ImageStream(
        [item for item, _, _ in todo],
        preprocessing_of(dataset.layout, RESIZE, crop, dataset.version),
        args.batch_size,
        args.num_workers,
        pin_memory=any(network.device.type == "cuda" for network in networks.values()),
        cache=args.image_cache,
    )
    n_done = 0
    try:
        for item, digest, missing in todo:
            done = _run_class(item, missing, stream, networks, crop, args.save_path)
            for number, (job, numbers) in enumerate(done):
                if number == 0:  # the images have been read now, for all jobs
                    item.check_unchanged(digest)
                records.finish(dataset, item.name, job, digest, numbers)
                n_done += len(job.configurations)
            report()
    finally:
        stream.close()
    return n_done


def _run_class(
    item: AnomalyClass,
    jobs: Sequence[Job],
    stream: ImageStream,
    networks: Mapping[str, Network],
    crop: int,
    folder: Path,
) -> Iterator[tuple[Job, dict[Configuration, Numbers]]]:
    """Do the jobs of one class, backbone after backbone.

    Of a class that is gone through but once nothing is kept: its images pass through.
    """
    is_shared = sum(job.n_passes for job in jobs) > 1
    train: Iterable[Batch] = _counted(stream, len(item.train), item.name, "training images")
    test: Iterable[Batch] = _counted(stream, len(item.test), item.name, "test images")
    if is_shared:
        train, test = list(train), list(test)
    for number, group in groupby(sorted(jobs, key=_backbone), _backbone):
        here = Pass(
            item,
            networks[plan.BACKBONES[number]],
            train,
            test,
            (RESIZE, crop),
            folder if is_shared else None,
        )
        group = list(group)
        for job in progress(group, len(group), item.name, plan.BACKBONES[number], "model"):
            yield job, here.run(job)


def _counted(stream: ImageStream, n_images: int, name: str, phase: str) -> Iterator[Batch]:
    return progress(stream.take(n_images), n_images, name, phase)


def _backbone(job: Job) -> int:
    return plan.BACKBONES.index(job.backbone)
