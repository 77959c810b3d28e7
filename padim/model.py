"""PaDiM as one object: fit on normal images of one class, score and judge images, save, load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from padim.anomaly_map import AnomalyMap, image_scores
from padim.backbones import Backbone
from padim.calibration import Calibration, check_rate, is_above
from padim.config import PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.errors import ImageError, ModelError, NotFittedError
from padim.fitting import ONE_PROCESS, GaussianLearner, OneProcess
from padim.gaussian import PatchGaussian
from padim.images import Images, ImageSource, list_images
from padim.parallel import for_each_block
from padim.preprocessing import Preprocessing
from padim.reduction import Reduction, draw_reduction, fit_pca

if TYPE_CHECKING:
    from padim.parallel.process_group import ProcessGroup
    from padim.parallel.sharded_gaussian import ShardedGaussian, ShardedLearner

LEAVE_ONE_OUT_BATCH = 16  # maps made at a time
BATCH = 8  # images seen at a time; more take memory, and on a CPU no less time
EMBEDDING_BYTES = 16 * 2**20  # larger ones come as fresh pages each time, which takes longer
BYTES_PER_PIXEL = 80  # of an image: what its feature maps take on their way through a network

FeatureMaps = Sequence[torch.Tensor]
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
    """

    path: Path | None
    score: float
    p_value: float | None
    is_defective: bool | None
    threshold: float | None
    anomaly_map: torch.Tensor


class PaDiM(nn.Module):
    """PaDiM for one class.

    Args:
        backbone: a network, or the name of one with its ImageNet weights; may be shared by the
            models of many classes.
        config: everything else; None for the paper's configuration of the backbone or, for one of
            timm, the default one at the network's own image size.

    Attributes:
        grid: (H, W) of the positions.
        embedding: from feature maps to patch embeddings; with ``pca`` None until ``fit``.
        gaussian: the Gaussians learned; None until ``fit``.
        calibration: leave-one-out scores of the training images; None until ``fit``, and if there
            are only two images.

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
        self.anomaly_map = AnomalyMap(self.grid, self.config.crop, self.config.sigma)
        self.embedding: PatchEmbedding | None
        self.gaussian: PatchGaussian | ShardedGaussian | None
        self.calibration: Calibration | None
        for name in ("embedding", "gaussian", "calibration"):
            self.register_module(name, None)
        self._set_reduction(draw_reduction(self.config, sum(backbone.channels)))
        self.to(self.device)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model computes; ``to`` moves it."""
        return self.backbone.device

    def fit(self, images: Images) -> PaDiM:
        """Learn what normal images look like. Fitting again starts afresh.

        Args:
            images: at least 2 normal images: a folder, paths, PIL images, uint8 arrays (h, w, 3) or
                uint8 tensors (N, 3, h, w), of any size.

        Raises:
            ImageError: an image cannot be read, or has the wrong type or shape.
            ModelError: fewer than 2 images.
        """
        sources = list_images(images)
        crops = (
            self.preprocessing.crop_of(source.read(self.config.bits))[None] for source in sources
        )
        return self.fit_crops(crops, len(sources))

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
        return self._predictions(list_images(images), false_positive_rate)

    def _predictions(self, sources: list[ImageSource], rate: float) -> Iterator[Prediction]:
        for start in range(0, len(sources), BATCH):
            batch = sources[start : start + BATCH]
            crops = [self.preprocessing.crop_of(source.read(self.config.bits)) for source in batch]
            maps, scores = self(torch.stack(crops))
            p_values: Sequence[float | None] = [None] * len(batch)
            threshold = None
            if self.calibration is not None:
                p_values = self.calibration.p_values(scores).tolist()
                threshold = self.calibration.image_threshold(rate)
            for source, one, score, p in zip(batch, maps, scores.tolist(), p_values, strict=True):
                flag = None if threshold is None else is_above(score, threshold)
                yield Prediction(source.path, score, p, flag, threshold, one.clone())

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
        crops = [
            self.preprocessing.crop_of(source.read(self.config.bits))
            for source in list_images(images)
        ]
        side = self.config.crop
        return self(torch.stack(crops) if crops else torch.empty(0, 3, side, side).byte())

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
        """
        self._check_fitted()
        self._check_crops(crops)
        if not len(crops):
            side = self.config.crop
            empty = torch.zeros(0, side, side, device=self.device)
            return empty, empty.new_zeros(0)
        return next(self.score_features([self.features(crops)]))

    def save(self, path: str | Path, is_half: bool = False) -> None:
        """Write everything that scoring needs, except the backbone's weights (their checksum only).

        Args:
            path: the file. It appears under its name when it is complete.
            is_half: whether the factors are stored as float16, in half the space.

        Raises:
            NotFittedError: the model has not been fitted.
            ModelError: float16 cannot hold the factors.
        """
        from padim.model_file import save_model

        self._check_fitted()
        save_model(self, Path(path), is_half)

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone | None = None) -> PaDiM:
        """Read a model that ``save`` wrote.

        Args:
            path: the file.
            backbone: the network that it was fitted with; None to load it from the weights that the
                model names.

        Raises:
            ModelError: the file is not a model, the weights file no longer exists, or the backbone
                differs from the one that the model was fitted with.
        """
        from padim.model_file import load_model

        return load_model(Path(path), backbone)

    # Lower-level steps, for callers that read images and share feature maps themselves.

    def fit_crops(
        self,
        batches: Iterable[torch.Tensor],
        n_images: int,
        is_calibrated: bool = True,
        strategy: OneProcess | ProcessGroup = ONE_PROCESS,
    ) -> PaDiM:
        """``fit`` on crops.

        Args:
            batches: uint8 crops (B, 3, crop, crop).
            n_images: N, of all batches and processes together.
            is_calibrated: whether to compute leave-one-out scores.
            strategy: how several processes fit together, each on its shard of the images.

        Raises:
            ImageError, ModelError: as ``fit``.
        """
        features: Iterable[FeatureMaps] = self.feature_batches(batches)
        if self.config.reduction == "pca":
            features = list(features)  # gone through twice
        return self.fit_features(features, n_images, is_calibrated, strategy)

    def feature_batches(self, batches: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """The feature maps of many crops, in order.

        On a CPU, crops go through the network in even batches, however they come, so that the last
        digits of the result do not depend on that.
        """
        return map(self.features, batches if self.device.type != "cpu" else _even(batches))

    @torch.inference_mode()
    def fit_features(
        self,
        features: Iterable[FeatureMaps],
        n_images: int,
        is_calibrated: bool = True,
        strategy: OneProcess | ProcessGroup = ONE_PROCESS,
        reduction: Reduction | None = None,
    ) -> PaDiM:
        """``fit`` on feature maps, for a caller that fits several models to the same images.

        Args:
            features: batches of feature maps; with ``pca`` iterated twice.
            n_images: as in ``fit_crops``.
            is_calibrated: as in ``fit_crops``.
            strategy: as in ``fit_crops``.
            reduction: principal components that the caller has found already; None to find them.

        Raises:
            ModelError: as ``fit``.
        """
        self.gaussian = self.calibration = None
        self._fit_reduction(features, strategy, reduction)
        assert self.embedding is not None
        positions = self.grid[0] * self.grid[1]
        learner = strategy.learner(n_images, positions, self.config.epsilon, is_calibrated)
        _learn(features, self.embedding, learner)
        self.gaussian = learner.finish()
        if learner.leave_one_out is not None:
            self.calibration = self._calibrate(learner.leave_one_out)
        return self

    @torch.inference_mode()
    def features(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps of a batch, which goes through the network in parts if it is large."""
        self._check_crops(crops)
        crops = crops.to(self.device, non_blocking=True)
        parts: dict[int, list[torch.Tensor]] = {}

        def see(block: slice) -> None:
            parts[block.start] = self.backbone(self.backbone.normalise(crops[block]))

        bytes_each = BYTES_PER_PIXEL * crops[0, 0].numel()
        for_each_block(see, len(crops), bytes_each, self.device)
        if len(parts) == 1:
            return parts[0]
        in_order = [parts[start] for start in sorted(parts)]
        return [torch.cat(feature_maps) for feature_maps in zip(*in_order, strict=True)]

    @torch.inference_mode()
    def principal_components(
        self,
        features: Iterable[FeatureMaps],
        dim: int,
        strategy: OneProcess | ProcessGroup = ONE_PROCESS,
    ) -> torch.Tensor:
        """The first ``dim`` principal components of all channels, float32 (C, dim).

        Args:
            features: batches of feature maps of the training images.
            dim: components kept.
            strategy: as in ``fit_crops``.
        """
        n_channels = sum(self.backbone.channels)
        all_channels = Reduction(ids=torch.arange(n_channels))
        embed = PatchEmbedding(self.backbone.channels, all_channels).to(self.device)
        all_reduce = strategy.all_reduce if strategy.world_size > 1 else None
        components = fit_pca(map(embed, features), dim, n_channels, all_reduce)
        return strategy.broadcast(components)  # one sign for all

    @torch.inference_mode()
    def score_features(self, batches: Iterable[FeatureMaps]) -> Iterator[Scores]:
        """Score batches of feature maps; every process must call it if Gaussians are sharded."""
        self._check_fitted()
        assert self.embedding is not None and self.gaussian is not None
        embedding = self.embedding
        embedded = (embedding(feature_maps).flatten(1, 2) for feature_maps in batches)
        for distances in self.gaussian.batches(embedded):
            maps = self.anomaly_map(distances.unflatten(1, self.grid))
            yield maps, image_scores(maps)

    @property
    def is_gathered(self) -> bool:
        """Whether this process holds the Gaussians of all positions."""
        return isinstance(self.gaussian, PatchGaussian)

    def gather(self) -> None:
        """Collect all Gaussians on rank 0, which can then ``save`` them; other ranks hold none."""
        self._check_fitted()
        assert self.gaussian is not None
        self.gaussian = self.gaussian.gathered()

    def _set_reduction(self, reduction: Reduction | None) -> None:
        self.embedding = None
        if reduction is not None:
            self.embedding = PatchEmbedding(self.backbone.channels, reduction).to(self.device)

    def _fit_reduction(
        self,
        features: Iterable[FeatureMaps],
        strategy: OneProcess | ProcessGroup,
        reduction: Reduction | None,
    ) -> None:
        """With ``pca``, learn the projection; other reductions are drawn in ``__init__``."""
        if self.config.reduction != "pca":
            return
        if reduction is None:
            assert self.config.embedding_dim is not None
            components = self.principal_components(features, self.config.embedding_dim, strategy)
            reduction = Reduction(projection=components)
        self._set_reduction(reduction)

    def _calibrate(self, left_out: torch.Tensor) -> Calibration:
        """From leave-one-out distances (n, P)."""
        batches = left_out.to(self.device).unflatten(1, self.grid).split(LEAVE_ONE_OUT_BATCH)
        n_pixels = len(left_out) * self.config.crop**2
        return Calibration.from_maps(map(self.anomaly_map, batches), n_pixels)

    def _check_fitted(self) -> None:
        if self.gaussian is None:
            raise NotFittedError("the model is not fitted; call fit(images) or PaDiM.load(path)")

    def _check_crops(self, crops: torch.Tensor) -> None:
        side = self.config.crop
        if not isinstance(crops, torch.Tensor):
            raise ImageError(f"crops are of type {type(crops).__name__}; expected a torch.Tensor")
        if crops.dtype != torch.uint8 or tuple(crops.shape[1:]) != (3, side, side):
            raise ImageError(
                f"crops are {crops.dtype} of shape {tuple(crops.shape)}; expected torch.uint8 "
                f"(B, 3, {side}, {side}); fit, score and predict take images of any size"
            )

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
        if ids is not None or projection is not None:  # the ids decide how many a layer has
            self._set_reduction(Reduction(None if ids is None else ids.clone(), projection))
        mean, factor = like("gaussian.mean"), like("gaussian.factor")
        self.gaussian = self.calibration = None
        if mean is not None and factor is not None:
            self.gaussian = PatchGaussian(mean, factor, False, self.config.epsilon)
        scores, levels = like("calibration.image_scores"), like("calibration.pixel_levels")
        if scores is not None and levels is not None:
            self.calibration = Calibration(scores, levels)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _learn(
    features: Iterable[FeatureMaps],
    embedding: PatchEmbedding,
    learner: GaussianLearner | ShardedLearner,
) -> None:
    """Let the learner see the embeddings of all feature maps; a process may have none."""
    for feature_maps in features:
        for part in _parts(feature_maps, embedding.dim):
            learner.update(embedding(part).flatten(1, 2))


def _even(batches: Iterable[torch.Tensor], size: int = BATCH) -> Iterator[torch.Tensor]:
    """The same images (B, ...), ``size`` at a time; the last batch may be smaller."""
    rest: torch.Tensor | None = None
    for batch in batches:
        rest = batch if rest is None else torch.cat((rest, batch))
        end = len(rest) - len(rest) % size
        yield from rest[:end].split(size) if end else ()
        rest = rest[end:] if end < len(rest) else None
    if rest is not None:
        yield rest


def _parts(feature_maps: FeatureMaps, dim: int) -> Iterator[list[torch.Tensor]]:
    """The feature maps of a batch in parts whose embeddings take at most ``EMBEDDING_BYTES``."""
    positions = max(one.shape[-2] * one.shape[-1] for one in feature_maps)
    size = max(1, EMBEDDING_BYTES // (4 * positions * dim))
    return map(list, zip(*(one.split(size) for one in feature_maps), strict=True))
