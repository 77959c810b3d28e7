"""The runs behind the paper's tables: what is missing is run, then the tables are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.layouts import LAYOUTS, choose_classes, choose_crops, preprocessing_by_class
from datasets.loading.labelled import ImageStream
from datasets.loading.workers import Hooks
from datasets.region_of_interest import refuse_regions
from datasets.types import AnomalyClass
from padim.backbones import Backbone
from padim.errors import ModelError
from padim.storage.files import sweep
from utils.evaluation.class_record import skipped_files
from utils.experiment.conditions import Conditions
from utils.experiment.configuration import Job, Protocol
from utils.experiment.data_report import check_places, print_data
from utils.experiment.engine import ClassLines, Engine, find_work
from utils.experiment.network import Network
from utils.experiment.outputs import Task
from utils.experiment.processes import Processes
from utils.experiment.run import always, damaged_entries
from utils.report.command import command_line
from utils.report.tables import skipped_csv
from utils.reproduction import plan
from utils.reproduction.options import ReproduceOptions
from utils.reproduction.page import write_page
from utils.reproduction.plan import Dataset
from utils.reproduction.report import Facts, write_report
from utils.reproduction.results import JobRecords, read_results
from utils.system.console import warn
from utils.system.device import choose_device, describe
from utils.system.files import check_writable, write_text
from utils.system.lock import locked
from utils.system.process import tune_worker
from utils.system.stop import check_stop


def reproduce(options: ReproduceOptions) -> None:
    """Run what the tables need and is not there yet, and write the tables.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    device = choose_device(options.device)
    jobs = plan.jobs(options.tables, options.backbones, options.draws)
    for dataset in jobs:
        layout, root = LAYOUTS[dataset.layout], _root(dataset, options)
        check_places(layout, root, options.save_path, options.image_cache)
    check_writable(options.save_path)
    classes = {dataset: _read_classes(dataset, options) for dataset in jobs}
    networks = _load_networks(jobs, options, device)
    run = _Reproduction(options, device, networks, describe(device))
    warn(run.warnings)
    n_done = 0
    with locked(options.save_path), always(run.report):
        sweep(options.save_path)
        files = {
            file: None for group in classes.values() for one in group for file in skipped_files(one)
        }
        write_text(options.save_path / "skipped.csv", skipped_csv(list(files)))
        for dataset, group in jobs.items():
            n_done += run.run_dataset(dataset, classes[dataset], group)
    n_there = sum(_n_configurations(jobs[dataset]) * len(classes[dataset]) for dataset in jobs)
    print(_count(n_done, n_there - n_done))
    print(f"Tables and plots: {options.save_path / 'tables.md'}")
    print(f"To look through: {options.save_path / 'index.html'}")
    warn(run.warnings)


def _n_configurations(jobs: Sequence[Job]) -> int:
    return sum(len(job.configurations) for job in jobs)


def _count(n_done: int, n_there: int) -> str:
    """What was run: a configuration counts once for every class."""
    if not n_there:
        return f"configurations of a class run now: {n_done}, all there are"
    return f"configurations of a class run now: {n_done}; there already: {n_there}"


def _read_classes(dataset: Dataset, options: ReproduceOptions) -> list[AnomalyClass]:
    layout, root = LAYOUTS[dataset.layout], _root(dataset, options)
    wanted = None if dataset is plan.STC else options.classes
    names = choose_classes(layout, root, wanted)
    refuse_regions(layout, root, names, "the paper looks at all of the crop: move it away")
    return [layout.read_class(root, name) for name in names]


def _root(dataset: Dataset, options: ReproduceOptions) -> Path:
    root = options.stc_path if dataset is plan.STC else options.data_path
    assert root is not None, "the options require the path of a data set that is run"
    return root


def _load_networks(
    jobs: Mapping[Dataset, Sequence[Job]], options: ReproduceOptions, device: torch.device
) -> dict[str, Network]:
    """All networks that are needed, before anything is run: one of them may not be there."""
    used = {job.backbone for group in jobs.values() for job in group}
    networks = {}
    for name in plan.BACKBONES:
        if name in used:
            try:
                backbone = Backbone(name, options.weights[name])
            except ModelError as error:
                raise ModelError(f"{error}; or leave {name} out of --backbones") from error
            networks[name] = Network(backbone.to(device))
    return networks


@dataclass(frozen=True)
class _Reproduction:
    """What the runs of all data sets share."""

    options: ReproduceOptions
    device: torch.device
    networks: Mapping[str, Network]
    environment: Mapping[str, str]

    @property
    def warnings(self) -> list[str]:
        return Conditions(self.options.is_untrained).warnings()

    def report(self) -> None:
        """Write the tables of all that is there."""
        options = self.options
        checksums = {name: network.whole.checksum for name, network in self.networks.items()}
        records = options.save_path / "records"
        results = list(read_results(records, checksums, options.is_untrained))
        command = command_line("reproduce.py", options)
        facts = Facts(options.tables, command, options.draws, self.warnings, self.environment)
        write_report(options.save_path, results, facts)
        write_page(options.save_path, results, facts)

    def run_dataset(
        self, dataset: Dataset, classes: Sequence[AnomalyClass], jobs: Sequence[Job]
    ) -> int:
        """Run what is missing of a data set; returns the number of configurations run."""
        options, processes = self.options, Processes()
        layout, root = LAYOUTS[dataset.layout], _root(dataset, options)
        crops = choose_crops(layout, root, plan.RESIZE, None)
        protocol = Protocol(plan.RESIZE, plan.RESIZE)
        tasks = [Task(job, self._output(dataset, job, protocol, crops)) for job in jobs]
        todo = find_work([(item, item.digest()) for item in classes], tasks, processes)
        unfinished = [work.item for work in todo]
        if dataset.version is None:
            print_data(unfinished, dataset.layout, plan.RESIZE, crops)
        stream = ImageStream(
            unfinished,
            preprocessing_by_class(dataset.layout, unfinished, plan.RESIZE, crops, dataset.version),
            options.batch_size,
            options.num_workers,
            options.image_cache,
            Hooks(tune_worker, check_stop),
        )
        lines = ClassLines(todo)
        engine = Engine(self.networks, protocol, crops, processes, options.save_path, lines)
        with stream:
            for work in todo:
                engine.run_class(work, stream)
                self.report()
        warn(damaged_entries(stream.n_damaged, options.image_cache))
        return sum(_n_configurations([task.job for task in work.tasks]) for work in todo)

    def _output(
        self, dataset: Dataset, job: Job, protocol: Protocol, crops: Mapping[str, int]
    ) -> JobRecords:
        options = self.options
        return JobRecords(
            options.save_path / "records",
            dataset,
            job,
            protocol,
            crops,
            self.networks[job.backbone].whole.checksum,
            options.is_untrained,
            self.environment,
        )
