"""The three ImageNet networks of the paper, tapped at some layers and stopped after the last one.

A network is seen as a chain of named stages (``layer1`` of a ResNet, ``block7`` of an EfficientNet,
counted from 1), so a tap is a name and nothing after the last tap is ever run or kept.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from padim.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Stages = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a network before it is built.

    Attributes:
        title: the network's name as the literature writes it.
        build: makes the whole network, untrained.
        stages: the network as a chain of named modules, input first.
        taps: the stages the paper reads.
        weights_url: where the ImageNet weights come from; the file's name ends in their SHA-256.
    """

    title: str
    build: Callable[[], nn.Module]
    stages: Callable[[nn.Module], Stages]
    taps: tuple[str, ...]
    weights_url: str


def _resnet(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(_torchvision_models(), name)(weights=None)

    return build


def _torchvision_models() -> ModuleType:
    """``torchvision.models``, imported when it is needed, and without PyTorch's compiler.

    torchvision asks the compiler one question, for box operators that no network here has, and the
    answer takes an import of more than a second and 140 MB. So a stand-in answers: no.
    """
    name = "torch._dynamo.utils"
    stand_in = ModuleType(name)
    stand_in.is_compile_supported = lambda device_type: False
    found = sys.modules.setdefault(name, stand_in)
    try:
        from torchvision import models
    except ImportError:  # a torchvision that has more to ask
        if found is not stand_in:
            raise
        del sys.modules[name]
        from torchvision import models
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
    return models


def _resnet_stages(network: nn.Module) -> Stages:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    layers = [(name, getattr(network, name)) for name in ("layer1", "layer2", "layer3", "layer4")]
    return [("stem", stem), *layers]


def _efficientnet_b5() -> nn.Module:
    from efficientnet_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-b5")


def _efficientnet_stages(network: nn.Module) -> Stages:
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    blocks = [(f"block{count}", block) for count, block in enumerate(network._blocks, start=1)]
    return [("stem", stem), *blocks]


# IMAGENET1K_V1 for both ResNets: the V2 weights are another training, which the paper did not use.
BACKBONES: Mapping[str, BackboneSpec] = {
    "resnet18": BackboneSpec(
        title="ResNet-18",
        build=_resnet("resnet18"),
        stages=_resnet_stages,
        taps=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    ),
    "wide_resnet50_2": BackboneSpec(
        title="Wide ResNet-50-2",
        build=_resnet("wide_resnet50_2"),
        stages=_resnet_stages,
        taps=("layer1", "layer2", "layer3"),
        weights_url="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    ),
    "efficientnet_b5": BackboneSpec(
        title="EfficientNet-B5",
        build=_efficientnet_b5,
        stages=_efficientnet_stages,
        taps=("block7", "block20", "block26"),
        weights_url="https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
        "efficientnet-b5-b6417697.pth",
    ),
}


class Backbone(nn.Module):
    """A network up to its last tap, with weights, frozen.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``imagenet`` (downloaded once, then cached by PyTorch), ``random`` (drawn from
            ``seed``), or the path of a file of weights, of which only the layers up to the last tap
            are needed.
        layers: the taps; None for the paper's.
        seed: of the random weights.
        precision: that its convolutions multiply in, one of ``config.PRECISIONS``.

    Attributes:
        layers: names of the taps, in the order the network runs through them.
        channels: channels of each tap.
        weights: as given, to say where they came from.
        precision: as given.

    Raises:
        ModelError: an unknown layer, or weights that cannot be had or are another network's.
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
        spec = BACKBONES[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = spec.build()
            if str(weights) == "random":
                _draw_weights(network)
        stages = spec.stages(network)
        self.name = name
        self.weights = str(weights)
        self.precision = precision
        self.layers = _ordered_taps(name, [stage for stage, _ in stages], layers or spec.taps)
        last = [stage for stage, _ in stages].index(self.layers[-1])
        self.stages = nn.ModuleDict(stages[: last + 1])
        if str(weights) != "random":
            _load_weights(network, self.stages, spec, weights)
        self.eval().requires_grad_(False)
        self._checksum = _checksum(self.stages)
        _fold_batch_norms(self.stages)
        self.channels = self._count_channels()

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Run the network.

        Args:
            images: (B, 3, h, w), normalised with ``normalise``.

        Returns:
            A feature map (B, C_l, H_l, W_l), float32, for each tap, in the order of ``layers``.
        """
        if self.precision == "float32":
            return self._taps(images)
        with torch.autocast(images.device.type, torch.bfloat16):
            return [tap.float() for tap in self._taps(images)]

    def _taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        taps = []
        for name, stage in self.stages.items():
            images = stage(images)
            if name in self.layers:
                taps.append(images)
        return taps

    def checksum(self) -> str:
        """A checksum of the weights up to the last tap, whatever file they came from."""
        return self._checksum

    def _count_channels(self) -> tuple[int, ...]:
        """Asked of the network itself, once, on a small blank image."""
        with torch.inference_mode():
            return tuple(tap.shape[1] for tap in self(torch.zeros(1, 3, 64, 64)))


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 images (B, 3, h, w) to float32 with ImageNet's mean and standard deviation.

    The result is in channels-last order, in which convolutions on a CPU run up to half as long.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    scaled = images.contiguous(memory_format=torch.channels_last).to(torch.float32).div_(255)
    return scaled.sub_(mean).div_(std)


def _checksum(stages: nn.ModuleDict) -> str:
    summary = hashlib.sha256()
    for name, tensor in sorted(stages.state_dict().items()):
        if tensor.is_floating_point():
            values = tensor.detach().to(torch.float32, memory_format=torch.contiguous_format)
            summary.update(name.encode() + values.numpy().tobytes())
    return summary.hexdigest()[:16]


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same map in a tenth less time.

    In the networks here a batch norm that is registered right after a convolution is applied right
    after it.
    """
    children = list(module.named_children())
    for (name, child), (next_name, next_child) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, next_child))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        _fold_batch_norms(child)


def _ordered_taps(name: str, stages: list[str], layers: Sequence[str]) -> tuple[str, ...]:
    unknown = [layer for layer in layers if layer not in stages]
    if unknown:
        raise ModelError(
            f"{name} has no layer {', '.join(unknown)}; it has {stages[1]} to {stages[-1]} and stem"
        )
    return tuple(stage for stage in stages if stage in layers)


def _draw_weights(network: nn.Module) -> None:
    """He's initialisation of every convolution, by its outputs, so that deep taps get a signal."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # PyTorch's own counts all groups, which starves a depthwise convolution.
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)


def _load_weights(
    network: nn.Module, used: nn.ModuleDict, spec: BackboneSpec, weights: str | Path
) -> None:
    """Load ImageNet weights or a file's into ``network``, of which ``used`` is the part that runs.

    Layers after the last tap may be missing; anything the network does not have may not be there,
    for then the file is another network's (ResNet-34's holds all that ResNet-18 needs).
    """
    if str(weights) == "imagenet":
        state, origin = _download(spec), spec.weights_url
    else:
        state, origin = _read_state_dict(Path(weights)), str(weights)
    bad = [name for name, tensor in state.items() if not _is_usable(tensor)]
    if bad:
        raise ModelError(
            f"weights {origin}: {bad[0]} is sparse, complex or not finite; give trained weights"
        )
    own = network.state_dict(keep_vars=True)
    running = {id(tensor) for tensor in used.state_dict(keep_vars=True).values()}
    needed = [name for name, tensor in own.items() if id(tensor) in running and tensor.dim() > 0]
    foreign = [name for name in state if name not in own]
    missing = [name for name in needed if name not in state]
    misshapen = [name for name in needed if name in state and state[name].shape != own[name].shape]
    for problem, names in (
        ("lacks", missing),
        ("has", foreign),
        ("has another shape of", misshapen),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(
                f"weights {origin} are not those of {spec.title}: "
                f"the file {problem} {names[0]}{more}"
            )
    network.load_state_dict({name: state[name] for name in state if name in needed}, strict=False)


def _is_usable(tensor: torch.Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_plain and not tensor.is_complex() and bool(tensor.isfinite().all())


def _download(spec: BackboneSpec) -> dict[str, torch.Tensor]:
    file = Path(torch.hub.get_dir(), "checkpoints", Path(spec.weights_url).name)
    try:
        return torch.hub.load_state_dict_from_url(
            spec.weights_url, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:  # no network, no room, another hash, or a damaged file in the cache
        if file.is_file():
            raise ModelError(f"weights file {file} is damaged; delete it, and run again") from error
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the ImageNet weights of {spec.title} cannot be had ({reason}): "
            f"fetch {spec.weights_url} and put it at {file}, or pass the file with --weights FILE"
        ) from error


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """A file of tensors by name, or one with such a dictionary under ``state_dict``."""
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ModelError(f"weights file {path} {what}; give imagenet, random or a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats, for which there is a line below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds on a file that is something else
        raise ModelError(
            f"weights file {path} cannot be loaded: expected a state_dict saved by torch.save, "
            "tensors only"
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(torch.is_tensor(item) for item in state.values()):
        raise ModelError(
            f"weights file {path} holds no state_dict, a dictionary of tensors by name"
        )
    return state
