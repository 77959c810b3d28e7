"""PaDiM as one object: fit on images of one class, score images, save, load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from padim.anomaly_map import AnomalyMap, image_scores
from padim.backbones import Backbone, normalise
from padim.calibration import Calibration
from padim.config import PaDiMConfig
from padim.embedding import Reduction, draw_reduction, fit_pca
from padim.errors import ModelError
from padim.gaussian import PatchGaussian, pack_triangles, unpack_triangles
from padim.model_file import ModelHeader, read_model_file, write_model_file
from padim.parallel.blocks import in_blocks
from padim.parallel.process_group import ALONE, Team
from padim.parallel.sharded_gaussian import OwnedGaussian, TeamFit

BATCH = 16  # leave-one-out maps made at a time
CPU_BATCH = 8  # images seen at a time on a CPU, where more take memory and no less time
EMBEDDING_BYTES = 16 * 2**20  # larger ones come as fresh pages each time, which takes longer
BYTES_PER_PIXEL = 80  # of an image, that its feature maps take on their way through a network


class PaDiM:
    """PaDiM for one class.

    Args:
        backbone: the network; may be shared by the models of many classes.
        config: everything else.

    Attributes:
        reduction: the channels kept; with ``pca`` None until ``fit``.
        gaussian: the Gaussians learned; None until ``fit``.
        calibration: what unseen normal images score; None until ``fit``, and where two images are
            too few to leave one out.

    Raises:
        ModelError: more channels asked for than the taps have.
    """

    def __init__(self, backbone: Backbone, config: PaDiMConfig) -> None:
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.config = config
        self.device = next(backbone.parameters()).device
        self.gaussian: PatchGaussian | OwnedGaussian | None = None
        self.calibration: Calibration | None = None
        self.reduction = draw_reduction(
            config.reduction, backbone.channels, config.embedding_dim, config.seed
        )
        if self.reduction is not None:
            self.reduction.to(self.device)

    @torch.inference_mode()
    def fit(self, batches: Iterable[torch.Tensor], n_images: int, team: Team = ALONE) -> PaDiM:
        """Learn the Gaussians of normal images.

        Args:
            batches: uint8 images (B, 3, crop, crop) of one class, all normal.
            n_images: how many they are together, at least 2.
            team: the processes that do this together, each with its share of the images.

        Raises:
            ModelError: fewer than 2 images, or a covariance that cannot be inverted.
        """
        taps: Iterable[list[torch.Tensor]] = self.tap_batches(batches)
        if self.reduction is None:
            taps = list(taps)  # principal components need all images before they reduce the first
        return self.fit_taps(taps, n_images, team=team)

    @torch.inference_mode()
    def tap_batches(self, batches: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """The taps of many images, in order.

        On a CPU they go through the network in even batches, however they come, so that the last
        digits of the result do not depend on that.
        """
        return map(self.taps, batches if self.device.type != "cpu" else _even(batches, CPU_BATCH))

    @torch.inference_mode()
    def fit_taps(
        self,
        taps: Iterable[Sequence[torch.Tensor]],
        n_images: int,
        is_calibrated: bool = True,
        team: Team = ALONE,
    ) -> PaDiM:
        """``fit`` on what the backbone gave, for one who fits several models to the same images.

        Args:
            taps: batches of the backbone's taps, gone through twice where ``reduction`` is None.
            n_images: how many images they are together, at least 2.
            is_calibrated: whether to learn what unseen normal images score.
            team: as in ``fit``.

        Raises:
            ModelError: as ``fit``.
        """
        if self.reduction is None:
            self.reduction = fit_pca(
                taps, self.backbone.channels, self.config.embedding_dim, team
            ).to(self.device)
        learner = TeamFit(n_images, self.config.epsilon, is_calibrated, team)
        grid = self._learn(taps, learner)
        del taps  # not to be kept while the factors are made
        grid = team.told(grid)
        if grid is None:
            raise ModelError(f"no training images came, {n_images} were announced")
        self._set_grid(grid)
        self.gaussian, left_out = learner.finish(self.grid[0] * self.grid[1])
        if left_out is not None:
            self.calibration = self._calibrate(left_out)
        return self

    def _learn(
        self, taps: Iterable[Sequence[torch.Tensor]], learner: TeamFit
    ) -> tuple[int, int] | None:
        """Teach this process's images, and tell the grid; None where it has none."""
        grid = None
        for batch in taps:
            for part in _parts(batch, self.reduction.dim):
                embeddings = self.reduction(part)
                grid = tuple(embeddings.shape[1:3])
                learner.update(embeddings.flatten(1, 2))
        return grid

    @torch.inference_mode()
    def score(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: uint8 (B, 3, crop, crop).

        Returns:
            Anomaly maps, float32 (B, crop, crop), and image scores, float32 (B,), on the model's
            device. Both are Mahalanobis distances: 0 is the mean of the normal images.
        """
        return self.score_taps(self.taps(images))

    @torch.inference_mode()
    def score_taps(self, taps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """``score`` of what the backbone gave."""
        return next(self.score_batches([taps]))

    @torch.inference_mode()
    def score_batches(
        self, batches: Iterable[Sequence[torch.Tensor]]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``score_taps`` of batch after batch; by all processes of a team that fitted the model."""
        embedded = (self.reduction(taps).flatten(1, 2) for taps in batches)
        for distances in self.gaussian.each(embedded):
            maps = self.anomaly_map(distances.unflatten(1, self.grid))
            yield maps, image_scores(maps)

    @property
    def is_whole(self) -> bool:
        """Whether this process holds the Gaussians of all positions."""
        return isinstance(self.gaussian, PatchGaussian)

    def gather(self) -> None:
        """Let the first process of a team hold all Gaussians, so that it can ``save`` them."""
        self.gaussian = self.gaussian.whole()

    def save(self, path: Path, is_half: bool = False) -> None:
        """Write all that scoring needs, but for the backbone's weights, of which a checksum.

        Args:
            path: the file; it is written beside it first, then put in its place.
            is_half: whether the factors are stored as float16, in half the space.

        Raises:
            ModelError: float16 cannot hold the factors.
        """
        factor, dtype = self.gaussian.factor, torch.float16 if is_half else torch.float32
        is_low_rank = self.gaussian.is_low_rank
        factor = factor.cpu().to(dtype) if is_low_rank else pack_triangles(factor, dtype)
        if is_half and not factor.isfinite().all():
            raise ModelError(
                f"with epsilon {self.config.epsilon:g} factors are larger than float16 can hold: "
                "give --model_precision float32"
            )
        tensors = {
            "ids": self.reduction.ids,
            "projection": self.reduction.projection,
            "mean": self.gaussian.mean,
            "factor": factor,
            "image_scores": self.calibration and self.calibration.image_scores,
            "pixel_levels": self.calibration and self.calibration.pixel_levels,
        }
        header = ModelHeader(
            backbone=self.backbone.name,
            layers=list(self.backbone.layers),
            channels=list(self.backbone.channels),
            weights=self.backbone.weights,
            weights_checksum=self.backbone.checksum(),
            config=asdict(self.config),
            grid=list(self.grid),
            is_low_rank=is_low_rank,
            network_precision=self.backbone.precision,
        )
        write_model_file(path, header, tensors)

    @classmethod
    def load(cls, path: Path, backbone: Backbone) -> PaDiM:
        """Read a model written by ``save``.

        Args:
            path: the file.
            backbone: the network it was fitted with: same name, layers, weights and precision.

        Raises:
            ModelError: the file is no such model, or the backbone is another, or of another
                precision.
        """
        return cls.restore(*read_model_file(path), backbone, path)

    @classmethod
    def restore(
        cls,
        header: ModelHeader,
        tensors: Mapping[str, torch.Tensor | None],
        backbone: Backbone,
        path: Path,
    ) -> PaDiM:
        """``load`` in two steps, for one who learns from the header which backbone to make.

        Args:
            header, tensors: as ``read_model_file`` gives them.
            backbone: as in ``load``.
            path: where they were read from, for the message.

        Raises:
            ModelError: the backbone is another than the model was fitted with.
        """
        fitted, found = (
            f"{name} {'+'.join(layers)} in {precision}, weights {checksum}"
            for name, layers, precision, checksum in (
                (header.backbone, header.layers, header.network_precision, header.weights_checksum),
                (backbone.name, backbone.layers, backbone.precision, backbone.checksum()),
            )
        )
        if found != fitted:
            raise ModelError(f"model {path} was fitted with {fitted}; this is {found}")
        model = cls(backbone, PaDiMConfig(**header.config))
        model.reduction = Reduction(backbone.channels, tensors["ids"], tensors["projection"])
        model.reduction.to(model.device)
        factor = tensors["factor"].float()
        if not header.is_low_rank:
            factor = unpack_triangles(factor, model.reduction.dim)
        model.gaussian = PatchGaussian(
            tensors["mean"], factor, header.is_low_rank, model.config.epsilon
        ).placed(model.device)
        model._set_grid(header.grid)
        if tensors["image_scores"] is not None:
            model.calibration = Calibration(tensors["image_scores"], tensors["pixel_levels"])
            model.calibration.to(model.device)
        return model

    @torch.inference_mode()
    def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The taps of a batch, which goes through the network in parts where it is too large."""
        images = images.to(self.device, non_blocking=True)
        parts: dict[int, list[torch.Tensor]] = {}

        def see(block: slice) -> None:
            parts[block.start] = self.backbone(normalise(images[block]))

        in_blocks(see, len(images), BYTES_PER_PIXEL * images[0, 0].numel(), self.device)
        if len(parts) == 1:
            return parts[0]
        in_order = [parts[start] for start in sorted(parts)]
        return [torch.cat(tap) for tap in zip(*in_order, strict=True)]

    def _calibrate(self, left_out: torch.Tensor) -> Calibration:
        """Of the distances (n, P) of training images, each left out of its Gaussians."""
        batches = left_out.to(self.device).unflatten(1, self.grid).split(BATCH)
        return Calibration.of_maps(
            map(self.anomaly_map, batches), len(left_out) * self.config.crop**2
        )

    def _set_grid(self, grid: Iterable[int]) -> None:
        self.grid = tuple(grid)
        self.anomaly_map = AnomalyMap(self.grid, self.config.crop, self.config.sigma)
        self.anomaly_map.to(self.device)


def _even(batches: Iterable[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """The same images (B, ...), ``size`` at a time, the last ones fewer."""
    rest: torch.Tensor | None = None
    for batch in batches:
        rest = batch if rest is None else torch.cat((rest, batch))
        end = len(rest) - len(rest) % size
        yield from rest[:end].split(size) if end else ()
        rest = rest[end:] if end < len(rest) else None
    if rest is not None:
        yield rest


def _parts(taps: Sequence[torch.Tensor], dim: int) -> Iterator[list[torch.Tensor]]:
    """The taps of a batch in parts whose embeddings take no more than ``EMBEDDING_BYTES``."""
    positions = max(tap.shape[-2] * tap.shape[-1] for tap in taps)
    size = max(1, EMBEDDING_BYTES // (4 * positions * dim))
    return map(list, zip(*(tap.split(size) for tap in taps), strict=True))
