"""PaDiM as one object: fit on normal images of one class, score and judge images, save, load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from padim.backbones import Backbone
from padim.calibration import check_rate, is_above
from padim.crop_model import CropModel, Scores
from padim.gaussian import TILE
from padim.parallel import fork_safe, fork_safe_steps
from padim.prediction import Prediction
from padim.reading.images import Images, ImageSource, OneImage, list_images
from padim.region_of_interest import check_shape, read_region
from padim.regions import RegionFinder


class PaDiM(CropModel):
    """PaDiM for one class.

    An image has one score: on a CPU, the last digit of its map does not depend on the batch, on its
    neighbours in it, on the method that scores it, or on the number of threads up to 7. With more
    threads, or on another device, processor or version of PyTorch, the last digits may differ.

    Args:
        backbone: a network, or the name of one with its ImageNet weights. The models of many
            classes may share one; ``to`` then moves it for all of them, so move all of them.
        config: everything else; None for the paper's configuration of the backbone or, for one of
            timm, the default one at the network's own image size.

    Attributes:
        grid: (H, W) of the positions.
        embedding: from feature maps to patch embeddings; with ``pca`` None until ``fit``.
        gaussian: the Gaussians learned; None until ``fit``.
        calibration: leave-one-out scores of the training images; None until ``fit``, and if there
            are only two images.
        region: where the model looks, as given to ``fit``; None for everywhere.

    Raises:
        ModelError: an unknown backbone, or more channels wanted than its layers have.

    Example:
        >>> model = PaDiM(Backbone("resnet18", weights="random"))  # random: to try the code only
        >>> images = torch.randint(0, 256, (4, 3, 240, 320), dtype=torch.uint8)
        >>> maps, scores = model.fit(images).score(images[:2])
        >>> maps.shape, scores.shape
        (torch.Size([2, 224, 224]), torch.Size([2]))
        >>> [result.is_defective for result in model.predict(images[0])]
        [False]
    """

    def fit(self, images: Images, region: OneImage | None = None) -> PaDiM:
        """Learn what normal images look like. Fitting again starts afresh.

        If it fails, the model stays as it was.

        Args:
            images: at least 2 normal images: a folder, paths, PIL images, uint8 arrays (h, w, 3) or
                uint8 tensors (N, 3, h, w), of any size.
            region: a mask, white where to look, of the images' shape and any size: a file, or as
                one of ``images``, or bool (h, w). Outside nothing is learned, and maps are 0. None
                for everywhere.

        Raises:
            ImageError: an image cannot be read, or has the wrong type or shape.
            ModelError: fewer than 2 images, or a mask that cannot be used.
        """
        sources = list_images(images)
        mask = None if region is None else read_region(region)

        def crop_of(source: ImageSource) -> torch.Tensor:
            crop, size = self._read(source)
            if mask is not None:
                check_shape(mask, size, f"image {source.path or 'in memory'}")
            return crop[None]

        looked_at = None if mask is None else self.preprocessing.crop_of_mask(mask)
        return self.fit_crops(map(crop_of, sources), len(sources), region=looked_at)

    def predict(self, images: Images, false_positive_rate: float = 0.01) -> Iterator[Prediction]:
        """Score images and decide which are defective. Files are read a batch at a time.

        Args:
            images: as for ``fit``.
            false_positive_rate: share of normal images that may be flagged as defective; at least
                1 / (n + 1) for n training images, whatever is asked for.

        Returns:
            A ``Prediction`` for each image, in order.

        Raises:
            NotFittedError: the model has not been fitted.
            ImageError: an image cannot be read, or has the wrong type or shape.
            ModelError: the rate is out of range.
        """
        self._check_fitted()
        check_rate(false_positive_rate)
        return fork_safe_steps(self._predictions(list_images(images), false_positive_rate))

    def _predictions(self, sources: list[ImageSource], rate: float) -> Iterator[Prediction]:
        threshold = finder = None
        if self.calibration is not None:
            threshold = self.calibration.image_threshold(rate)
            pixel_threshold = self.calibration.pixel_threshold(rate)
            finder = RegionFinder(self.calibration, pixel_threshold, self.preprocessing)
        for start in range(0, len(sources), TILE):
            batch = sources[start : start + TILE]
            crops, sizes = zip(*map(self._read, batch), strict=True)
            maps, scores = self(torch.stack(crops))
            p_values: Sequence[float | None] = [None] * len(batch)
            if self.calibration is not None:
                p_values = self.calibration.p_values(scores).tolist()
            for source, size, anomaly_map, score, p_value in zip(
                batch, sizes, maps, scores.tolist(), p_values, strict=True
            ):
                flag = None if threshold is None else is_above(score, threshold)
                judged = (source.path, score, p_value, flag, threshold, anomaly_map.clone())
                yield Prediction(*judged, size, finder)

    @fork_safe()
    def score(self, images: Images) -> Scores:
        """Score images of any size; ``forward`` of their crops.

        Args:
            images: as for ``fit``.

        Returns:
            Anomaly maps, float32 (N, crop, crop), and image scores, float32 (N,).

        Raises:
            NotFittedError, ImageError: as ``predict``.
        """
        self._check_fitted()
        crops = [self._read(source)[0] for source in list_images(images)]
        side = self.config.crop
        return self(
            torch.stack(crops) if crops else torch.empty(0, 3, side, side, dtype=torch.uint8)
        )

    @fork_safe()
    def save(self, path: str | Path, is_half: bool = False) -> None:
        """Write everything that scoring needs, except the backbone's weights (their checksum only).

        Args:
            path: the file. It appears under its name when it is complete.
            is_half: whether the factors are stored as float16, in half the space.

        Raises:
            NotFittedError: the model has not been fitted.
            ModelError: float16 cannot hold the factors.
        """
        from padim.storage.model_file import save_model

        self._check_fitted()
        save_model(self, Path(path), is_half)

    @classmethod
    @fork_safe()
    def load(
        cls,
        path: str | Path,
        backbone: Backbone | None = None,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> PaDiM:
        """Read a model that ``save`` wrote.

        Args:
            path: the file.
            backbone: the network that it was fitted with; None to load it.
            weights: ``imagenet``, ``random`` or a file for that; None for those that the model
                names.
            device: where the model computes; None for where the backbone is.

        Raises:
            ModelError: the file is not a model, the weights file no longer exists, or the backbone
                differs from the one that the model was fitted with.
        """
        from padim.storage.model_file import load_model

        where = None if device is None else torch.device(device)
        return load_model(Path(path), backbone, None if weights is None else str(weights), where)

    def _read(self, source: ImageSource) -> tuple[torch.Tensor, tuple[int, int]]:
        """The crop of an image, and the width and height of all of it."""
        pixels = source.read(self.config.bits)
        return self.preprocessing.crop_of(pixels), (pixels.shape[1], pixels.shape[0])
