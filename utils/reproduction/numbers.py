"""The numbers of a table from the results: means over draws and classes, and what is missing.

A mean over classes has a value only if all classes of the paper's mean were run.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from utils.experiment.configuration import Configuration
from utils.report.published import Systems, published_results
from utils.report.rows import GROUPS
from utils.reproduction import plan
from utils.reproduction.results import Result

# Scenes of ShanghaiTech Campus with test videos; the thirteenth has none.
SCENES = tuple(f"{number:02d}" for number in range(1, 13))
COSTS = ("seconds_per_image", "memory_gb")
METRICS = {
    "detection": ("image_auroc",),
    "stc": ("pixel_auroc", "image_auroc", "memory_gb"),
    "cost": COSTS,
    "beyond": ("image_auroc", "pixel_auroc", "pro"),
}
USUAL_METRICS = ("pixel_auroc", "pro")
# The file of published numbers has the paper's machine in the metric's name.
_PUBLISHED_METRIC = {"seconds_per_image": "seconds_per_image_cpu_i7_4710hq"}


@dataclass(frozen=True)
class Number:
    """A number of a table.

    Attributes:
        class_name: a class, or the mean row ``textures``, ``objects`` or ``all``.
        value: ours; None if it, or a part of the mean, was not run.
        error: standard error over draws or random versions; None if there is only one.
        n_values: draws or versions that were run.
        n_wanted: draws or versions that the value is a mean over.
        n_classes: classes of the mean row that were run; 1 for a class.
        published: what others report.
    """

    table: str
    configuration: Configuration
    class_name: str
    metric: str
    value: float | None
    error: float | None
    n_values: int
    n_wanted: int
    n_classes: int
    published: Systems


def metrics_of(table: str) -> tuple[str, ...]:
    return METRICS.get(table, USUAL_METRICS)


def groups_of(table: str) -> Mapping[str, tuple[str, ...]]:
    """The mean rows of a table, and the classes each is over."""
    return {"all": SCENES} if table == "stc" else GROUPS


def classes_of(table: str, results: Iterable[Result]) -> list[str]:
    """The rows of a table: the classes of the paper, run or not, then others that were run."""
    names = {dataset.name for dataset in plan.datasets(table)}
    known = groups_of(table)["all"]
    run = {result.class_name for result in results if result.dataset in names}
    return [*known, *sorted(run.difference(known))]


def numbers_of(table: str, results: Sequence[Result], draws: int) -> list[Number]:
    """All numbers of a table; those that were not run have no value.

    Args:
        table: of ``plan.TABLES``.
        results: all that was run.
        draws: of channels that a mean is over, where the table has such means.
    """
    by_key = {
        (result.dataset, result.seed, result.class_name, result.configuration): result.numbers
        for result in results
    }
    own = {result.class_name for result in results if result.differing}
    members = {name: (name,) for name in classes_of(table, results)} | dict(groups_of(table))
    return [
        _number(table, configuration, metric, name, classes, draws, by_key, own)
        for configuration in plan.columns(table)
        for metric in metrics_of(table)
        for name, classes in members.items()
    ]


def _number(
    table: str,
    configuration: Configuration,
    metric: str,
    name: str,
    classes: Sequence[str],
    draws: int,
    by_key: Mapping[tuple[str, int, str, str], Mapping[str, float | None]],
    own: Collection[str],
) -> Number:
    """The mean over draws, or random versions, of the mean over classes.

    Classes of ``own`` only have the names of the paper's: they are in no mean and not compared.
    """
    n_draws = plan.n_draws(table, configuration, draws)
    instances = [(data.name, seed) for data in plan.datasets(table) for seed in range(n_draws)]
    keys = [one if one == name or one not in own else "" for one in classes]
    values = [
        [by_key.get((*instance, one, configuration.name), {}).get(metric) for one in keys]
        for instance in instances
    ]
    present = [[value for value in row if value is not None] for row in values]
    complete = [statistics.fmean(row) for row in present if len(row) == len(classes)]
    mean, error = _mean(complete)
    return Number(
        table=table,
        configuration=configuration,
        class_name=name,
        metric=metric,
        value=mean,
        error=error,
        n_values=len(complete),
        n_wanted=len(instances),
        n_classes=sum(
            any(value is not None for value in column) for column in zip(*values, strict=True)
        ),
        published={
            system: {name: published[name]}
            for system, published in _published(table, configuration, metric).items()
            if name in published and name not in own
        },
    )


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard error."""
    if len(values) < 2:
        return (values[0] if values else None), None
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def _published(table: str, one: Configuration, metric: str) -> Systems:
    if metric in COSTS:
        name = _PUBLISHED_METRIC.get(metric, metric)
        systems = published_results(one.name, name, ("cost",))
        dataset = "stc" if table == "stc" else "mvtec"
        return {system: {"all": v[dataset]} for system, v in systems.items() if dataset in v}
    if table != "beyond":
        return published_results(one.name, metric, (table,))
    # By class they are in the tables before; here the means of the paper are enough.
    systems = published_results(one.name, metric, ("layers", "localization", "detection"))
    means = {group: v for group, v in systems.get("paper", {}).items() if group in GROUPS}
    return {"paper": means} if means else {}
