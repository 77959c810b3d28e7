"""From what was run to the numbers of a table: means over draws, over classes, and what is missing.

A mean over classes is there only where all the classes are that the paper's is over.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from utils.experiment.configuration import Configuration
from utils.report.published import Systems, published_results
from utils.report.rows import GROUPS
from utils.reproduction import plan
from utils.reproduction.results import Result

# Those of ShanghaiTech Campus that have test videos; the thirteenth has none.
SCENES = tuple(f"{number:02d}" for number in range(1, 13))
COSTS = ("seconds_per_image", "memory_gb")
METRICS = {
    "detection": ("image_auroc",),
    "stc": ("pixel_auroc", "image_auroc", "memory_gb"),
    "cost": COSTS,
    "beyond": ("image_auroc", "pixel_auroc", "pro"),
}
USUAL_METRICS = ("pixel_auroc", "pro")
# The file has the paper's machine in the metric's name.
_PUBLISHED_METRIC = {"seconds_per_image": "seconds_per_image_cpu_i7_4710hq"}


@dataclass(frozen=True)
class Number:
    """A number of a table.

    Attributes:
        class_name: a class, or the mean row ``textures``, ``objects`` or ``all``.
        value: ours; None where it was not run, or not all of what it is the mean of.
        error: its standard error over draws or random versions; None where there is but one.
        n_values, n_wanted: of draws or versions, those that were run and all.
        n_classes: of those a mean row is over, those that were run; 1 for a class.
        published: what others have for it.
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
    found = {one.class_name for one in results if one.dataset in names}
    return [*known, *sorted(found.difference(known))]


def numbers_of(table: str, results: Sequence[Result], draws: int) -> list[Number]:
    """All numbers of a table, those of what was not run among them.

    Args:
        table: of ``plan.TABLES``.
        results: all that was run.
        draws: of channels that a mean is over, where the table has such means.
    """
    found = {(one.dataset, one.class_name, one.configuration, one.seed): one for one in results}
    classes = classes_of(table, results)

    def value(instance: tuple[str, int], class_name: str, name: str, metric: str) -> float | None:
        result = found.get((instance[0], class_name, name, instance[1]))
        return None if result is None else result.numbers.get(metric)

    def rows(one: Configuration, metric: str) -> Iterator[Number]:
        n_draws = plan.n_draws(table, one, draws)
        instances = [(data.name, seed) for data in plan.datasets(table) for seed in range(n_draws)]
        published = _published(table, one, metric)

        def number(class_name: str, members: Sequence[str]) -> Number:
            of_class = [
                [value(instance, member, one.name, metric) for member in members]
                for instance in instances
            ]
            present = [[value for value in each if value is not None] for each in of_class]
            complete = [statistics.fmean(each) for each in present if len(each) == len(members)]
            n_classes = sum(
                any(v is not None for v in each) for each in zip(*of_class, strict=True)
            )
            mean, error = _mean(complete)
            return Number(
                table=table,
                configuration=one,
                class_name=class_name,
                metric=metric,
                value=mean,
                error=error,
                n_values=len(complete),
                n_wanted=len(instances),
                n_classes=n_classes,
                published={
                    system: {class_name: values[class_name]}
                    for system, values in published.items()
                    if class_name in values
                },
            )

        yield from (number(name, [name]) for name in classes)
        yield from (number(group, members) for group, members in groups_of(table).items())

    return [
        number
        for one in plan.columns(table)
        for metric in metrics_of(table)
        for number in rows(one, metric)
    ]


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard error."""
    if len(values) < 2:
        return (values[0] if values else None), None
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def _published(table: str, one: Configuration, metric: str) -> Systems:
    if metric in COSTS:
        name = _PUBLISHED_METRIC.get(metric, metric)
        found = published_results(one.name, name, ("cost",))
        dataset = "stc" if table == "stc" else "mvtec"
        return {system: {"all": v[dataset]} for system, v in found.items() if dataset in v}
    if table != "beyond":
        return published_results(one.name, metric, (table,))
    # By class they are in the tables before; here the means of the paper are enough.
    found = published_results(one.name, metric, ("layers", "localization", "detection"))
    means = {group: v for group, v in found.get("paper", {}).items() if group in GROUPS}
    return {"paper": means} if means else {}
