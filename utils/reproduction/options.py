"""The options of ``reproduce.py``, as ``utils.cli`` makes them. Imports no argparse or PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReproduceOptions:
    """What the command line of ``reproduce.py`` says. Each field has its option's name.

    Attributes:
        data_path: folder of MVTec AD's classes; None if only ``stc`` is run.
        stc_path: folder of ShanghaiTech Campus; None if it is not run.
        save_path: folder of tables and records.
        classes: classes of MVTec AD to run; None for all.
        tables: names from ``utils.reproduction.plan.TABLES``.
        backbones: names from ``utils.reproduction.plan.BACKBONES``.
        weights: ``imagenet``, ``random`` or the path of a file, for each of ``backbones``.
        draws: random draws that a table's means are over.
        batch_size: images per batch.
        num_workers: decoding processes; 0 decodes in the main process.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        image_cache: folder of decoded images; None keeps none.
    """

    data_path: Path | None
    stc_path: Path | None
    save_path: Path
    classes: tuple[str, ...] | None
    tables: tuple[str, ...]
    backbones: tuple[str, ...]
    weights: Mapping[str, str]
    draws: int
    batch_size: int
    num_workers: int
    device: str
    image_cache: Path | None

    @property
    def is_untrained(self) -> bool:
        """Whether the networks have random weights; then all of them have."""
        return "random" in self.weights.values()
