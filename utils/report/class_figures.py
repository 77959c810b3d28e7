"""The localisation figures of a class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.types import AnomalyClass, Sample
from utils.evaluation.class_record import ClassRecord, ImageRecord
from utils.evaluation.class_scores import ClassScores
from utils.report.figures import FigureMaker
from utils.system.console import progress
from utils.system.names import FreeNames


def draw_class_figures(
    record: ClassRecord,
    item: AnomalyClass,
    scored: ClassScores,
    n_figures: int | None,
    stage: Path,
) -> list[str | None]:
    """Draw the figures of a class, the worst ranked images first.

    Args:
        record: of the class.
        item: the class.
        scored: its test images.
        n_figures: how many; None for all.
        stage: folder that the files of the class are written to.

    Returns:
        The path of the figure of every test image, relative to ``stage``; None if not drawn.
    """
    images = record.images
    chosen = worst_first(images)[:n_figures]
    if not chosen:
        return [None] * len(images)
    (stage / "figures" / item.name).mkdir()
    paths = [f"figures/{item.name}/{name}" for name in _figure_names(item.test)]
    maps = scored.maps.cpu().numpy()
    shown = maps if scored.region is None else maps[:, scored.region]
    ends = float(shown.min()), float(shown.max())
    maker = FigureMaker(maps.shape[-1], *ends, record.threshold, scored.region)

    def draw(index: int) -> None:
        sample, score = item.test[index], images[index].score
        title = f"{item.name} / {sample.defect} / {_name(sample)}: score {score:.2f}"
        has_mask = sample.mask is not None or not sample.is_defective
        mask = scored.masks[index] if has_mask else None
        figure = maker.draw(title, scored.images[index], maps[index], mask)
        # Level 1 takes half the time of level 6 and makes files a tenth larger.
        figure.save(stage / paths[index], compress_level=1)

    with ThreadPoolExecutor() as pool:
        for _ in progress(pool.map(draw, chosen), len(chosen), item.name, "figures"):
            pass
    return [path if index in set(chosen) else None for index, path in enumerate(paths)]


def worst_first(images: Sequence[ImageRecord]) -> list[int]:
    """The positions of the images, the worst ranked ones first."""
    return sorted(range(len(images)), key=lambda index: -(images[index].misranked or 0))


def _figure_names(samples: Sequence[Sample]) -> list[str]:
    """``<defect>_<name>.png`` for every image, each unlike the others."""
    names = FreeNames()
    wanted = (f"{one.defect}_{Path(_name(one)).stem}" for one in samples)
    return [f"{names.take(name, '.png')}.png" for name in wanted]


def _name(sample: Sample) -> str:
    """The file name of an image; before that of a frame stands the name of its video."""
    is_frame = sample.mask_frame is not None
    return f"{sample.path.parent.name}_{sample.path.name}" if is_frame else sample.path.name
