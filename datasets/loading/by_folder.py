"""Preprocessing that differs between the classes of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from padim.preprocessing import Preprocessing


@dataclass(frozen=True)
class FolderPreprocessing(Preprocessing):
    """Resize all images alike, and crop each by its folder.

    Attributes:
        crop: the largest of all.
        crops: folder and side of the crop.
    """

    crops: tuple[tuple[Path, int], ...] = ()

    def of(self, path: Path) -> Preprocessing:
        crop = next(crop for folder, crop in self.crops if folder in path.parents)
        return Preprocessing(self.resize, crop, self.bits)
