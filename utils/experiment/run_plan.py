"""The plan of a run: a folder, a configuration and a task for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from datasets.region_of_interest import ClassRegion
from padim.backbones import Backbone
from padim.model import PaDiM
from utils.experiment.conditions import Conditions
from utils.experiment.configuration import Configuration, Job, ModelSpec, Protocol
from utils.experiment.options import RunOptions
from utils.experiment.outputs import Task
from utils.experiment.provenance import Provenance
from utils.experiment.run_folder import RunFolder, RunInfo
from utils.experiment.run_name import folder_name, run_name, run_settings
from utils.system.device import describe


def protocol_of(options: RunOptions) -> Protocol:
    """The settings that all models of a run share. By default, each class has its own crop."""
    crop = options.crop or options.resize
    return Protocol(options.resize, crop, options.epsilon, options.sigma, options.bits)


def folder_names(
    backbone_name: str, layers: Sequence[str] | None, options: RunOptions, conditions: Conditions
) -> list[str]:
    """The names of the run's folders, one for each seed; the arguments are those of one name."""
    name = folder_name(backbone_name, layers, options, conditions)
    return [name] if options.seeds is None else [f"{name}_seed{seed}" for seed in options.seeds]


def run_folders(
    backbone: Backbone,
    options: RunOptions,
    crops: Mapping[str, int],
    regions: Mapping[str, ClassRegion],
    device: torch.device,
    conditions: Conditions,
) -> list[RunFolder]:
    """A folder for each seed.

    Args:
        backbone: of all models.
        options: of the run.
        crops: side of the crop of every class.
        regions: of the classes that have one.
        device: of the backbone.
        conditions: of the run.

    Raises:
        ModelError: ``embedding_dim`` exceeds the channels; nothing is written.
    """
    protocol = protocol_of(options)
    blanks = [PaDiM(backbone, protocol.config_of(spec)) for spec in _specs(options)]
    names = folder_names(backbone.name, backbone.layers, options, conditions)
    versions, provenance = describe(device), Provenance.of_this_run()

    def info(blank: PaDiM) -> RunInfo:
        settings = run_settings(blank, options, conditions)
        name = run_name(backbone, blank.config)
        return RunInfo(name, options, settings, crops, regions, conditions, versions, provenance)

    pairs = zip(names, blanks, strict=True)
    return [RunFolder(options.save_path / name, info(blank)) for name, blank in pairs]


def tasks_of(folders: Sequence[RunFolder], backbone: Backbone, options: RunOptions) -> list[Task]:
    """A job of one configuration for each folder."""
    return [
        Task(Job(folder.name, (_configuration(folder.info.run_name, backbone.name, spec),)), folder)
        for folder, spec in zip(folders, _specs(options), strict=True)
    ]


def _configuration(name: str, backbone_name: str, spec: ModelSpec) -> Configuration:
    return Configuration(name, backbone_name, spec.reduction, spec.embedding_dim, seed=spec.seed)


def _specs(options: RunOptions) -> list[ModelSpec]:
    """A model for each seed."""
    seeds = options.seeds or (options.seed,)
    return [ModelSpec(None, options.reduction, options.embedding_dim, seed) for seed in seeds]
