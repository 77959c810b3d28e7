"""PaDiM as one object: fit on images of one class, score images, save, load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from padim.anomaly_map import AnomalyMap, image_scores
from padim.backbones import Backbone, normalise
from padim.embedding import Reduction, draw_reduction, fit_pca
from padim.errors import ModelError
from padim.gaussian import GaussianFit, PatchGaussian

FORMAT = "padim-model"
VERSION = 1


@dataclass(frozen=True)
class PaDiMConfig:
    """What, beside the backbone, decides how a model scores an image.

    Attributes:
        reduction: ``random``, ``semi_orthogonal``, ``pca`` or ``none``.
        embedding_dim: channels kept, d; of no meaning with ``none``.
        seed: of the channels or the projection drawn.
        resize: side in pixels an image is resized to before the crop.
        crop: side in pixels of the image the model sees and of the map it gives.
        epsilon: added to the diagonal of every covariance.
        sigma: smoothing of the map in pixels.
    """

    reduction: str = "random"
    embedding_dim: int | None = 100
    seed: int = 0
    resize: int = 256
    crop: int = 224
    epsilon: float = 0.01
    sigma: float = 4.0


class PaDiM:
    """PaDiM for one class.

    Args:
        backbone: the network; may be shared by the models of many classes.
        config: everything else.

    Attributes:
        reduction: the channels kept; with ``pca`` None until ``fit``.
        gaussian: the Gaussians learned; None until ``fit``.

    Raises:
        ModelError: more channels asked for than the taps have.
    """

    def __init__(self, backbone: Backbone, config: PaDiMConfig) -> None:
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.config = config
        self.device = next(backbone.parameters()).device
        self.gaussian: PatchGaussian | None = None
        self.reduction = draw_reduction(
            config.reduction, backbone.channels, config.embedding_dim, config.seed
        )
        if self.reduction is not None:
            self.reduction.to(self.device)

    @torch.inference_mode()
    def fit(self, batches: Iterable[torch.Tensor], n_images: int) -> PaDiM:
        """Learn the Gaussians of normal images.

        Args:
            batches: uint8 images (B, 3, crop, crop) of one class, all normal.
            n_images: how many they are together, at least 2.

        Raises:
            ModelError: fewer than 2 images, or a covariance that cannot be inverted.
        """
        taps: Iterable[list[torch.Tensor]] = map(self._taps, batches)
        if self.reduction is None:
            taps = list(taps)  # principal components need all images before they reduce the first
            self.reduction = fit_pca(taps, self.backbone.channels, self.config.embedding_dim)
        learner = GaussianFit(n_images, self.config.epsilon)
        for batch in taps:
            embeddings = self.reduction(batch)
            learner.update(embeddings.flatten(1, 2))
        self.gaussian = learner.finish()
        self._set_grid(embeddings.shape[1:3])
        return self

    @torch.inference_mode()
    def score(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: uint8 (B, 3, crop, crop).

        Returns:
            Anomaly maps, float32 (B, crop, crop), and image scores, float32 (B,), on the model's
            device. Both are Mahalanobis distances: 0 is the mean of the normal images.
        """
        embeddings = self.reduction(self._taps(images))
        distances = self.gaussian(embeddings.flatten(1, 2))
        maps = self.anomaly_map(distances.unflatten(1, self.grid))
        return maps, image_scores(maps)

    def score_batches(
        self, batches: Iterable[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``score`` for each batch."""
        return map(self.score, batches)

    def save(self, path: Path) -> None:
        """Write all that scoring needs, but for the backbone's weights, of which a checksum.

        Tensors and plain values only; written beside ``path`` first, then put in its place.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "backbone": self.backbone.name,
            "layers": list(self.backbone.layers),
            "weights_checksum": self.backbone.checksum(),
            "config": asdict(self.config),
            "grid": list(self.grid),
            "is_low_rank": self.gaussian.is_low_rank,
            "ids": self.reduction.ids,
            "projection": self.reduction.projection,
            "mean": self.gaussian.mean,
            "factor": self.gaussian.factor,
        }
        partial = path.with_name(f".{path.name}.partial")
        try:
            torch.save(content, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, backbone: Backbone) -> PaDiM:
        """Read a model written by ``save``.

        Args:
            path: the file.
            backbone: the network it was fitted with: same name, layers and weights.

        Raises:
            ModelError: the file is no such model, or the backbone is another.
        """
        content = read_model_file(path)
        found = (backbone.name, list(backbone.layers), backbone.checksum())
        fitted = (content["backbone"], content["layers"], content["weights_checksum"])
        if found != fitted:
            raise ModelError(
                f"model {path} was fitted with {fitted[0]} {'+'.join(fitted[1])}, weights "
                f"{fitted[2]}; this is {found[0]} {'+'.join(found[1])}, weights {found[2]}"
            )
        model = cls(backbone, PaDiMConfig(**content["config"]))
        model.reduction = Reduction(backbone.channels, content["ids"], content["projection"])
        model.reduction.to(model.device)
        model.gaussian = PatchGaussian(
            content["mean"], content["factor"], content["is_low_rank"], model.config.epsilon
        ).to(model.device)
        model._set_grid(content["grid"])
        return model

    def _taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.backbone(normalise(images.to(self.device, non_blocking=True)))

    def _set_grid(self, grid: Iterable[int]) -> None:
        self.grid = tuple(grid)
        self.anomaly_map = AnomalyMap(self.grid, self.config.crop, self.config.sigma)
        self.anomaly_map.to(self.device)


def read_model_file(path: Path) -> dict:
    """The content of a model file, tensors and plain values.

    Raises:
        ModelError: the file is missing, damaged, no model, or of another version.
    """
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds on a file that is something else
        raise ModelError(f"model file {path} is damaged, or not a model of this program") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"file {path} is not a model of this program")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise ModelError(f"model file {path} is of version {found}, this program reads {VERSION}")
    return content
