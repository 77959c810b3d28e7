"""The three ImageNet networks of the paper, up to the last layer whose feature map is used.

A network is a chain of named stages (``layer1`` of a ResNet, ``block7`` of an EfficientNet, counted
from 1). A feature layer is the name of a stage; nothing after the last one is run or kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from padim.config import PRECISIONS, TITLES
from padim.errors import ImageError, ModelError, unknown_name
from padim.weights import checksum, draw_weights, load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Stage:
    """A part of a network whose output can be used as a feature map.

    Attributes:
        name: such as ``layer1``.
        channels: of its output.
        stride: pixels of the image for each position of its output, per axis.
        module: what computes it from the output of the stage before.
    """

    name: str
    channels: int
    stride: int
    module: nn.Module


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a network before it is built.

    Attributes:
        title: the network's name in the literature.
        build: makes the whole network, untrained.
        stages: the network as a chain of stages, input first.
        layers: the paper's feature layers.
        weights_url: of the ImageNet weights; the file's name ends in its SHA-256.
    """

    title: str
    build: Callable[[], nn.Module]
    stages: Callable[[Any], list[Stage]]
    layers: tuple[str, ...]
    weights_url: str


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
BACKBONES: Mapping[str, BackboneSpec] = {
    "resnet18": BackboneSpec(
        title=TITLES["resnet18"],
        build=_resnet("resnet18"),
        stages=_resnet_stages,
        layers=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    ),
    "wide_resnet50_2": BackboneSpec(
        title=TITLES["wide_resnet50_2"],
        build=_resnet("wide_resnet50_2"),
        stages=_resnet_stages,
        layers=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    ),
    "efficientnet_b5": BackboneSpec(
        title=TITLES["efficientnet_b5"],
        build=_efficientnet_b5,
        stages=_efficientnet_stages,
        layers=("block7", "block20", "block26"),
        weights_url="https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
    ),
}


class Backbone(nn.Module):
    """A frozen network up to its last feature layer.

    Args:
        name: ``resnet18``, ``wide_resnet50_2`` or ``efficientnet_b5``.
        weights: ``imagenet`` (downloaded once, then cached by PyTorch), ``random`` (drawn from
            ``seed``; to try the program only), or the path of a file of weights, in which layers
            after the last feature layer may be missing.
        layers: the feature layers; None for the paper's.
        seed: of the random weights.
        precision: ``float32``, or ``bfloat16`` for the products of the convolutions.

    Attributes:
        layers: names of the feature layers, in the order in which the network computes them.
        channels: of the feature map of each layer.
        strides: pixels per position of each feature map.
        weights: as given, to say where they came from.
        checksum: of the weights up to the last feature layer, whatever file they came from.

    Raises:
        ModelError: an unknown name or layer, or weights that are not there, damaged, or of another
            network.

    Example:
        >>> backbone = Backbone("resnet18", weights="random")
        >>> backbone.channels, backbone.grid(224)
        ((64, 128, 256), (56, 56))
    """

    def __init__(
        self,
        name: str,
        weights: str | Path = "imagenet",
        layers: Sequence[str] | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise unknown_name("backbone", name, BACKBONES)
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS)
        spec = BACKBONES[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = spec.build()
            if str(weights) == "random":
                draw_weights(network)
        stages = spec.stages(network)
        used = _feature_stages(name, stages, spec.layers if layers is None else layers)
        self.name = name
        self.weights = str(weights)
        self.precision = precision
        self.layers = tuple(stage.name for stage in used)
        self.channels = tuple(stage.channels for stage in used)
        self.strides = tuple(stage.stride for stage in used)
        last = stages.index(used[-1])
        self.stages = nn.ModuleDict({stage.name: stage.module for stage in stages[: last + 1]})
        if str(weights) != "random":
            load_weights(network, self.stages, spec.title, spec.weights_url, weights)
        self.eval().requires_grad_(False)
        self.checksum = checksum(self.stages)
        _fold_batch_norms(self.stages)
        self._grids: dict[int, tuple[int, int]] = {}

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.parameters()).device

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are random, so that scores are no results of PaDiM."""
        return self.weights == "random"

    def grid(self, crop: int) -> tuple[int, int]:
        """Height and width of the largest feature map of a ``crop`` x ``crop`` image.

        About ``crop / min(strides)``; the padding of EfficientNets makes it one less for some
        sizes. So the stages up to that feature map are run once on a blank image.
        """
        if crop not in self._grids:
            largest = self.layers[self.strides.index(min(self.strides))]
            blank = torch.zeros(1, 3, crop, crop, device=self.device)
            with torch.inference_mode():
                for name, stage in self.stages.items():
                    blank = stage(blank)
                    if name == largest:
                        break
            self._grids[crop] = (blank.shape[2], blank.shape[3])
        return self._grids[crop]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B, 3, h, w), normalised with ``normalise``.

        Returns:
            A feature map (B, C_l, H_l, W_l), float32, for each of ``layers``.
        """
        if self.precision == "float32":
            return self._feature_maps(images)
        with torch.autocast(images.device.type, torch.bfloat16):
            return [feature_map.float() for feature_map in self._feature_maps(images)]

    def _feature_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        feature_maps = []
        for name, stage in self.stages.items():
            images = stage(images)
            if name in self.layers:
                feature_maps.append(images)
        return feature_maps


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Scale uint8 images (B, 3, h, w) to float32 with ImageNet's mean and standard deviation.

    The result is in channels-last order, in which convolutions on a CPU take up to half the time.

    Raises:
        ImageError: the images are not uint8, or not of that shape.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ImageError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; "
            "expected torch.uint8 (B, 3, height, width) with values 0 to 255"
        )
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    scaled = images.contiguous(memory_format=torch.channels_last).to(torch.float32).div_(255)
    return scaled.sub_(mean).div_(std)


def _feature_stages(
    backbone: str, stages: Sequence[Stage], layers: Sequence[str]
) -> tuple[Stage, ...]:
    """The stages named in ``layers``, in the order of the network."""
    names = [stage.name for stage in stages]
    if isinstance(layers, str) or not layers:
        raise ModelError(f"layers {layers!r}: expected a list of layer names", "layers")
    unknown = [layer for layer in layers if layer not in names]
    if unknown:
        raise ModelError(
            f"layers: {backbone} has no layer {', '.join(map(str, unknown))}; "
            f"it has {names[1]} to {names[-1]} and stem",
            "layers",
        )
    return tuple(stage for stage in stages if stage.name in layers)


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same map in a tenth less time.

    In the networks here, a batch norm that is registered right after a convolution is applied right
    after it.
    """
    children = list(module.named_children())
    for (name, child), (next_name, next_child) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, next_child))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        _fold_batch_norms(child)
