"""PaDiM on crops: the steps of the method in order, and what was learned.

``padim.model`` puts images of any size and decisions around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from math import prod
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
from padim.calibration import Calibration
from padim.config import PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.errors import ImageError, ModelError, NotFittedError, PaDiMError
from padim.fitting import GaussianLearner
from padim.gaussian import PatchGaussian
from padim.parallel import fork_safe, fork_safe_steps
from padim.preprocessing import Preprocessing
from padim.reduction import Reduction, draw_reduction, learn_components
from padim.region_of_interest import RegionOfInterest

if TYPE_CHECKING:
    from typing_extensions import Self

    from padim.parallel.process_group import ProcessGroup
    from padim.parallel.sharded_gaussian import ShardedGaussian, ShardedLearner

LEAVE_ONE_OUT_BATCH = 16  # maps made at a time

Scores = tuple[torch.Tensor, torch.Tensor]


class CropModel(Float32Module):
    """What ``PaDiM`` does with crops, for callers that read images and share feature maps.

    Arguments and attributes are those of ``PaDiM``.
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
        self.embedding = None if reduction is None else self.embedding_of(reduction)
        self.to(self.device)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model computes; ``to`` moves it."""
        return self.backbone.device

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
    def fit_crops(
        self,
        batches: Iterable[torch.Tensor],
        n_images: int,
        is_calibrated: bool = True,
        group: ProcessGroup | None = None,
        region: torch.Tensor | None = None,
    ) -> Self:
        """Learn what normal images look like from crops. Fitting again starts afresh.

        If it fails, the model stays as it was.

        Args:
            batches: uint8 crops (B, 3, crop, crop).
            n_images: N, of all batches and processes together.
            is_calibrated: whether to compute leave-one-out scores.
            group: the processes that fit together, each on its shard of the images; None for one.
            region: bool (crop, crop), true where to look; None for everywhere.

        Raises:
            ImageError: crops have the wrong type or size.
            ModelError: fewer than 2 images, or the wrong number of them.
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
    ) -> Self:
        """``fit_crops`` on feature maps, for a caller that fits several models to the same images.

        Args:
            features: batches of feature maps; iterated twice if the reduction is learned.
            n_images: as in ``fit_crops``.
            is_calibrated: as in ``fit_crops``.
            group: as in ``fit_crops``.
            reduction: one that the caller has learned already, for a configuration with one that
                is learned; None to learn it.
            region: as in ``fit_crops``.

        Raises:
            ModelError: as ``fit_crops``; or a reduction is given that the configuration draws.
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
        embedding = self.embedding_of(Reduction(torch.arange(n_channels)), self._region(region))
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

    def look_at(self, mask: torch.Tensor | None) -> None:
        """Set the region of a model whose Gaussians are set next."""
        self.region = self._region(mask)
        self.anomaly_map = self._anomaly_map(self.region)

    def _anomaly_map(self, region: RegionOfInterest | None = None) -> AnomalyMap:
        config = self.config
        return AnomalyMap(self.grid, config.crop, config.sigma, region).to(self.device)

    def embedding_of(
        self, reduction: Reduction, region: RegionOfInterest | None = None
    ) -> PatchEmbedding:
        """The embedding of the backbone's feature maps at the positions of a region."""
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
        return self.embedding_of(reduction, region)

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
        from padim.storage.module_state import make_parts

        stored = state_dict.get(f"{prefix}_extra_state")
        if stored is not None and stored != self.get_extra_state():
            raise ModelError(f"the state is of {stored}, this model of {self.get_extra_state()}")
        make_parts(self, {name.removeprefix(prefix): state_dict[name] for name in state_dict})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
