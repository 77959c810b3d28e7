"""The report on the images before a run, and the check of where it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from datasets.layouts import Layout, check_outside
from datasets.region_of_interest import ClassRegion
from datasets.summary import DataSummary, summarise
from datasets.types import AnomalyClass
from utils.system.console import one_line

RANDOM_CROP = "rd_mvtec"  # the crop differs between images: no border is outside all crops


def summary_of(item: AnomalyClass, dataset: str, resize: int, crop: int) -> DataSummary:
    """The summary of a class.

    Args:
        item: the class.
        dataset: its layout, a key of ``LAYOUTS``.
        resize, crop: as its images are preprocessed.
    """
    return summarise(item, resize, resize if dataset == RANDOM_CROP else crop)


def print_data(
    classes: Sequence[AnomalyClass],
    dataset: str,
    resize: int,
    crops: Mapping[str, int],
    regions: Mapping[str, ClassRegion] = MappingProxyType({}),
) -> None:
    """Print a line on the images of every class, and the remarks on its files."""
    for item in classes:
        summary = summary_of(item, dataset, resize, crops[item.name])
        region = regions.get(item.name)
        for text in (summary.text, *item.remarks, *([] if region is None else [region.text])):
            print(one_line(f"{item.name}: {text}"), flush=True)


def check_places(layout: Layout, root: Path, save_path: Path, cache: Path | None) -> None:
    """Check that the outputs are not in folders of input images.

    Raises:
        DataError: one is.
    """
    check_outside(layout, root, save_path, "--save_path")
    if cache is not None:
        check_outside(layout, root, cache, "--image_cache")
