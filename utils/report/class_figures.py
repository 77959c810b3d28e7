"""The localisation figures of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.types import AnomalyClass, Sample
from utils.evaluation.class_record import ClassScores
from utils.report.figures import FigureMaker
from utils.system.console import progress


def draw_class_figures(
    item: AnomalyClass,
    scored: ClassScores,
    images: list[dict],
    threshold: Mapping,
    n_figures: int | None,
    stage: Path,
) -> None:
    """Draw the figures of a class, the worst ranked images first.

    Args:
        item: the class.
        scored: its test images.
        images: the same as ``evaluation.list_images`` has them; each gets its ``figure``.
        threshold: ``value`` and ``name``, as ``evaluation.choose_threshold`` gives them.
        n_figures: how many; None for all.
        stage: the folder of the class's files.
    """
    chosen = sorted(range(len(images)), key=lambda i: -(images[i]["misranked"] or 0))[:n_figures]
    if not chosen:
        return
    folder = stage / "figures" / item.name
    folder.mkdir()
    maps = scored.maps.cpu().numpy()
    maker = FigureMaker(
        maps.shape[-1],
        float(maps.min()),
        float(maps.max()),
        threshold["value"],
        threshold["name"],
    )
    names = _figure_names(item.test)

    def draw(index: int) -> None:
        sample, image = item.test[index], images[index]
        title = f"{item.name} / {sample.defect} / {_name(sample)}: score {image['score']:.2f}"
        has_mask = sample.mask is not None or not sample.is_defective
        mask = scored.masks[index] if has_mask else None
        figure = maker.draw(title, scored.images[index], maps[index], mask)
        # Photographs hardly pack: level 1 takes half the time of 6 for a tenth more bytes.
        figure.save(folder / names[index], compress_level=1)
        image["figure"] = f"figures/{item.name}/{names[index]}"

    with ThreadPoolExecutor() as pool:
        for _ in progress(pool.map(draw, chosen), len(chosen), item.name, "figures"):
            pass


def _figure_names(samples: Sequence[Sample]) -> list[str]:
    """``<defect>_<name>.png`` for every image, told apart where two would have the same."""
    names: dict[str, None] = {}  # a set that keeps the order
    for sample in samples:
        name = f"{sample.defect}_{Path(_name(sample)).stem}"
        if f"{name}.png" in names:
            name = f"{sample.defect}_{_name(sample)}_{len(names)}"
        names[f"{name}.png"] = None
    return list(names)


def _name(sample: Sample) -> str:
    """An image's file name; a frame's has its video's before it."""
    is_frame = sample.mask_frame is not None
    return f"{sample.path.parent.name}_{sample.path.name}" if is_frame else sample.path.name
