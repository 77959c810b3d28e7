"""The interface of a network: feature layers with channels and strides, and their feature maps.

A feature layer is a named place in a network. Nothing after the last one is run or kept.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from padim.config import PaDiMConfig
from padim.errors import ModelError, nearest_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIP = 64  # width of the image by which ``StageChain.grid`` measures the height


@dataclass(frozen=True)
class Layer:
    """A place in a network whose output can be used as a feature map.

    Attributes:
        name: such as ``layer1``.
        channels: of its output.
        stride: pixels of the image for each position of its output, per axis.
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Stage(Layer):
    """A layer, and the ``module`` that computes it from the output of the stage before."""

    module: nn.Module


class FeatureNetwork(nn.ModuleDict):
    """A network up to its last feature layer.

    Args:
        modules: the parts of the network.
        layers: the feature layers, in the order of the network. Strides never decrease.
    """

    def __init__(self, modules: Mapping[str, nn.Module], layers: tuple[Layer, ...]) -> None:
        super().__init__(modules)
        self.layers = layers

    def feature_maps(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The feature map of each layer, in order, for normalised images (B, 3, h, w)."""
        raise NotImplementedError

    def grid(self, crop: int) -> tuple[int, int]:
        """Height and width of the first, largest feature map, computed on the meta device."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        shapes = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        blank = torch.empty(1, 3, crop, crop, dtype=torch.float32, device="meta")
        largest = next(deepcopy(self, shapes).feature_maps(blank))
        return largest.shape[2], largest.shape[3]


class StageChain(FeatureNetwork):
    """A chain of named stages; a stage runs when a feature map after it is requested."""

    def feature_maps(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """See ``FeatureNetwork``."""
        names = {layer.name for layer in self.layers}
        for name, stage in self.items():
            images = stage(images)
            if name in names:
                yield images

    def grid(self, crop: int) -> tuple[int, int]:
        """See ``FeatureNetwork``; from a narrow image, since the axes are independent here.

        The meta device would import a package that takes a second to load.
        """
        blank = next(self.parameters()).new_zeros(1, 3, crop, min(crop, STRIP))
        side = next(self.feature_maps(blank)).shape[2]
        return side, side


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(ABC):
    """The properties of a network before its weights are loaded.

    Attributes:
        name: of the network, as given to ``Backbone``.
        title: its name in the literature.
        layers: the default feature layers.
        mean: mean of each colour of the network's training images, for values 0 to 1.
        std: standard deviation of each colour.
        folds_batch_norms: whether a batch norm registered right after a convolution is also
            applied right after it, so that it can be folded into it.
    """

    name: str
    title: str
    layers: tuple[str, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    folds_batch_norms: bool = True

    @abstractmethod
    def load(self, layers: Sequence[str], weights: str) -> FeatureNetwork:
        """Build the network up to the last of ``layers``; arguments as for ``Backbone``."""

    @abstractmethod
    def config(self, layers: Sequence[str] | None = None) -> PaDiMConfig:
        """The default configuration, with these feature layers."""


LayerKind = TypeVar("LayerKind", bound=Layer)


def choose_layers(
    backbone: str, known: Sequence[LayerKind], layers: Sequence[str]
) -> tuple[LayerKind, ...]:
    """The layers named in ``layers``, in the order of the network.

    Raises:
        ModelError: no layers, or a layer that the network does not have.
    """
    names = [layer.name for layer in known]
    if isinstance(layers, str) or not layers:
        raise ModelError(f"layers {layers!r}: expected a list of layer names", "layers")
    unknown = [layer for layer in layers if layer not in names]
    if unknown:
        there = ", ".join(names) if len(names) < 8 else f"{names[0]} to {names[-1]}"
        if names[0] == "stem":
            there = f"{names[1]} to {names[-1]} and stem"
        raise ModelError(
            f"layers: {backbone} has no layer {', '.join(map(str, unknown))}; it has {there}"
            f"{nearest_name(unknown[0], names)}",
            "layers",
        )
    return tuple(layer for layer in known if layer.name in layers)
