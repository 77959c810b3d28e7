"""A frozen network as a backbone: the paper's three, and those of timm.

``feature_network`` defines the interface. The paper's networks are in ``paper_backbones``;
``timm/NAME`` is a network of the package timm (``timm_backbones``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from padim.config import PRECISIONS, TIMM, PaDiMConfig
from padim.errors import ImageError, ModelError, unknown_name
from padim.feature_network import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec
from padim.paper_backbones import BACKBONES
from padim.parallel import fork_safe
from padim.weights import checksum

# Layers whose result for an image has the same digits at every place in a batch. Others are
# vectorised across the batch, and the last few values, computed one by one, round differently.
PLACE_FREE = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Identity)


class Float32Module(nn.Module):
    """A module that moves between devices, but stays float32: it needs the precision."""

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
            ``seed``; to try the program only), or the path of a weights file, in which layers
            after the last feature layer may be missing.
        layers: the feature layers; None for the paper's, or for the defaults of a timm network.
        seed: of the random weights.
        precision: ``float32``, or ``bfloat16`` for the products of the convolutions.

    Attributes:
        layers: names of the feature layers, in the order in which the network computes them.
        channels: number of channels of each feature map.
        strides: pixels per position of each feature map.
        weights: as given.
        mean: mean of each colour, for ``normalise``.
        std: standard deviation of each colour, for ``normalise``.
        checksum: of the weights up to the last feature layer, and of ``mean`` and ``std`` if they
            are not ImageNet's.
        is_place_free: whether, on a CPU, the feature maps of an image have the same digits at
            every place in a batch.

    Raises:
        ModelError: an unknown name or layer; weights that are missing, damaged, or of another
            network; or timm is not installed.

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
        """Whether the weights are random, so that scores are meaningless."""
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
        """Normalise uint8 images (B, 3, h, w) with the network's ``mean`` and ``std``."""
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
    """The specification of a network.

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
    """Build networks in float32, whatever default type the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same map in a tenth less time."""
    children = list(module.named_children())
    for (name, child), (next_name, next_child) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, next_child))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        _fold_batch_norms(child)
