"""Conditions of a run: warnings about its numbers, and with what they may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from datasets.layouts import LAYOUTS
from padim.config import PaDiMConfig
from utils.experiment.options import RunOptions
from utils.system.console import DEMO, UNTRAINED


@dataclass(frozen=True)
class Conditions:
    """Reasons why numbers are not results of PaDiM.

    Attributes:
        is_untrained: whether the network has random weights.
        is_demo: whether the images are drawn by this program.
    """

    is_untrained: bool
    is_demo: bool = False

    def warnings(self) -> list[str]:
        """The warnings to show before any number, one sentence each."""
        return [UNTRAINED] * self.is_untrained + [DEMO] * self.is_demo


class Reason(Enum):
    """Why the numbers of a run must not be compared with published ones."""

    DRAWN_IMAGES = auto()
    UNTRAINED_WEIGHTS = auto()
    OTHER_DATASET = auto()
    OTHER_PROTOCOL = auto()


def reason_not_comparable(
    options: RunOptions, conditions: Conditions, has_region: bool = False
) -> Reason | None:
    """Why the numbers of a run must not be compared with published ones; None if they may.

    Args:
        options: of the run.
        conditions: of the run.
        has_region: whether a class has a region of interest.
    """
    if conditions.is_demo:
        return Reason.DRAWN_IMAGES
    if conditions.is_untrained:
        return Reason.UNTRAINED_WEIGHTS
    if options.dataset != "mvtec":
        return Reason.OTHER_DATASET
    return Reason.OTHER_PROTOCOL if _other_options(options, has_region) else None


def reason_text(reason: Reason | None, options: RunOptions, has_region: bool = False) -> str | None:
    """The reason in words; None without one."""
    if reason is None:
        return None
    return {
        Reason.DRAWN_IMAGES: "the images are drawn",
        Reason.UNTRAINED_WEIGHTS: "the weights are untrained",
        Reason.OTHER_DATASET: f"the data set is {LAYOUTS[options.dataset].title}, theirs MVTec AD",
        Reason.OTHER_PROTOCOL: "they are of another protocol than the paper's "
        f"({', '.join(_other_options(options, has_region))})",
    }[reason]


def _other_options(options: RunOptions, has_region: bool) -> list[str]:
    """The options that differ from the paper's; the default crop of a class does not."""
    paper = PaDiMConfig()
    other = [
        f"--{name} {getattr(options, name):g}"
        for name in ("resize", "crop", "epsilon", "sigma")
        if getattr(options, name) not in (None, getattr(paper, name))
    ]
    if options.network_precision != "float32":
        other.append(f"--network_precision {options.network_precision}")
    return other + ["--region"] * has_region
