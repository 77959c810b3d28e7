"""How many defects of a real class a found region overlaps, and what is found in good images.

python benchmarks/regions.py --model .../models/bottle.safetensors --data_path .../MVTec

A defect is an 8-connected region of the ground truth at full size, and is found if its box overlaps
the box of a region that the model finds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from skimage.measure import label, regionprops

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, like the scripts

from benchmarks.common import markdown
from datasets.layouts.mvtec import read_class
from datasets.masks import read_mask
from datasets.types import Sample
from padim import PaDiM, Region

RATES = (0.01, 0.001)
MIN_AREAS = (1, 50, 200)
Box = tuple[int, int, int, int]  # left, top, right, bottom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--weights")
    args = parser.parse_args()
    item = read_class(args.data_path, args.model.stem)
    model = PaDiM.load(args.model, weights=args.weights)
    truth = [defects(sample) for sample in item.test]
    rows = []
    for rate in RATES:
        found = list(model.predict([sample.path for sample in item.test], rate))
        for min_area in MIN_AREAS:
            pairs = [
                (result.regions(min_area), boxes)
                for result, boxes in zip(found, truth, strict=True)
            ]
            rows.append((f"{rate:g}", str(min_area), *counted(pairs)))
    header = ("pixel rate", "min_area", "defects found", "regions a defective image")
    print(markdown((*header, "that overlap none", "regions a good image"), rows))


def defects(sample: Sample) -> list[Box]:
    """The boxes of the defects of an image, none of a good one."""
    if sample.mask is None:
        return []
    parts = regionprops(label(read_mask(sample.mask, sample.path), connectivity=2))
    return [(left, top, right, bottom) for top, left, bottom, right in (p.bbox for p in parts)]


def counted(pairs: Iterable[tuple[tuple[Region, ...], list[Box]]]) -> tuple[str, ...]:
    """The cells of a row, from the regions and the defects of every image."""
    n_defects = n_hit = n_bad = n_good = in_bad = in_good = n_wrong = 0
    for regions, boxes in pairs:
        n_defects += len(boxes)
        n_hit += sum(any(overlap(one.box, box) for one in regions) for box in boxes)
        n_wrong += sum(not any(overlap(one.box, box) for box in boxes) for one in regions if boxes)
        n_bad, in_bad = n_bad + bool(boxes), in_bad + bool(boxes) * len(regions)
        n_good, in_good = n_good + (not boxes), in_good + (not boxes) * len(regions)
    return (
        f"{n_hit} of {n_defects}",
        f"{in_bad / n_bad:.1f}",
        f"{n_wrong / in_bad:.0%}",
        f"{in_good / n_good:.1f}",
    )


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a pixel."""
    return all(max(one[i], other[i]) < min(one[i + 2], other[i + 2]) for i in (0, 1))


if __name__ == "__main__":
    main()
