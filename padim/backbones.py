"""Networks up to the last layer whose feature map is used: the paper's three, and those of timm.

A network of the paper is a chain of named stages (``layer1`` of a ResNet, ``block7`` of an
EfficientNet, counted from 1). A feature layer is the name of a stage; nothing after the last one is
run or kept. ``timm/NAME`` is a network of the package timm: ``padim.timm_backbones``.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from padim.config import PRECISIONS, TIMM, TITLES, PaDiMConfig
from padim.errors import ImageError, ModelError, nearest_name, unknown_name
from padim.parallel import fork_safe
from padim.weights import checksum, draw_weights, load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIP = 64  # width of an image of which only the height matters
# Layers that give an image the same digits wherever it is in a batch. Others are computed in
# vectors across the whole batch, and the last few numbers one by one, which rounds differently.
PLACE_FREE = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Identity)


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
        layers: the feature layers, in the order of the network. Strides never fall along it.
    """

    def __init__(self, modules: Mapping[str, nn.Module], layers: tuple[Layer, ...]) -> None:
        super().__init__(modules)
        self.layers = layers

    def feature_maps(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The feature map of each layer, in order, for normalised images (B, 3, h, w)."""
        raise NotImplementedError

    def grid(self, crop: int) -> tuple[int, int]:
        """Height and width of the first feature map, the largest: from shapes without values."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        shapes = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        blank = torch.empty(1, 3, crop, crop, dtype=torch.float32, device="meta")
        largest = next(deepcopy(self, shapes).feature_maps(blank))
        return largest.shape[2], largest.shape[3]


class StageChain(FeatureNetwork):
    """Stages by name, each computed from the one before when a feature map is asked for."""

    def feature_maps(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """As ``FeatureNetwork`` has it."""
        names = {layer.name for layer in self.layers}
        for name, stage in self.items():
            images = stage(images)
            if name in names:
                yield images

    def grid(self, crop: int) -> tuple[int, int]:
        """As ``FeatureNetwork`` has it, from a strip: in these networks an axis is independent.

        Shapes without values need a package for symbols, whose import takes a second.
        """
        blank = next(self.parameters()).new_zeros(1, 3, crop, min(crop, STRIP))
        side = next(self.feature_maps(blank)).shape[2]
        return side, side


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(ABC):
    """What is known of a network before its weights are loaded.

    Attributes:
        name: of the network, as given to ``Backbone``.
        title: its name in the literature.
        layers: the default feature layers.
        mean: of the colours of the images that the network was trained on, in units of 255.
        std: their standard deviation, likewise.
        folds_batch_norms: whether every batch norm that is registered right after a convolution is
            applied right after it, so that it may be folded into it.
    """

    name: str
    title: str
    layers: tuple[str, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    folds_batch_norms: bool = True

    @abstractmethod
    def load(self, layers: Sequence[str], weights: str) -> FeatureNetwork:
        """Build the network up to the last of ``layers``; arguments as those of ``Backbone``."""

    @abstractmethod
    def config(self, layers: Sequence[str] | None = None) -> PaDiMConfig:
        """The default configuration, with these feature layers."""


@dataclass(frozen=True, kw_only=True)
class PaperBackbone(BackboneSpec):
    """A network of the paper.

    Attributes:
        build: makes the whole network, untrained.
        stages: the network as a chain of stages, input first.
        weights_url: of the ImageNet weights; the file's name ends in its SHA-256.
    """

    build: Callable[[], nn.Module]
    stages: Callable[[Any], list[Stage]]
    weights_url: str

    def load(self, layers: Sequence[str], weights: str) -> StageChain:
        """As ``BackboneSpec`` has it."""
        network = self.build()
        if weights == "random":
            draw_weights(network)
        stages = self.stages(network)
        used = choose_layers(self.name, stages, layers)
        kept = stages[: stages.index(used[-1]) + 1]
        chain = StageChain({stage.name: stage.module for stage in kept}, used)
        if weights != "random":
            load_weights(network, chain, self.title, self.weights_url, weights)
        return chain

    def config(self, layers: Sequence[str] | None = None) -> PaDiMConfig:
        """The paper's configuration."""
        return PaDiMConfig.of_paper(self.name)


def _resnet(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision import models

        return getattr(models, name)(weights=None)

    return build


def _resnet_stages(network: Any) -> list[Stage]:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = [Stage("stem", network.conv1.out_channels, 4, stem)]
    for index in range(1, 5):
        layer = getattr(network, f"layer{index}")
        convolutions = [m for m in layer[-1].modules() if isinstance(m, nn.Conv2d)]
        stride = 2 ** (index + 1)
        stages.append(Stage(f"layer{index}", convolutions[-1].out_channels, stride, layer))
    return stages


def _efficientnet_b5() -> nn.Module:
    from efficientnet_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-b5")


def _efficientnet_stages(network: Any) -> list[Stage]:
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    stages = [Stage("stem", network._conv_stem.out_channels, 2, stem)]
    for count, block in enumerate(network._blocks, start=1):
        stride = stages[-1].stride * block._depthwise_conv.stride[0]
        channels = block._project_conv.out_channels
        stages.append(Stage(f"block{count}", channels, stride, block))
    return stages


# IMAGENET1K_V1 for both ResNets: the V2 weights are another training, which the paper did not use.
BACKBONES: Mapping[str, PaperBackbone] = {
    "resnet18": PaperBackbone(
        name="resnet18",
        title=TITLES["resnet18"],
        build=_resnet("resnet18"),
        stages=_resnet_stages,
        layers=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    ),
    "wide_resnet50_2": PaperBackbone(
        name="wide_resnet50_2",
        title=TITLES["wide_resnet50_2"],
        build=_resnet("wide_resnet50_2"),
        stages=_resnet_stages,
        layers=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    ),
    "efficientnet_b5": PaperBackbone(
        name="efficientnet_b5",
        title=TITLES["efficientnet_b5"],
        build=_efficientnet_b5,
        stages=_efficientnet_stages,
        layers=("block7", "block20", "block26"),
        weights_url="https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
    ),
}


class Float32Module(nn.Module):
    """A module that moves between devices, but stays float32: its numbers need the digits."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        if fn(torch.empty(0, dtype=torch.float32)).dtype != torch.float32:
            raise ModelError(
                f"{type(self).__name__} computes in float32; half(), double() and other types are "
                'not for it (Backbone(..., precision="bfloat16") makes the network faster)'
            )
        return super()._apply(fn, recurse)


class Backbone(Float32Module):
    """A frozen network up to its last feature layer.

    Args:
        name: ``resnet18``, ``wide_resnet50_2``, ``efficientnet_b5``, or ``timm/NAME`` for a
            network of timm, such as ``timm/convnext_tiny`` or, with its weights named,
            ``timm/resnet50.a1_in1k``.
        weights: ``imagenet`` (downloaded once, then cached by PyTorch), ``random`` (drawn from
            ``seed``; to try the program only), or the path of a file of weights, in which layers
            after the last feature layer may be missing.
        layers: the feature layers; None for the paper's, or for those that fit a network of timm.
        seed: of the random weights.
        precision: ``float32``, or ``bfloat16`` for the products of the convolutions.

    Attributes:
        layers: names of the feature layers, in the order in which the network computes them.
        channels: of the feature map of each layer.
        strides: pixels per position of each feature map.
        weights: as given, to say where they came from.
        mean: of each colour, which ``normalise`` subtracts, and ``std``, which it divides by.
        checksum: of the weights up to the last feature layer, whatever file they came from, and of
            ``mean`` and ``std`` if they are not ImageNet's.
        is_place_free: whether an image on a CPU has the same feature maps, to the last digit,
            wherever it is in a batch.

    Raises:
        ModelError: an unknown name or layer, weights that are not there, damaged, or of another
            network, or timm is not installed.

    Example:
        >>> backbone = Backbone("resnet18", weights="random")
        >>> backbone.channels, backbone.grid(224)
        ((64, 128, 256), (56, 56))
    """

    @fork_safe()
    def __init__(
        self,
        name: str,
        weights: str | Path = "imagenet",
        layers: Sequence[str] | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        spec = find_spec(name)
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS)
        with torch.random.fork_rng(devices=[]), _default_float32():
            torch.manual_seed(seed)
            self.stages = spec.load(spec.layers if layers is None else layers, str(weights))
        self.name = name
        self.weights = str(weights)
        self.precision = precision
        used = self.stages.layers
        self.layers = tuple(layer.name for layer in used)
        self.channels = tuple(layer.channels for layer in used)
        self.strides = tuple(layer.stride for layer in used)
        self.mean, self.std = spec.mean, spec.std
        self.eval().requires_grad_(False)
        is_imagenets = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        self.checksum = checksum(self.stages, "" if is_imagenets else f"{self.mean} {self.std}")
        if spec.folds_batch_norms:
            _fold_batch_norms(self.stages)
        innermost = (module for module in self.modules() if not list(module.children()))
        self.is_place_free = all(type(module) in PLACE_FREE for module in innermost)
        self._grids: dict[int, tuple[int, int]] = {}

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.parameters()).device

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are random, so that scores are no results of PaDiM."""
        return self.weights == "random"

    def config(self) -> PaDiMConfig:
        """The paper's configuration of the network, or the default for one of timm."""
        return find_spec(self.name).config(self.layers)

    @fork_safe()
    def grid(self, crop: int) -> tuple[int, int]:
        """Height and width of the largest feature map of a ``crop`` x ``crop`` image.

        About ``crop / min(strides)``; the padding of EfficientNets makes it one less for some
        sizes.

        Raises:
            ModelError: the network does not take images of this size.
        """
        if crop not in self._grids:
            with torch.no_grad():
                self._grids[crop] = self.stages.grid(crop)
        return self._grids[crop]

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Uint8 images (B, 3, h, w) as the network takes them; see ``normalise``."""
        return normalise(images, self.mean, self.std)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B, 3, h, w), as ``normalise`` makes them.

        Returns:
            A feature map (B, C_l, H_l, W_l), float32, for each of ``layers``.
        """
        if self.precision == "float32":
            return list(self.stages.feature_maps(images))
        with torch.autocast(images.device.type, torch.bfloat16):
            return [feature_map.float() for feature_map in self.stages.feature_maps(images)]


def find_spec(name: str) -> BackboneSpec:
    """What is known of a network.

    Raises:
        ModelError: the name is unknown, or timm is not installed.
    """
    if str(name).startswith(TIMM):
        from padim.timm_backbones import timm_spec

        return timm_spec(name)
    if name not in BACKBONES:
        raise unknown_name("backbone", name, [*BACKBONES, f"{TIMM}NAME"])
    return BACKBONES[name]


def normalise(
    images: torch.Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """Scale uint8 images (B, 3, h, w) to float32 with the mean and the deviation of each colour.

    The result is in channels-last order, in which convolutions on a CPU take up to half the time.

    Raises:
        ImageError: the images are not uint8, or not of that shape.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ImageError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; "
            "expected torch.uint8 (B, 3, height, width) with values 0 to 255"
        )
    centre, scale = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(3, 1, 1)
        for values in (mean, std)
    )
    scaled = images.contiguous(memory_format=torch.channels_last).to(torch.float32).div_(255)
    return scaled.sub_(centre).div_(scale)


@contextmanager
def _default_float32() -> Iterator[None]:
    """Networks are built in PyTorch's default type, which a caller may have set to another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


LayerKind = TypeVar("LayerKind", bound=Layer)


def choose_layers(
    backbone: str, known: Sequence[LayerKind], layers: Sequence[str]
) -> tuple[LayerKind, ...]:
    """The layers named in ``layers``, in the order of the network.

    Raises:
        ModelError: there is none, or one that the network does not have.
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


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same map in a tenth less time."""
    children = list(module.named_children())
    for (name, child), (next_name, next_child) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, next_child))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        _fold_batch_norms(child)
