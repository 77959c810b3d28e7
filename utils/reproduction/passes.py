"""One class through one backbone, once, and all the models that are made of that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import chain
from pathlib import Path

import torch

from datasets.loading.labelled import Batch
from datasets.types import AnomalyClass
from padim.anomaly_map import image_scores
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.embedding import Reduction, fit_pca
from padim.errors import ModelError
from padim.model import PaDiM
from utils.evaluation.measure import metrics
from utils.evaluation.metrics import rank, rank_pixels
from utils.experiment.feature_store import TapStore
from utils.reproduction.plan import TIMED, Configuration, Job

TIMED_IMAGES = 20
Layers = tuple[str, ...]
Numbers = dict[str, float | None]


class Network:
    """A backbone, and the same one tapped at fewer layers for the models that are made of those.

    Args:
        name: of the backbone.
        weights: as ``Backbone`` takes them.
        device: where it runs.

    Attributes:
        whole: it, with the paper's layers: what the images go through.
        device: where it runs.

    Raises:
        ModelError: the weights cannot be had.
    """

    def __init__(self, name: str, weights: str, device: torch.device) -> None:
        self._weights, self.device = weights, device
        try:
            self.whole = Backbone(name, weights).to(device)
        except ModelError as error:
            raise ModelError(f"{error}; or leave {name} out of --backbones") from error
        self._tapped = {self.whole.layers: self.whole}

    def tapped(self, layers: Layers) -> Backbone:
        if layers not in self._tapped:
            backbone = Backbone(self.whole.name, self._weights, layers)
            self._tapped[layers] = backbone.to(self.device)
        return self._tapped[layers]


class Pass:
    """The images of a class, gone through a backbone, and the models that are made of them.

    Args:
        item: the class.
        network: the backbone.
        train, test: batches of its images, each gone through once.
        size: resize and crop in pixels.
        folder: where taps may go that memory is too small for; None where they are gone through
            but once, and nothing is kept.
    """

    def __init__(
        self,
        item: AnomalyClass,
        network: Network,
        train: Iterable[Batch],
        test: Iterable[Batch],
        size: tuple[int, int],
        folder: Path | None,
    ) -> None:
        self._item, self._network, self._size = item, network, size
        self._components: dict[Layers, torch.Tensor] = {}
        self._masks: list[torch.Tensor] = []
        self._examples: torch.Tensor | None = None
        blank = self._model(Configuration("", network.whole.name), network.whole.layers)
        self._train: Iterable[list[torch.Tensor]] = blank.feature_batches(b.images for b in train)
        self._test: Iterable[list[torch.Tensor]] = blank.feature_batches(
            b.images for b in self._seen(test)
        )
        self._is_kept = folder is not None
        if folder is not None:
            self._train = TapStore(self._train, len(item.train), folder)
            self._test = TapStore(self._test, len(item.test), folder)

    def run(self, job: Job) -> dict[Configuration, Numbers]:
        """Fit and score the models of a job: the numbers of its configurations.

        Raises:
            ModelError: more channels asked for than there are.
        """
        maps: dict[Layers, torch.Tensor] = {}
        costs: Numbers = {}
        for one in job.configurations:
            for layers in self._layer_sets(one):
                if layers not in maps:
                    maps[layers], costs = self._maps(one, layers)
        return {
            one: self._measure([maps[layers] for layers in self._layer_sets(one)]) | costs
            for one in job.configurations
        }

    def _layer_sets(self, one: Configuration) -> list[Layers]:
        return [layers or self._network.whole.layers for layers in one.layer_sets]

    def _maps(self, one: Configuration, layers: Layers) -> tuple[torch.Tensor, Numbers]:
        """The anomaly maps of the test images, and what scoring costs where that is wanted."""
        model = self._model(one, layers)
        if one.reduction == "pca":
            model.embedding = self._principal(layers, one.embedding_dim)
        model.fit_features(
            self._of(self._train, layers), len(self._item.train), is_calibrated=False
        )
        maps = torch.cat(
            [next(model.score_features([taps]))[0] for taps in self._of(self._test, layers)]
        )
        return maps, _cost(model, self._examples) if one in TIMED else {}

    def _model(self, one: Configuration, layers: Layers) -> PaDiM:
        config = PaDiMConfig(one.reduction, one.embedding_dim, one.seed, *self._size)
        return PaDiM(self._network.tapped(layers), config)

    def _principal(self, layers: Layers, dim: int) -> Reduction:
        """The first components of those found once for all."""
        channels = self._network.tapped(layers).channels
        if layers not in self._components:
            found = fit_pca(self._of(self._train, layers), channels, sum(channels))
            self._components[layers] = found.projection
        return Reduction(channels, projection=self._components[layers][:, :dim].contiguous())

    def _of(
        self, taps: TapStore | Iterable[list[torch.Tensor]], layers: Layers
    ) -> Iterable[list[torch.Tensor]]:
        indices = [self._network.whole.layers.index(layer) for layer in layers]
        return taps.of(indices) if self._is_kept else taps

    def _seen(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The test images on their way, of which masks and some examples are kept."""
        for batch in batches:
            self._masks.append(batch.masks)
            if self._examples is None:
                self._examples = batch.images[:TIMED_IMAGES].clone()
            yield batch

    def _measure(self, maps: list[torch.Tensor]) -> Numbers:
        """The numbers of maps (n, crop, crop) that are to be added."""
        added = reduce(torch.add, maps)
        labels = torch.tensor([sample.is_defective for sample in self._item.test])
        pixels, overlap = None, None
        if self._item.has_masks:
            pixels, overlap = rank_pixels(added, torch.cat(self._masks))
        return metrics(rank(image_scores(added).cpu(), labels), pixels, overlap)


def _cost(model: PaDiM, examples: torch.Tensor) -> Numbers:
    """Median seconds from an image's crop to its map, one image at a time, and what is held."""
    seconds = []
    for image in chain(examples[:3], examples):  # the first three are to get going
        start = time.perf_counter()
        model.score(image[None])[1].cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    held = (model.gaussian.mean, model.gaussian.factor)
    return {
        "seconds_per_image": statistics.median(seconds[3:]),
        "memory_gb": sum(tensor.nbytes for tensor in held) / 1e9,
    }
