"""What several tests share: drawn data sets, short runs of a script, slow oracles."""

from __future__ import annotations

import csv
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label

from padim.backbones import Backbone
from padim.config import PaDiMConfig
from utils.cli.main import main
from utils.evaluation import metrics, regions
from utils.evaluation.class_record import ClassRecord, ImageRecord, Threshold
from utils.evaluation.metric_names import METRICS, PRO_LIMIT

SIDE = 48  # pixels of the drawn images
SPOT = (slice(10, 20), slice(12, 26))
LONG = pytest.mark.skipif("SOAK" not in os.environ, reason="long: `make soak` runs it")


def draw_image(seed: int, spot: tuple[slice, slice] | None = None) -> Image.Image:
    """Grey stripes with noise; a bright spot where there is a defect."""
    noise = np.random.default_rng(seed).normal(0, 8, (SIDE, SIDE, 3))
    pixels = 110 + 40 * np.sin(np.arange(SIDE) / 3)[None, :, None] + noise
    if spot is not None:
        pixels[spot] = 250
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save_image(path: Path, seed: int, is_defective: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_image(seed, SPOT if is_defective else None).save(path)


def draw_class(
    root: Path, name: str = "tiles", n_train: int = 6, n_good: int = 3, n_spots: int = 3
) -> Path:
    """A class in the MVTec AD layout, with one kind of defect and exact masks."""
    folder = root / name
    for part in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (folder / part).mkdir(parents=True)
    for i in range(n_train):
        draw_image(i).save(folder / "train/good" / f"{i:03d}.png")
    for i in range(n_good):
        draw_image(100 + i).save(folder / "test/good" / f"{i:03d}.png")
    for i in range(n_spots):
        spot = (slice(14, 24), slice(12 + 4 * i, 24 + 4 * i))
        draw_image(200 + i, spot).save(folder / "test/spot" / f"{i:03d}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[spot] = 255
        Image.fromarray(mask).save(folder / "ground_truth/spot" / f"{i:03d}_mask.png")
    return folder


SMALL = ["--resize=64", "--crop=56", "--num_workers=0", "--embedding_dim=12"]


def run(root: Path | None, save: Path, *argv: str, weights: str = "random") -> int:
    """Run the ResNet-18 script's ``main`` in this process."""
    data = [] if root is None else [f"--data_path={root}"]
    options = [*data, f"--save_path={save}", f"--weights={weights}", *SMALL, *argv]
    return main("resnet18", options)


def result(save: Path) -> Path:
    return save / "resnet18_rd12_untrained"


def rows(save: Path) -> dict[str, dict[str, str]]:
    with (result(save) / "results.csv").open(newline="") as file:
        return {row["class"]: row for row in csv.DictReader(file)}


def expect_one_line(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> None:
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("!!!")]
    assert status == 2
    assert len(errors) == 1, errors
    for word in words:
        assert word in errors[0]


CROP = 64


def draw(n_images: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(1, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)) * 160
    noise = torch.randn(n_images, 3, CROP, CROP, generator=generator) * 20
    return (base + noise + 40).clamp(0, 255).to(torch.uint8)


@cache
def random_backbone(name: str = "resnet18", precision: str = "float32") -> Backbone:
    """A network with random weights, drawn once: no test changes it."""
    return Backbone(name, "random", precision=precision)


def config(**options) -> PaDiMConfig:
    return PaDiMConfig(**{"embedding_dim": 20, "resize": CROP, "crop": CROP} | options)


def image_record(**values: Any) -> ImageRecord:
    """A good test image, but for what is given."""
    usual = {"path": "test/good/000.png", "defect": "good", "label": 0, "score": 1.5}
    unknown = {"p_value": None, "is_defective": None, "misranked": None, "figure": None}
    return ImageRecord(**usual | unknown | values)


CHECKSUMS = {"data_digest": None, "image_checksum": None}


def class_record(class_name: str = "bottle", **values: Any) -> ClassRecord:
    """The record of a class with no number at all, but for what is given."""
    curves = dict.fromkeys(("image_roc", "pixel_roc", "pro"))
    usual = {"order": 0, "metrics": dict.fromkeys(METRICS), "n_train": 10, "draws": {}}
    usual |= {"n_test": len(values.get("images", ())), "image_threshold": None}
    others = {"seconds": 1.25, "notes": (), "threshold": Threshold(None, "none"), "images": ()}
    return ClassRecord(class_name, **usual | others | {"curves": curves} | CHECKSUMS | values)


def rank(
    scores: np.ndarray, labels: np.ndarray, rates: tuple[float, ...] = ()
) -> metrics.Ranking | None:
    return metrics.rank(torch.from_numpy(scores), torch.from_numpy(labels.astype(bool)), rates)


def measure_pixels(
    maps: np.ndarray, masks: np.ndarray, is_good: np.ndarray | None = None
) -> regions.PixelMetrics | None:
    """Images without a defective pixel are good, unless something else is said."""
    is_good = ~masks.astype(bool).any(axis=(1, 2)) if is_good is None else is_good
    masks = torch.from_numpy(masks.astype(bool))
    return regions.measure_pixels(torch.from_numpy(maps), masks, torch.from_numpy(is_good))


def slow_pro(maps: np.ndarray, masks: np.ndarray, limit: float = PRO_LIMIT) -> float:
    """Bergmann et al.: at every threshold the mean share of each region that is found."""
    regions = []
    for image, mask in zip(maps, masks, strict=True):
        numbered, count = label(mask, structure=np.ones((3, 3)))
        regions += [image[numbered == number] for number in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((np.mean(normal >= threshold), overlap))
    rates, overlaps = np.array(points).T
    grid = np.append(rates[rates < limit], limit)
    # Where several points share a rate, the curve is vertical: the integral takes each as it is.
    values = np.append(overlaps[rates < limit], np.interp(limit, rates, overlaps))
    return float(np.trapezoid(values, grid) / limit)


def draw_maps(
    seed: int, levels: int | None, n_good: int = 4, n_bad: int = 4, side: int = 24
) -> tuple:
    """Maps, masks and which images are good; with ``levels`` few distinct scores, so many ties."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n_good + n_bad, side, side), bool)
    for image in masks[n_good:]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, side - 6, 2)
            image[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    maps = rng.random(masks.shape) * rng.uniform(0.7, 1, (len(masks), 1, 1))
    maps += 0.5 * masks * rng.random(masks.shape)
    if levels is not None:
        maps = np.round(maps * levels)
    return maps.astype(np.float32), masks, np.arange(len(masks)) < n_good
