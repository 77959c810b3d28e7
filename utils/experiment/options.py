"""The options of runs, as ``utils.cli`` makes them. Imports neither argparse nor PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """The options of a ``main_*.py`` script. Each field has its option's name.

    Attributes:
        data_path: folder of the data set; None for the demo set.
        dataset: its layout, a key of ``datasets.layouts.catalogue.LAYOUTS``.
        rd_version: random version; None unless ``dataset`` is ``rd_mvtec``.
        save_path: folder that results go to.
        classes: classes to run; None for all.
        resize: side in pixels of the resized image.
        crop: side in pixels of the centre crop, at most ``resize``; None for the default of each
            class.
        bits: number of bits that 16-bit images use, 8 to 16.
        region: file of a mask, white inside; ``none`` for everywhere; None for the masks in the
            folders of the classes, if there are any.
        weights: ``imagenet``, ``random`` or the path of a file.
        layers: feature layers; None for the paper's.
        network_precision: one of ``padim.config.PRECISIONS``.
        reduction: how channels are reduced.
        embedding_dim: channels kept; None with reduction ``none``.
        seed: seed of the channels drawn.
        seeds: several seeds, a run for each; None for ``seed`` alone.
        epsilon: added to the diagonal of every covariance.
        sigma: standard deviation of the map's smoothing, in pixels.
        false_alarm_rate: false positive rate of the thresholds, above 0 and below 1.
        batch_size: images per batch.
        num_workers: decoding processes; 0 decodes in the main process.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        image_cache: folder of decoded images; None keeps none.
        figures: figures per class; None for all.
        model_precision: ``float32`` or ``float16``, how models are stored.
        metrics: columns of the tables, keys of ``utils.evaluation.metric_names.METRICS``.
        overwrite: whether finished classes are run again.
    """

    data_path: Path | None
    dataset: str
    rd_version: int | None
    save_path: Path
    classes: tuple[str, ...] | None
    resize: int
    crop: int | None
    bits: int
    region: str | None
    weights: str
    layers: tuple[str, ...] | None
    network_precision: str
    reduction: str
    embedding_dim: int | None
    seed: int
    seeds: tuple[int, ...] | None
    epsilon: float
    sigma: float
    false_alarm_rate: float
    batch_size: int
    num_workers: int
    device: str
    image_cache: Path | None
    figures: int | None
    model_precision: str
    metrics: tuple[str, ...]
    overwrite: bool


@dataclass(frozen=True)
class CompareOptions:
    """The options of ``compare.py``.

    Attributes:
        first: folder of a run.
        second: folder of another.
        metrics: names from ``METRICS``, the columns.
    """

    first: Path
    second: Path
    metrics: tuple[str, ...]
