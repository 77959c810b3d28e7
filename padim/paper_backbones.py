"""The three networks of the paper, each a chain of named stages.

Stages are ``layer1`` to ``layer4`` of a ResNet, and the blocks of an EfficientNet, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from padim.config import TITLES, PaDiMConfig
from padim.feature_network import BackboneSpec, Stage, StageChain, choose_layers
from padim.weights import draw_weights, load_weights


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
        """See ``BackboneSpec``."""
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


# IMAGENET1K_V1 for both ResNets, as in the paper: the V2 weights were trained differently.
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
