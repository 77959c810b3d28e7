"""The feature maps of the images of one class, for all models of one backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from datasets.loading.labelled import Batch
from padim.model import PaDiM
from padim.reduction import Reduction
from utils.evaluation.class_scores import ClassScores, score_class
from utils.evaluation.training_images import checksums
from utils.experiment.configuration import Layers, ModelSpec, Protocol
from utils.experiment.feature_store import FeatureStore
from utils.experiment.network import Network
from utils.experiment.processes import Processes

EXAMPLES = 20  # test images for measuring the cost of scoring
FeatureMaps = Iterable[list[torch.Tensor]]


class ClassFeatures:
    """The images of one class, through one backbone once for all models.

    Args:
        network: the backbone.
        train: this process's training images, read once.
        test: its test images, read once.
        counts: how many these are, training images first.
        n_train: number of training images in all processes.
        protocol: of the models.
        processes: that share the images.
        folder: of the file for feature maps that do not fit into memory; None for a single model,
            which needs none.
        region: bool (crop, crop), true where to look; None for everywhere.

    Attributes:
        examples: a few test images, uint8 (n, 3, crop, crop); None until they were read.
        train_checksums: of the pixels of the training images that have been read.
    """

    def __init__(
        self,
        network: Network,
        train: Iterable[Batch],
        test: Iterable[Batch],
        counts: tuple[int, int],
        n_train: int,
        protocol: Protocol,
        processes: Processes,
        folder: Path | None,
        region: torch.Tensor | None = None,
    ) -> None:
        self._network, self._protocol, self._n_train = network, protocol, n_train
        self._region = region
        self._group = processes.group
        self.train_checksums: list[bytes] = []
        self._train: Iterable[Batch] = self._with_checksums(train)
        self._test: Iterable[Batch] = self._with_examples(test)
        self.examples: torch.Tensor | None = None
        self._components: dict[Layers | None, torch.Tensor] = {}
        self._stores: tuple[FeatureStore, FeatureStore] | None = None
        if folder is not None:
            blank = PaDiM(network.whole, protocol.config_of(ModelSpec()))
            fitted_on = blank.feature_batches(batch.images for batch in self._train)
            train_store = FeatureStore(fitted_on, counts[0], folder)
            self._test = list(self._test)
            scored = blank.feature_batches(batch.images for batch in self._test)
            self._stores = train_store, FeatureStore(scored, counts[1], folder)

    def fit(self, spec: ModelSpec, is_calibrated: bool) -> PaDiM:
        """Fit a model to the training images.

        Raises:
            ModelError: ``embedding_dim`` exceeds the channels, or a covariance cannot be inverted.
        """
        model = PaDiM(self._network.tapped(spec.layers), self._protocol.config_of(spec))
        shared = self._n_train, is_calibrated, self._group
        if self._stores is None:
            crops = (batch.images for batch in self._train)
            return model.fit_crops(crops, *shared, region=self._region)
        features = self._stores[0].of(self._network.indices(spec.layers))
        reduction = self._principal_components(model, spec, features)
        return model.fit_features(features, *shared, reduction=reduction, region=self._region)

    def score(self, model: PaDiM, spec: ModelSpec, keeps_images: bool) -> ClassScores:
        """Score the test images with a fitted model."""
        features = None
        if self._stores is not None:
            features = self._stores[1].of(self._network.indices(spec.layers))
        return score_class(model, self._test, features, keeps_images)

    def _principal_components(
        self, model: PaDiM, spec: ModelSpec, features: FeatureMaps
    ) -> Reduction | None:
        """If they are learned, the first components, which are computed once for all models."""
        if not model.config.is_learned:
            return None
        if spec.layers not in self._components:
            n_channels = sum(model.backbone.channels)
            every = model.principal_components(features, n_channels, self._group, self._region)
            self._components[spec.layers] = every
        kept = self._components[spec.layers][:, : spec.embedding_dim].contiguous()
        return Reduction(projection=kept)

    def _with_checksums(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.train_checksums += checksums(batch.images.permute(0, 2, 3, 1).numpy())
            yield batch

    def _with_examples(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self.examples is None:
                self.examples = batch.images[:EXAMPLES].clone()
            yield batch
