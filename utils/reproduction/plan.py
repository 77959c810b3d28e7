"""What every table of the paper was run with: networks, layers, reductions, draws, data sets.

Nothing heavy is imported here, so the options can be checked against it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from datasets.layouts import RD_VERSIONS

RESNET, WIDE, EFFICIENT = "resnet18", "wide_resnet50_2", "efficientnet_b5"
BACKBONES = (RESNET, WIDE, EFFICIENT)
DRAWS = 10  # and those of its ablations over so many draws of channels
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
    """A data set that tables are run on.

    Attributes:
        name: of its folder of records.
        layout: as ``--dataset`` of the scripts has it.
        version: which random version; None where there are none.
    """

    name: str
    layout: str
    version: int | None = None


MVTEC = Dataset("mvtec", "mvtec")
STC = Dataset("shanghaitech", "shanghaitech")
RD_MVTEC = tuple(Dataset(f"rd_mvtec{i}", "rd_mvtec", i) for i in range(RD_VERSIONS))


@dataclass(frozen=True)
class Configuration:
    """A way to run PaDiM that a table has numbers of.

    Attributes:
        name: the name the published numbers have it under.
        backbone: a key of ``padim.backbones.BACKBONES``.
        reduction, embedding_dim: as in ``PaDiMConfig``.
        layer_sets: a model for each, whose anomaly maps are added; None for one of the paper's
            layers.
        seed: of the draw.
    """

    name: str
    backbone: str
    reduction: str = "none"
    embedding_dim: int | None = None
    layer_sets: tuple[tuple[str, ...] | None, ...] = (None,)
    seed: int = 0

    @property
    def is_drawn(self) -> bool:
        return self.reduction in ("random", "semi_orthogonal")

    @property
    def title(self) -> str:
        """As the paper would write it, such as R18-Rd100."""
        if self.name == EFFICIENT:
            return f"{_TITLES[EFFICIENT]}, all channels"
        if self.embedding_dim is not None:
            return f"{_TITLES[self.backbone]}-{_METHODS[self.reduction]}{self.embedding_dim}"
        what = self.name.removeprefix(f"{self.backbone}_").replace("_", " ")
        return f"{_TITLES[self.backbone]}, {what.replace('layer', 'layer ', what[-1].isdigit())}"


@dataclass(frozen=True)
class Job:
    """Configurations that share models, and so are done together or not at all."""

    name: str
    configurations: tuple[Configuration, ...]

    @property
    def backbone(self) -> str:
        return self.configurations[0].backbone

    @property
    def n_passes(self) -> int:
        """How often the training images are gone through: principal components want them twice."""
        has_pca = any(one.reduction == "pca" for one in self.configurations)
        return has_pca + len({ls for one in self.configurations for ls in one.layer_sets})


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
    """The configurations a table compares, whatever they are drawn from."""
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
    """Over how many draws a table's numbers of a configuration are averaged."""
    return draws if table in ("reduction", "beyond") and configuration.is_drawn else 1


def datasets(table: str) -> tuple[Dataset, ...]:
    return {"rd_mvtec": RD_MVTEC, "stc": (STC,)}.get(table, (MVTEC,))


def jobs(
    tables: Sequence[str], backbones: Sequence[str], draws: int
) -> dict[Dataset, tuple[Job, ...]]:
    """All that has to be run for some tables, each once, by data set.

    Args:
        tables: of ``TABLES``.
        backbones: those that may be run.
        draws: of channels, where a table averages over them.
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
    name = f"{configuration.name}_seed{seed}" if configuration.is_drawn else configuration.name
    return Job(name, (replace(configuration, seed=seed),))
