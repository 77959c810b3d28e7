"""PaDiM as one object: fit on normal images of one class, score and judge images, save, load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from padim.anomaly_map import AnomalyMap, image_scores
from padim.backbones import Backbone, Float32Module
from padim.batches import (
    FeatureMaps,
    embeddings_of,
    even_batches,
    feature_maps_of,
    maps_of,
    small_parts,
)
from padim.calibration import Calibration, check_rate, is_above
from padim.config import PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.errors import ImageError, ModelError, NotFittedError, PaDiMError
from padim.fitting import GaussianLearner
from padim.gaussian import TILE, PatchGaussian
from padim.parallel import fork_safe, fork_safe_steps
from padim.preprocessing import Preprocessing
from padim.reading.images import Images, ImageSource, OneImage, list_images
from padim.reduction import Reduction, draw_reduction, learn_components
from padim.region_of_interest import RegionOfInterest, check_shape, read_region
from padim.regions import Region, RegionFinder, check_min_area

if TYPE_CHECKING:
    from padim.parallel.process_group import ProcessGroup
    from padim.parallel.sharded_gaussian import ShardedGaussian, ShardedLearner

LEAVE_ONE_OUT_BATCH = 16  # maps made at a time

Scores = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result for one image.

    Attributes:
        path: the image's file; None for an image in memory.
        score: image score, the maximum of the anomaly map.
        p_value: conformal p-value, low if the image is unlikely to be normal; None for a model of
            two images, which cannot be calibrated.
        is_defective: whether ``score`` > ``threshold``; None without calibration.
        threshold: the image threshold at the false positive rate asked for; None likewise.
        anomaly_map: float32 (crop, crop), smoothed Mahalanobis distances (not squared) at every
            pixel of the crop, on the device of the model.
        size: width and height in pixels of the image, upright.
    """

    path: Path | None
    score: float
    p_value: float | None
    is_defective: bool | None
    threshold: float | None
    anomaly_map: torch.Tensor
    size: tuple[int, int]
    _finder: RegionFinder | None = field(repr=False)

    def regions(self, min_area: int = 1) -> tuple[Region, ...] | None:
        """Where the defect is: connected regions above the pixel threshold, highest peak first.

        The pixel threshold is at the false positive rate asked for: of the pixels of normal images
        that share is above it, so that normal images have regions too.

        Args:
            min_area: smallest area in pixels of the anomaly map; smaller regions are left out.

        Returns:
            The regions, in pixels of the image as it was given; None without calibration.

        Raises:
            ModelError: ``min_area`` is not a whole number from 1 up.
        """
        check_min_area(min_area)
        if self._finder is None:
            return None
        return self._finder.find(self.anomaly_map.cpu().numpy(), self.size, min_area)


class PaDiM(Float32Module):
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

    @fork_safe()
    def __init__(
        self, backbone: Backbone | str = "resnet18", config: PaDiMConfig | None = None
    ) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone):
            backbone = Backbone(backbone)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.config = backbone.config() if config is None else config
        self.preprocessing = Preprocessing.of_config(self.config)
        self.grid = backbone.grid(self.config.crop)
        self.anomaly_map = self._anomaly_map()
        self.embedding: PatchEmbedding | None
        self.gaussian: PatchGaussian | ShardedGaussian | None
        self.calibration: Calibration | None
        self.region: RegionOfInterest | None
        for name in ("embedding", "gaussian", "calibration", "region"):
            self.register_module(name, None)
        reduction = draw_reduction(self.config, sum(backbone.channels))
        self.embedding = None if reduction is None else self._embedding(reduction)
        self.to(self.device)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model computes; ``to`` moves it."""
        return self.backbone.device

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
    def forward(self, crops: torch.Tensor) -> Scores:
        """Score crops.

        Args:
            crops: uint8 (B, 3, crop, crop), as ``preprocessing`` makes them.

        Returns:
            Anomaly maps, float32 (B, crop, crop), and image scores, float32 (B,), on the model's
            device: smoothed Mahalanobis distances (not squared). Normal images score low.

        Raises:
            NotFittedError: the model has not been fitted.
            ImageError: the crops have the wrong type or size.
            PaDiMError: a score is not finite.
        """
        self._check_fitted()
        self._check_crops(crops)
        scored = list(self.score_features(self.feature_batches([crops])))
        if not scored:
            side = self.config.crop
            empty = torch.zeros(0, side, side, dtype=torch.float32, device=self.device)
            return empty, empty.new_zeros(0)
        maps, scores = zip(*scored, strict=True)
        return torch.cat(maps), torch.cat(scores)

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

    # Lower-level steps, for callers that read images and share feature maps themselves.

    @fork_safe()
    def fit_crops(
        self,
        batches: Iterable[torch.Tensor],
        n_images: int,
        is_calibrated: bool = True,
        group: ProcessGroup | None = None,
        region: torch.Tensor | None = None,
    ) -> PaDiM:
        """``fit`` on crops.

        Args:
            batches: uint8 crops (B, 3, crop, crop).
            n_images: N, of all batches and processes together.
            is_calibrated: whether to compute leave-one-out scores.
            group: the processes that fit together, each on its shard of the images; None for one.
            region: bool (crop, crop), true where to look; None for everywhere.

        Raises:
            ImageError, ModelError: as ``fit``.
        """
        features: Iterable[FeatureMaps] = self.feature_batches(batches)
        if self.config.is_learned:
            features = list(features)  # gone through twice
        return self.fit_features(features, n_images, is_calibrated, group, region=region)

    def feature_batches(self, batches: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """The feature maps of many crops, in order, in even batches however the crops come.

        Raises:
            ImageError: crops have the wrong type or size.
        """
        return map(self.features, even_batches(map(self._check_crops, batches)))

    @fork_safe()
    @torch.no_grad()
    def fit_features(
        self,
        features: Iterable[FeatureMaps],
        n_images: int,
        is_calibrated: bool = True,
        group: ProcessGroup | None = None,
        reduction: Reduction | None = None,
        region: torch.Tensor | None = None,
    ) -> PaDiM:
        """``fit`` on feature maps, for a caller that fits several models to the same images.

        Args:
            features: batches of feature maps; iterated twice if the reduction is learned.
            n_images: as in ``fit_crops``.
            is_calibrated: as in ``fit_crops``.
            group: as in ``fit_crops``.
            reduction: one that the caller has learned already, for a configuration with one that
                is learned; None to learn it.
            region: as in ``fit_crops``.

        Raises:
            ModelError: as ``fit``; or a reduction is given that the configuration draws.
        """
        looked_at = self._region(region)
        embedding = self._fit_embedding(features, group, reduction, looked_at)
        anomaly_map, epsilon = self.anomaly_map, self.config.epsilon
        if looked_at is not self.region:
            anomaly_map = self._anomaly_map(looked_at)
        positions = prod(self.grid) if looked_at is None else len(looked_at.positions)
        learner: GaussianLearner | ShardedLearner
        if group is None:
            learner = GaussianLearner(n_images, epsilon, is_calibrated)
        else:
            learner = group.learner(n_images, positions, epsilon, is_calibrated)
        for feature_maps in features:  # of which a process may have none
            for part in small_parts(feature_maps, embedding.dim):
                learner.update(embedding.patches(part))
        gaussian = learner.finish()
        left_out, calibration = learner.leave_one_out, None
        if left_out is not None:
            calibration = self._calibrate(left_out, anomaly_map, looked_at)
        self.embedding, self.gaussian, self.calibration = embedding, gaussian, calibration
        self.anomaly_map, self.region = anomaly_map, looked_at
        return self

    @fork_safe()
    @torch.no_grad()
    def features(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps of a batch, which goes through the network in parts."""
        return feature_maps_of(self.backbone, self._check_crops(crops))

    @fork_safe()
    @torch.no_grad()
    def principal_components(
        self,
        features: Iterable[FeatureMaps],
        dim: int,
        group: ProcessGroup | None = None,
        region: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The first ``dim`` principal components of all channels, float32 (C, dim).

        Args:
            features: batches of feature maps of the training images.
            dim: components kept.
            group: as in ``fit_crops``.
            region: as in ``fit_crops``.
        """
        n_channels = sum(self.backbone.channels)
        embedding = self._embedding(Reduction(torch.arange(n_channels)), self._region(region))
        return learn_components(map(embedding.patches, features), dim, n_channels, group)

    def score_features(self, batches: Iterable[FeatureMaps]) -> Iterator[Scores]:
        """Score batches of feature maps; every process must call it if Gaussians are sharded.

        Raises:
            NotFittedError: the model has not been fitted.
            PaDiMError: a score is not finite.
        """
        self._check_fitted()
        return fork_safe_steps(self._scored(batches))

    @torch.no_grad()
    def _scored(self, batches: Iterable[FeatureMaps]) -> Iterator[Scores]:
        assert self.embedding is not None and self.gaussian is not None
        embedding = self.embedding
        embedded = (embeddings_of(embedding, feature_maps) for feature_maps in batches)
        n_scored = 0
        for distances in self.gaussian.batches(embedded):
            maps = maps_of(self.anomaly_map, distances)
            scores = image_scores(maps)
            for index, score in enumerate(scores.tolist()):
                if not math.isfinite(score):
                    raise PaDiMError(
                        f"the score of image {n_scored + index + 1} is {score}: the values of the "
                        "model are too large for float32; fit it again"
                    )
            n_scored += len(scores)
            yield maps, scores

    @property
    def is_gathered(self) -> bool:
        """Whether this process holds the Gaussians of all positions."""
        return isinstance(self.gaussian, PatchGaussian)

    def gather(self) -> None:
        """Collect all Gaussians on rank 0, which can then ``save`` them; other ranks hold none."""
        self._check_fitted()
        assert self.gaussian is not None
        self.gaussian = self.gaussian.gathered()

    def _read(self, source: ImageSource) -> tuple[torch.Tensor, tuple[int, int]]:
        """The crop of an image, and the width and height of all of it."""
        pixels = source.read(self.config.bits)
        return self.preprocessing.crop_of(pixels), (pixels.shape[1], pixels.shape[0])

    def _region(self, mask: torch.Tensor | None) -> RegionOfInterest | None:
        side = self.config.crop
        if mask is None:
            return None
        if mask.dtype != torch.bool or mask.shape != (side, side):
            raise ModelError(
                f"region: {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool "
                f"({side}, {side}), the mask's crop; fit takes masks of any size",
                "region",
            )
        return RegionOfInterest(mask, self.grid).to(self.device)

    def _look_at(self, mask: torch.Tensor | None) -> None:
        """Set the region of a model whose Gaussians are set next."""
        self.region = self._region(mask)
        self.anomaly_map = self._anomaly_map(self.region)

    def _anomaly_map(self, region: RegionOfInterest | None = None) -> AnomalyMap:
        config = self.config
        return AnomalyMap(self.grid, config.crop, config.sigma, region).to(self.device)

    def _embedding(
        self, reduction: Reduction, region: RegionOfInterest | None = None
    ) -> PatchEmbedding:
        positions = None if region is None else region.positions
        return PatchEmbedding(self.backbone.channels, reduction, positions).to(self.device)

    def _fit_embedding(
        self,
        features: Iterable[FeatureMaps],
        group: ProcessGroup | None,
        reduction: Reduction | None,
        region: RegionOfInterest | None,
    ) -> PatchEmbedding:
        """The embedding of a model to be fitted, with a reduction as drawn, or learned."""
        if not self.config.is_learned:
            if reduction is not None:
                raise ModelError(
                    f"reduction {self.config.reduction!r} is drawn, not learned; give no other"
                )
            assert self.embedding is not None
            reduction = Reduction(self.embedding.ids, self.embedding.projection)
        elif reduction is None:
            assert self.config.embedding_dim is not None
            mask = None if region is None else region.mask
            components = self.principal_components(features, self.config.embedding_dim, group, mask)
            reduction = Reduction(projection=components)
        return self._embedding(reduction, region)

    def _calibrate(
        self, left_out: torch.Tensor, anomaly_map: AnomalyMap, region: RegionOfInterest | None
    ) -> Calibration:
        """From leave-one-out distances (n, P); pixels outside the region do not count."""
        batches = left_out.to(self.device).split(LEAVE_ONE_OUT_BATCH)
        maps = (maps_of(anomaly_map, batch) for batch in batches)
        n_pixels = self.config.crop**2
        if region is not None:
            inside = region.mask.flatten().nonzero()[:, 0]
            maps = (batch.flatten(1)[:, None, inside] for batch in maps)
            n_pixels = len(inside)
        return Calibration.from_maps(maps, len(left_out) * n_pixels)

    def _check_fitted(self) -> None:
        if self.gaussian is None:
            raise NotFittedError("the model is not fitted; call fit(images) or PaDiM.load(path)")

    def _check_crops(self, crops: torch.Tensor) -> torch.Tensor:
        side = self.config.crop
        if not isinstance(crops, torch.Tensor):
            raise ImageError(f"crops are of type {type(crops).__name__}; expected a torch.Tensor")
        if crops.dtype != torch.uint8 or tuple(crops.shape[1:]) != (3, side, side):
            raise ImageError(
                f"crops are {crops.dtype} of shape {tuple(crops.shape)}; expected torch.uint8 "
                f"(B, 3, {side}, {side}); fit, score and predict take images of any size"
            )
        return crops

    def get_extra_state(self) -> dict[str, float]:
        """What else the tensors of a ``state_dict`` depend on; another model refuses them."""
        names = ("resize", "crop", "epsilon", "sigma")
        return {name: getattr(self.config, name) for name in names}

    def set_extra_state(self, state: dict[str, float]) -> None:
        """Nothing is taken over: the values have been compared before."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Make the parts that a fitted model has, of the right shapes, before they are filled."""

        def like(name: str) -> torch.Tensor | None:
            tensor = state_dict.get(prefix + name)
            return None if tensor is None else torch.empty_like(tensor, device=self.device)

        stored = state_dict.get(f"{prefix}_extra_state")
        if stored is not None and stored != self.get_extra_state():
            raise ModelError(f"the state is of {stored}, this model of {self.get_extra_state()}")
        if not any(name.startswith(f"{prefix}gaussian.") for name in state_dict):
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
            return
        ids, projection = state_dict.get(f"{prefix}embedding.ids"), like("embedding.projection")
        mask = state_dict.get(f"{prefix}region.mask")
        self._look_at(None if mask is None else mask.clone())
        if ids is not None or projection is not None:  # the ids decide how many a layer has
            reduction = Reduction(None if ids is None else ids.clone(), projection)
            self.embedding = self._embedding(reduction, self.region)
        mean, factor = like("gaussian.mean"), like("gaussian.factor")
        self.gaussian = self.calibration = None
        if mean is not None and factor is not None:
            self.gaussian = PatchGaussian(mean, factor, False, self.config.epsilon)
        scores, levels = like("calibration.image_scores"), like("calibration.pixel_levels")
        if scores is not None and levels is not None:
            self.calibration = Calibration(scores, levels)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
