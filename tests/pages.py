"""Pages of every kind, made from drawn records: no network is run for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers import class_record, image_record
from PIL import Image

from utils.evaluation.class_record import ClassRecord, ImageRecord, ImageThreshold
from utils.report.figures import figure_size
from utils.report.gallery import GalleryImage
from utils.report.prediction_page import render_prediction_page
from utils.report.rows import METRICS, result_rows
from utils.report.run_page import render_run_page
from utils.report.runs_page import write_runs_page
from utils.report.seeds import write_seed_tables
from utils.reproduction.page import write_page
from utils.reproduction.report import Facts
from utils.reproduction.results import Result

CROP = 56
HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "\"'><b onclick=window.hacked=1>",
    "{{title}} ${window.hacked=1} %3Cscript%3E",
    "a b#1?&amp;;.png",
    "<script>window.hacked=1;<script>",
)
ROC = ([0.0, 0.0, 0.3, 1.0], [0.0, 0.6, 0.9, 1.0])
COMMAND = "python main_resnet.py --data_path '/data/a set' --figures all"


def draw_record(
    name: str, n_good: int, n_defective: int, threshold: float | None = 20.0, seed: int = 0
) -> ClassRecord:
    """A class whose scores overlap: some defects are missed, and some good images flagged."""
    rng = np.random.default_rng(seed)
    kinds = ("scratch", HOSTILE[4], "good")
    images = [
        _image(name, "good", i, 0, float(rng.normal(16, 2.5)), rng) for i in range(n_good)
    ] + [
        _image(name, kinds[i % 3], i, 1, float(rng.normal(26, 6)), rng) for i in range(n_defective)
    ]
    if threshold is not None:
        images = [replace(image, is_defective=image.score > threshold) for image in images]
    metrics = {metric: float(rng.uniform(0.7, 1)) for metric in METRICS} | {"pro": None}
    return class_record(
        name,
        images=tuple(images),
        metrics=metrics,
        notes=("a note to be read",),
        n_test=len(images),
        image_threshold=None if threshold is None else ImageThreshold(threshold, 0.02, 0.01),
        curves={"image_roc": ROC, "pixel_roc": ROC, "pro": None},
    )


def _image(
    name: str, defect: str, index: int, label: int, score: float, rng: np.random.Generator
) -> ImageRecord:
    folder = "good" if label == 0 else f"{defect} "
    return image_record(
        path=f"test/{folder}/{HOSTILE[3] if index == 1 else f'{label}{index:03d}.png'}",
        defect=defect,
        label=label,
        score=score,
        p_value=float(rng.uniform()),
        misranked=float(rng.choice([0, 0, 0.25, 0.5])),
        figure=f"figures/{name}/{folder}_{index}.png",
    )


def draw_figure(path: Path, size: tuple[int, int] = figure_size(CROP), colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (60 + colour % 150, 90, 120)).save(path, compress_level=1)


def make_run(folder: Path, records: Sequence[ClassRecord], title: str = "PaDiM run") -> Path:
    """The page of a run, with a file for every figure."""
    for record in records:
        for image in record.images:
            if image.figure is not None:
                draw_figure(folder / image.figure)
    for name in ("roc_curve.png", "pro_curve.png"):
        draw_figure(folder / name)
    for name in ("results.csv", "results.md", "results.json"):
        (folder / name).write_text("{}")
    page = render_run_page(
        title=title,
        warnings=["DEMO IMAGES: a warning"],
        command=COMMAND,
        facts={"layers": ["layer1", "layer2"], "seed": 0, "rd_version": None},
        records=records,
        links=("results.csv", "results.md", "results.json"),
        crops={record.class_name: CROP for record in records},
        reason_not_comparable="the images are drawn",
    )
    return _write(folder / "index.html", page)


def usual_run(folder: Path) -> Path:
    """A run of four classes: two with hostile names, one without a threshold."""
    return make_run(folder, usual_records())


def usual_records() -> list[ClassRecord]:
    none = draw_record("no threshold", 3, 3, None, seed=4)
    return [
        draw_record("bottle", 20, 40, seed=1),
        draw_record(HOSTILE[0], 6, 9, 22.5, seed=2),
        draw_record(HOSTILE[1], 6, 9, 18.25, seed=3),
        replace(none, images=tuple(replace(image, figure=None) for image in none.images)),
    ]


def make_prediction(folder: Path, n_images: int, n_judged: int | None = None) -> Path:
    """The page of a prediction; the first 30 images have pictures."""
    rng = np.random.default_rng(5)
    scores = np.sort(rng.gamma(8, 2, n_images))[::-1]
    images = []
    for i, score in enumerate(scores):
        name = HOSTILE[i] if i < len(HOSTILE) else f"line {i % 3}/{i:05d}.png"
        has_picture = i < 30
        images.append(
            GalleryImage(
                name,
                float(score),
                float(1 / (2 + score)),
                picture=f"overlays/{i}.png" if has_picture else None,
                original=f"originals/{i}.jpg" if has_picture else None,
            )
        )
        if has_picture:
            draw_figure(folder / f"overlays/{i}.png", (40, 30))
            draw_figure(folder / f"originals/{i}.jpg", (40, 30), 90)
    for name in ("scores.csv", "regions.csv", "failed.csv", "skipped.csv", "summary.json"):
        (folder / name).write_text("{}")
    facts = {
        "n_judged": n_judged or n_images,
        "n_defective": int((scores > 20).sum()),
        "n_failed": 2,
        "image_threshold": 20.0,
        "false_alarm_rate": 0.05,
        "requested_false_alarm_rate": 0.01,
    }
    page = render_prediction_page(f"PaDiM {HOSTILE[0]}", [], "python predict.py", facts, images)
    return _write(folder / "index.html", page)


def make_seeds(folder: Path) -> Path:
    """The page of three seeds, beside folders of their runs."""
    rows = {
        seed: result_rows([draw_record(name, 3, 3, seed=seed) for name in ("bottle", HOSTILE[0])])
        for seed in range(3)
    }
    names = {seed: f"run_seed{seed}" for seed in rows}
    folder.mkdir(parents=True)
    write_seed_tables(folder, f"run {HOSTILE[1]}", "resnet18_rd100", rows, [], None, COMMAND, names)
    return folder / "index.html"


def make_reproduction(folder: Path) -> Path:
    """The page of two tables of which one configuration was run on two classes."""
    folder.mkdir(parents=True)
    results = [
        Result("mvtec", name, configuration, seed, {"pixel_auroc": 0.9 + seed / 50, "pro": 0.8})
        for name in ("bottle", HOSTILE[0])
        for configuration in ("resnet18_rd100", "resnet18_pca100", "resnet18_layer1")
        for seed in (0, 1)
    ]
    facts = Facts(("layers", "reduction"), COMMAND, 2, [], {"torch": "2"})
    write_page(folder, results, facts)
    for name in ("tables.md", "tables.csv"):
        (folder / name).write_text("")
    for name in ("layers.png", "reduction.png"):
        draw_figure(folder / name, (800, 300))
    return folder / "index.html"


def make_runs(folder: Path) -> Path:
    """The page of four runs, of which three are on one data set."""
    for index, (name, data) in enumerate(
        (
            ("resnet18_rd100", "/data/a"),
            ("b", "/data/a"),
            (HOSTILE[0], None),
            ("resnet18_so100", "/data/a"),
        )
    ):
        records = [draw_record(one, 4, 4, seed=10 + index) for one in ("bottle", HOSTILE[1])]
        write_summary(folder / name, records, data, index)
    (folder / "broken").mkdir()
    (folder / "broken/results.json").write_text('{"results": 3}')
    assert write_runs_page(folder)
    return folder / "index.html"


def write_summary(
    folder: Path, records: Sequence[ClassRecord], data: str | None, seed: int
) -> None:
    """What ``results.json`` of a run holds for the page of all runs."""
    content = {
        "warnings": ["DEMO IMAGES: drawn"] if data is None else [],
        "settings": {"dataset": "mvtec", "rd_version": None, "seed": seed, "crop": 224},
        "options": {"data_path": data},
        "program": {"date": "2026-01-02T03:04:05+00:00"},
        "results": [row.to_json() for row in result_rows(records)],
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "index.html").write_text("<!DOCTYPE html><title>a run</title>")


def _write(path: Path, page: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
