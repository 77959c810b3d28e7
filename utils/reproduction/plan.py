"""What every table of the paper was run with: networks, layers, reductions, draws, data sets.

Imports no PyTorch, so that the options can be checked against it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from datasets.layouts import RD_VERSIONS
from utils.experiment.configuration import Configuration, Job

RESNET, WIDE, EFFICIENT = "resnet18", "wide_resnet50_2", "efficientnet_b5"
BACKBONES = (RESNET, WIDE, EFFICIENT)
DRAWS = 10  # of channels, that the ablations of the paper are averaged over
RESIZE = 256  # pixels, in every table
TABLES = (
    "layers",
    "reduction",
    "localization",
    "detection",
    "rd_mvtec",
    "stc",
    "cost",
    "beyond",
)
_LAYERS = ("layer1", "layer2", "layer3")
_TITLES = {RESNET: "R18", WIDE: "WR50", EFFICIENT: "EfficientNet-B5"}  # the paper's
_METHODS = {"random": "Rd", "semi_orthogonal": "SO", "pca": "PCA"}


@dataclass(frozen=True)
class Dataset:
    """A data set of the tables.

    Attributes:
        name: of the folder of its records.
        layout: a key of ``datasets.layouts.catalogue.LAYOUTS``.
        version: the random version; None for a data set without versions.
    """

    name: str
    layout: str
    version: int | None = None


MVTEC = Dataset("mvtec", "mvtec")
STC = Dataset("shanghaitech", "shanghaitech")
RD_MVTEC = tuple(Dataset(f"rd_mvtec{i}", "rd_mvtec", i) for i in range(RD_VERSIONS))


def is_drawn(configuration: Configuration) -> bool:
    """Whether its numbers depend on a seed."""
    return configuration.reduction in ("random", "semi_orthogonal")


def title_of(configuration: Configuration) -> str:
    """A configuration as the paper writes it, such as R18-Rd100."""
    name, backbone = configuration.name, configuration.backbone
    if name == EFFICIENT:
        return f"{_TITLES[EFFICIENT]}, all channels"
    if configuration.embedding_dim is not None:
        method = _METHODS[configuration.reduction]
        return f"{_TITLES[backbone]}-{method}{configuration.embedding_dim}"
    what = name.removeprefix(f"{backbone}_").replace("_", " ")
    return f"{_TITLES[backbone]}, {what.replace('layer', 'layer ', what[-1].isdigit())}"


def reduced(backbone: str, reduction: str, dim: int, seed: int = 0) -> Configuration:
    name = f"{backbone}_{_METHODS[reduction].lower()}{dim}"
    return Configuration(name, backbone, reduction, dim, seed=seed)


def whole(backbone: str) -> Configuration:
    """All channels; for EfficientNet-B5 that is the paper's own configuration."""
    return Configuration(
        backbone if backbone == EFFICIENT else f"{backbone}_all_channels", backbone
    )


RD100, RD550, B5 = reduced(RESNET, "random", 100), reduced(WIDE, "random", 550), whole(EFFICIENT)
SINGLE_LAYERS = tuple(Configuration(f"{RESNET}_{n}", RESNET, layer_sets=((n,),)) for n in _LAYERS)
SUM = Configuration(
    f"{RESNET}_sum_of_layers", RESNET, layer_sets=tuple((name,) for name in _LAYERS)
)
TIMED = (RD100, RD550)  # the paper's table of cost


def columns(table: str) -> tuple[Configuration, ...]:
    """The configurations that a table compares, with the first seed."""
    return {
        "layers": (*SINGLE_LAYERS, SUM, whole(RESNET)),
        "reduction": tuple(
            reduced(RESNET, kind, dim) for dim in (100, 200) for kind in ("random", "pca")
        ),
        "localization": (RD100, RD550),
        "detection": (RD550, B5),
        "rd_mvtec": (RD550,),
        "stc": (RD100,),
        "cost": TIMED,
        "beyond": (
            *(RD100, reduced(RESNET, "semi_orthogonal", 100), whole(RESNET)),
            *(RD550, reduced(WIDE, "semi_orthogonal", 550), whole(WIDE)),
            *(reduced(EFFICIENT, "random", 100), reduced(EFFICIENT, "semi_orthogonal", 100), B5),
        ),
    }[table]


def n_draws(table: str, configuration: Configuration, draws: int) -> int:
    """The number of draws that a table averages a configuration over."""
    return draws if table in ("reduction", "beyond") and is_drawn(configuration) else 1


def datasets(table: str) -> tuple[Dataset, ...]:
    return {"rd_mvtec": RD_MVTEC, "stc": (STC,)}.get(table, (MVTEC,))


def jobs(
    tables: Sequence[str], backbones: Sequence[str], draws: int
) -> dict[Dataset, tuple[Job, ...]]:
    """All jobs that some tables need, each once, by data set.

    Args:
        tables: of ``TABLES``.
        backbones: those that may be run.
        draws: of channels, for the tables that average over them.
    """
    found: dict[Dataset, dict[str, Job]] = {}
    for table in tables:
        for dataset in datasets(table):
            for job in _of_table(table, draws):
                if job.backbone in backbones:
                    found.setdefault(dataset, {})[job.name] = job
    return {dataset: tuple(by_name.values()) for dataset, by_name in found.items()}


def _of_table(table: str, draws: int) -> Iterator[Job]:
    for configuration in columns(table):
        if configuration in (*SINGLE_LAYERS, SUM):
            continue
        for seed in range(n_draws(table, configuration, draws)):
            yield drawn(configuration, seed)
    if table == "layers":
        yield Job(f"{RESNET}_layers", (*SINGLE_LAYERS, SUM))


def drawn(configuration: Configuration, seed: int) -> Job:
    """A configuration with the channels of a seed."""
    name = f"{configuration.name}_seed{seed}" if is_drawn(configuration) else configuration.name
    return Job(name, (replace(configuration, seed=seed),))
