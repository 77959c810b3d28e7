"""Any network of timm as a backbone, by its intermediate features.

``forward_intermediates`` of timm works for convolutional networks and transformers alike, and gives
the feature maps of ``features_only``. Only this module needs the package ``timm``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from padim.config import TIMM, PaDiMConfig
from padim.errors import ModelError, nearest_name
from padim.feature_network import BackboneSpec, FeatureNetwork, Layer, choose_layers
from padim.weights import StateDict, fill_weights, read_state_dict

N_LAYERS = 3  # by default, as in the paper
FINEST_STRIDE = 4  # by default, as in the paper


class TimmNetwork(FeatureNetwork):
    """A network of timm up to its last feature layer."""

    def __init__(self, spec: TimmBackbone, network: Any, layers: tuple[Layer, ...]) -> None:
        indices = [spec.known.index(layer) for layer in layers]
        network.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
        super().__init__({"network": network}, layers)
        self._spec, self._indices = spec, indices

    @property
    def _network(self) -> Any:
        return self["network"]

    def feature_maps(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """See ``FeatureNetwork``."""
        side, spec, network = images.shape[-1], self._spec, self._network
        if spec.is_fixed and side != spec.input_size:
            raise spec.wrong_size(side)
        try:
            feature_maps = network.forward_intermediates(
                images, indices=self._indices, output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError as error:  # timm rejects a size, such as one that patches do not fit
            raise spec.wrong_size(side, str(error)) from error
        yield from feature_maps


@dataclass(frozen=True, kw_only=True)
class TimmBackbone(BackboneSpec):
    """A network of timm.

    Attributes:
        known: all its layers.
        input_size: side in pixels of its training images.
        is_fixed: whether it takes no other size.
        options: arguments of ``timm.create_model``.
    """

    known: tuple[Layer, ...]
    input_size: int
    is_fixed: bool
    options: tuple[tuple[str, bool], ...]
    folds_batch_norms: bool = False

    def load(self, layers: Sequence[str], weights: str) -> TimmNetwork:
        """See ``BackboneSpec``; timm initialises ``random`` weights."""
        used = choose_layers(self.name, self.known, layers)
        network = self._create(is_trained=weights == "imagenet")
        own = network.state_dict(keep_vars=True)
        whole = TimmNetwork(self, network, used)
        if weights not in ("imagenet", "random"):
            state = _native(read_state_dict(Path(weights)), network, weights)
            fill_weights(own, whole, self.name, state, weights)
        return whole

    def config(self, layers: Sequence[str] | None = None) -> PaDiMConfig:
        """The paper's, for the network's own image size, with the paper's ratio of the crop."""
        used = choose_layers(self.name, self.known, layers or self.layers)
        paper = PaDiMConfig()
        return PaDiMConfig(
            embedding_dim=min(paper.embedding_dim or 100, sum(layer.channels for layer in used)),
            resize=round(self.input_size * paper.resize / paper.crop),
            crop=self.input_size,
        )

    def wrong_size(self, side: int, reason: str = "") -> ModelError:
        """The error for images of a size that the network does not take."""
        reason = f" ({' '.join(reason.split())})" if reason else ""
        return ModelError(
            f"crop {side}: {self.name} takes no images of {side} x {side} pixels{reason}; "
            f"its own size is {self.input_size}",
            "crop",
        )

    def _create(self, is_trained: bool) -> Any:
        timm = _import_timm(self.name)
        name = self.name.removeprefix(TIMM)
        try:
            return timm.create_model(name, pretrained=is_trained, **dict(self.options))
        except Exception as error:  # any of three libraries raises: no network, no weights, no room
            if not is_trained:
                raise
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"weights: timm's weights of {self.name} cannot be downloaded ({reason}): give a "
                "file of them, .safetensors or .pth, instead of imagenet",
                "weights",
            ) from error


@lru_cache
def timm_spec(name: str) -> TimmBackbone:
    """The specification of a timm network, read from the network on the meta device.

    Args:
        name: ``timm/NAME``, or ``timm/NAME.TAG`` for weights that are not timm's default.

    Raises:
        ModelError: timm is not installed, or has no such network.
    """
    timm = _import_timm(name)
    network, options = _blank(timm, _checked(timm, name))
    config, info = network.pretrained_cfg, network.feature_info
    known = tuple(Layer(one["module"], one["num_chs"], one["reduction"]) for one in info)
    return TimmBackbone(
        name=name,
        title=name,
        layers=_default_layers(known),
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        known=known,
        input_size=config["input_size"][-1],
        is_fixed=bool(config.get("fixed_input_size")) and not options,
        options=tuple(options.items()),
    )


def _import_timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"backbone {name} needs a package: python -m pip install timm ({error})", "backbone"
        ) from error
    return timm


def _blank(timm: Any, name: str) -> tuple[Any, dict[str, bool]]:
    """The network on the meta device, and the option for images of any size, if it has one."""
    options = {"dynamic_img_size": True}
    with torch.device("meta"):
        try:
            return timm.create_model(name, **options), options
        except TypeError:  # it has no such option
            return timm.create_model(name), {}


def _checked(timm: Any, name: str) -> str:
    """Check a name, and return timm's own."""
    own = name.removeprefix(TIMM)
    architecture, _, tag = own.partition(".")
    known = timm.list_models()
    if architecture in known and tag:
        known = timm.list_models(f"{architecture}.*", pretrained=True)
    if own not in known:
        raise ModelError(
            f"backbone {name!r} is unknown to timm {timm.__version__}, whose list_models() has all "
            f"names{nearest_name(own, known)}",
            "backbone",
        )
    return own


def _default_layers(known: Sequence[Layer]) -> tuple[str, ...]:
    """As in the paper: the last layers of stride 4, 8 and 16, or of the next larger strides.

    In a network of one stride, such as a ViT: the blocks at a quarter, half and three quarters of
    the depth.
    """
    last = {layer.stride: layer.name for layer in known if layer.stride >= FINEST_STRIDE}
    if len(last) > 1:
        return tuple(last[stride] for stride in sorted(last)[:N_LAYERS])
    ends = [len(known) * part // (N_LAYERS + 1) for part in range(1, N_LAYERS + 1)]
    return tuple(dict.fromkeys(known[max(end - 1, 0)].name for end in ends))


def _native(state: StateDict, network: nn.Module, file: str) -> StateDict:
    """Convert weights to timm's names; timm has filters for those of other publishers."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), network)
    except Exception as error:  # a filter may raise anything for another network's file
        raise ModelError(
            f"weights {file} are not those of {type(network).__name__}: {error!r}", "weights"
        ) from error
