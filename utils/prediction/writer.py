"""The files of one image: its anomaly map and its overlay."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.loading.unlabelled import FoundImage
from datasets.types import DataError
from padim.reading.image_file import read_image
from padim.storage.files import written_whole
from utils.prediction.judge import Judge, Judgement
from utils.prediction.options import PredictOptions
from utils.prediction.outputs import output_path
from utils.prediction.overlay import LONG_SIDE, Placement, draw_overlay, map_levels
from utils.prediction.png import encode_png
from utils.prediction.submission import write_submission

# Errors of one image, not of the disk: its name, or another image with the name of its folder.
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ)


@dataclass(frozen=True)
class ImageWriter:
    """Writes the map and the overlay of an image; several threads may call it.

    Attributes:
        options: the outputs to write, and their folder.
        placement: of the crop in an image.
        judge: for the unit of the maps.
        bits: as in ``PaDiMConfig``.
        renamed: the new names from ``unlike_names``.
    """

    options: PredictOptions
    placement: Placement
    judge: Judge
    bits: int
    renamed: Mapping[str, str] = field(default_factory=dict)

    def write(
        self, image: FoundImage, item: Judgement, crop_map: np.ndarray, is_drawn: bool
    ) -> str | None:
        """Write the outputs that the options name.

        Args:
            image: the image.
            item: its judgement, with its size and regions.
            crop_map: float32 (crop, crop), Mahalanobis distances.
            is_drawn: whether it gets an overlay.

        Returns:
            The reason of a failure; None if there is none.
        """
        units = crop_map / self.judge.unit
        try:
            whole = self._write_maps(image, item.size, crop_map, units)
            if is_drawn:
                self._write_overlay(image, item, units, whole)
        except DataError as error:  # it could be read before: it was removed since
            return str(error)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return f"its map or overlay cannot be written ({error.strerror})"
        return None

    def overlay_path(self, name: str) -> Path:
        """The overlay file of an image, whether it exists or not."""
        return self._path("overlays", name, ".png")

    def original_path(self, name: str) -> Path:
        """The original image in the size of its overlay, for the page."""
        return self._path("originals", name, ".jpg")

    def remove_pictures(self, name: str) -> None:
        """Remove the pictures of an image that others have displaced from the page."""
        self.overlay_path(name).unlink(missing_ok=True)
        self.original_path(name).unlink(missing_ok=True)

    def _path(self, kind: str, name: str, suffix: str) -> Path:
        return output_path(self.options.save_path / kind, self.renamed.get(name, name), suffix)

    def _write_maps(
        self, image: FoundImage, size: tuple[int, int], crop_map: np.ndarray, units: np.ndarray
    ) -> np.ndarray | None:
        """Write the maps; returns the map placed in the image if one of them needs it."""
        maps, is_crop = self.options.maps, self.options.map_size == "crop"
        whole = None
        if maps == "mvtec_ad2" or (maps == "all" and not is_crop):
            whole = self.placement.on_image(units, *size)
        if maps == "all":
            shown = units if whole is None else whole
            _save_png(map_levels(shown), self._path("maps", image.name, ".png"))
        elif whole is not None:
            has_threshold = self.judge.thresholds is not None
            write_submission(self.options.save_path, image, whole, has_threshold)
        if self.options.npy:
            path = self._path("maps", image.name, ".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial, partial.open("wb") as file:
                np.save(file, crop_map)
        return whole

    def _write_overlay(
        self, image: FoundImage, item: Judgement, units: np.ndarray, whole: np.ndarray | None
    ) -> None:
        pixels = read_image(image.path, self.bits)
        _save_original(pixels, self.original_path(image.name))
        overlay = draw_overlay(pixels, units, self.placement, item.regions, whole)
        _save_png(np.asarray(overlay), self.overlay_path(image.name))


def _save_original(pixels: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        picture.save(partial, format="JPEG", quality=90)


def _save_png(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_bytes(encode_png(pixels))
