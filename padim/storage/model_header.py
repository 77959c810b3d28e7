"""The header of a model file: all values that are not tensors, checked before use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite, prod
from typing import Any

import torch
from torch import Tensor

from padim.calibration import N_PIXEL_RATES
from padim.config import MAX_SIDE, PRECISIONS, TIMM, PaDiMConfig
from padim.feature_network import IMAGENET_MEAN, IMAGENET_STD
from padim.paper_backbones import BACKBONES
from padim.region_of_interest import RegionOfInterest, packed, unpacked

MAX_CHANNELS = 2**16  # of a layer; the widest of the paper's networks has 2048
MAX_LAYERS = 64
MAX_TEXT = 4096  # characters of the path of the weights

Shapes = Mapping[str, tuple[int, ...]]
Types = Mapping[str, "torch.dtype | None"]
FLOATS = (torch.float32,)
DTYPES: Mapping[str, tuple[torch.dtype, ...]] = {
    "ids": (torch.int64,),
    "projection": FLOATS,
    "mean": FLOATS,
    "factor": (torch.float32, torch.float16),
    "image_scores": FLOATS,
    "pixel_levels": FLOATS,
    "region": (torch.uint8,),
}


@dataclass(frozen=True)
class ModelHeader:
    """The values of a model that are not tensors.

    Attributes:
        backbone: its name.
        layers: the feature layers.
        channels: of each layer.
        weights: where the backbone's came from: ``imagenet``, ``random`` or a file.
        weights_checksum: of the backbone's weights.
        config: the values of a ``PaDiMConfig``.
        grid: [H, W].
        is_low_rank: the form of the Gaussians' factors.
        is_calibrated: whether there are leave-one-out scores.
        network_precision: of the products of the backbone's convolutions.
        mean: mean of each colour, for normalisation.
        std: standard deviation of each colour.
        n_looked_at: P, the number of positions in the region; None without a region.
        torch: version of PyTorch that wrote the file.

    Raises:
        ValueError: a value is of the wrong type or out of range, or does not fit the others.
    """

    backbone: str
    layers: list[str]
    channels: list[int]
    weights: str
    weights_checksum: str
    config: dict[str, Any]
    grid: list[int]
    is_low_rank: bool
    is_calibrated: bool
    network_precision: str = "float32"
    mean: list[float] = field(default_factory=lambda: list(IMAGENET_MEAN))
    std: list[float] = field(default_factory=lambda: list(IMAGENET_STD))
    n_looked_at: int | None = None
    torch: str = str(torch.__version__)

    def __post_init__(self) -> None:
        for name in ("backbone", "weights", "weights_checksum", "network_precision", "torch"):
            value = getattr(self, name)
            expect(type(value) is str and 0 < len(value) <= MAX_TEXT, name)
            expect(name == "weights" or value.isprintable(), name)  # they go into messages
        expect(self.backbone in BACKBONES or self.backbone.startswith(TIMM), "backbone")
        for name in ("mean", "std"):
            colours = getattr(self, name)
            expect(_is_list(colours, float, 3) and len(colours) == 3, name)
            expect(all(map(isfinite, colours)), name)
        expect(self.network_precision in PRECISIONS, "network_precision")
        expect(all(type(flag) is bool for flag in (self.is_low_rank, self.is_calibrated)), "form")
        expect(_is_list(self.layers, str, MAX_LAYERS), "layers")
        expect(len(set(self.layers)) == len(self.layers), "layers")
        expect(all(layer.isprintable() and len(layer) < 100 for layer in self.layers), "layers")
        expect(_is_list(self.channels, int, MAX_LAYERS), "channels")
        expect(len(self.channels) == len(self.layers), "channels")
        expect(all(0 < count <= MAX_CHANNELS for count in self.channels), "channels")
        expect(_is_list(self.grid, int, 2) and len(self.grid) == 2, "grid")
        names = {field.name for field in fields(PaDiMConfig)}
        expect(type(self.config) is dict and set(self.config) == names, "config")
        config = PaDiMConfig(**self.config)  # checks its values
        expect(all(0 < side <= min(config.crop, MAX_SIDE) for side in self.grid), "grid")
        n_inside = self.n_looked_at
        is_count = type(n_inside) is int and 0 < n_inside <= prod(self.grid)
        expect(n_inside is None or is_count, "n_looked_at")
        if config.reduction != "none":
            assert config.embedding_dim is not None
            expect(config.embedding_dim <= sum(self.channels), "config")

    @property
    def dim(self) -> int:
        """d, the channels kept."""
        dim = self.config["embedding_dim"]
        return sum(self.channels) if self.config["reduction"] == "none" else dim

    @property
    def has_ids(self) -> bool:
        """Whether channels are kept; otherwise they are projected."""
        return self.config["reduction"] in ("random", "none")

    def to_json(self) -> str:
        """The header as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelHeader:
        """Read and check a header.

        Raises:
            ValueError: it is not a header.
        """
        try:
            content = json.loads(text)
        except RecursionError as error:
            raise ValueError("its header is nested too deep") from error
        names = {field.name for field in fields(cls)}
        # Files written before regions existed have no ``n_looked_at``.
        expect(type(content) is dict and {*content, "n_looked_at"} == names, "header")
        return cls(**content)

    def check_shapes(self, shapes: Shapes, dtypes: Types) -> None:
        """Compare the types and shapes of the tensors with the header, before any is read.

        ``ids`` (d,) or ``projection`` (C, d); ``mean`` (P, d); ``factor`` (P, N, d) or, in the
        dense form, (P, d (d+1) / 2); ``image_scores`` (n,) and ``pixel_levels`` (601,), if the
        model is calibrated; ``region``, a bit for each pixel of the crop, if it has one.

        Raises:
            ValueError: a tensor is missing, or of another type or shape.
        """
        dim, positions = self.dim, self.n_looked_at or prod(self.grid)
        factor = shapes.get("factor", ())
        scores = shapes.get("image_scores", ())
        expected: dict[str, tuple[int, ...]] = {"mean": (positions, dim)}
        if self.has_ids:
            expected["ids"] = (dim,)
        else:
            expected["projection"] = (sum(self.channels), dim)
        if self.is_low_rank:
            n_images = factor[1] if len(factor) == 3 else 0
            expect(2 <= n_images <= dim, "factor")
            expected["factor"] = (positions, n_images, dim)
        else:
            expected["factor"] = (positions, dim * (dim + 1) // 2)
        if self.is_calibrated:
            expected["image_scores"] = (scores[0] if scores and scores[0] > 0 else 1,)
            expected["pixel_levels"] = (N_PIXEL_RATES,)
        if self.n_looked_at is not None:
            expected["region"] = (-(-(self.config["crop"] ** 2) // 8),)
        expect(set(shapes) == set(expected), "tensors")
        for name, shape in expected.items():
            expect(shapes[name] == shape and dtypes[name] in DTYPES[name], name)

    def check_values(self, tensors: Mapping[str, Tensor]) -> None:
        """Check the values of tensors whose shapes are right.

        Raises:
            ValueError: a value is not finite, out of order or out of range.
        """
        for name, tensor in tensors.items():
            expect(bool(tensor.isfinite().all()), name)
        if "ids" in tensors:
            ids = tensors["ids"]
            expect(bool((ids.diff() > 0).all()), "ids")  # sorted, so they are distinct
            expect(int(ids[0]) >= 0 and int(ids[-1]) < sum(self.channels), "ids")
        if self.is_calibrated:
            scores, levels = tensors["image_scores"], tensors["pixel_levels"]
            expect(bool((scores.diff() >= 0).all()), "image_scores")
            expect(bool((levels.diff() <= 0).all()), "pixel_levels")
        if "region" in tensors:
            mask = unpacked(tensors["region"], self.config["crop"])
            expect(packed(mask).equal(tensors["region"]) and bool(mask.any()), "region")
            positions = RegionOfInterest(mask, (self.grid[0], self.grid[1])).positions
            expect(len(positions) == self.n_looked_at, "region")


def expect(is_right: bool, name: str) -> None:
    """Raise a ValueError that names what is wrong with a file."""
    if not is_right:
        raise ValueError(f"its {name} is not as expected")


def _is_list(value: object, kind: type, longest: int) -> bool:
    return (
        type(value) is list
        and 0 < len(value) <= longest
        and all(type(item) is kind for item in value)
    )
