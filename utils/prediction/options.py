"""The options of ``predict.py`` and ``export.py``, as ``utils.cli`` makes them.

Imports neither argparse nor PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PredictOptions:
    """The options of ``predict.py``. Each field has its option's name.

    Attributes:
        model: file of a fitted model.
        weights: ``imagenet``, ``random`` or the path of a file; None for those of the model.
        input: images, and folders that are searched for images.
        save_path: folder that results go to.
        false_alarm_rate: false positive rate asked for, above 0 and below 1.
        maps: ``all`` to write anomaly maps as 16-bit PNG, ``none``, or ``mvtec_ad2`` to write files
            for its evaluation server.
        map_size: ``original`` or ``crop``, what such a map covers.
        npy: whether the maps of the crops are also written as float32 ``.npy``.
        figures: overlays to write; None for all.
        min_area: smallest area of a region, in pixels of the map.
        batch_size: images per batch.
        num_workers: decoding processes; 0 decodes in the main process.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        overwrite: whether an earlier prediction in ``save_path`` is replaced.
        watch: whether to judge images as they arrive, until stopped.
    """

    model: Path
    weights: str | None
    input: tuple[Path, ...]
    save_path: Path
    false_alarm_rate: float
    maps: str
    map_size: str
    npy: bool
    figures: int | None
    min_area: int
    batch_size: int
    num_workers: int
    device: str
    overwrite: bool
    watch: bool


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``export.py``. Each field has its option's name.

    Attributes:
        model: file of a fitted model.
        weights: ``imagenet``, ``random`` or the path of a file; None for those of the model.
        output: the ``.onnx`` file to write.
        input_type: ``image``, ``uint8`` or ``normalised``, the input of the graph.
        false_alarm_rate: false positive rate asked for, above 0 and below 1.
        float16: whether large tensors are stored as float16.
        verify: images, and folders of images, for comparing the graph with the model.
        overwrite: whether an existing file is replaced.
    """

    model: Path
    weights: str | None
    output: Path
    input_type: str
    false_alarm_rate: float
    float16: bool
    verify: tuple[Path, ...]
    overwrite: bool
