"""The weights of a network: load, check, draw, checksum."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import nn

from padim.errors import ModelError, short_text
from padim.storage.tensor_file import open_tensors

StateDict = Mapping[str, torch.Tensor]


def load_weights(
    network: nn.Module, used: nn.Module, title: str, url: str, weights: str | Path
) -> None:
    """Load weights into the part of a network that is used.

    Args:
        network: the whole network.
        used: the part of it that is run.
        title: its name, for messages.
        url: of its ImageNet weights.
        weights: ``imagenet`` or a file.

    Raises:
        ModelError: the weights are missing, damaged, or of another network.
    """
    if str(weights) == "imagenet":
        state, origin = _download(url, title), url
    else:
        state, origin = read_state_dict(Path(weights)), str(weights)
    fill_weights(network.state_dict(keep_vars=True), used, title, state, origin)


def fill_weights(
    own: StateDict, used: nn.Module, title: str, state: StateDict, origin: str
) -> None:
    """Copy weights into the part of a network that is used.

    Layers outside that part may be missing. A layer that the network does not have is an error: for
    example, ResNet-34's file has all layers of ResNet-18.

    Args:
        own: the parameters and buffers of the whole network, not copies.
        used: the part of it that is run.
        title: its name, for messages.
        state: the weights.
        origin: where they come from, for messages.

    Raises:
        ModelError: they are of another network, or damaged.
    """
    running = {id(tensor) for tensor in used.state_dict(keep_vars=True).values()}
    needed = [
        name for name, tensor in own.items() if id(tensor) in running and tensor.is_floating_point()
    ]
    problems = {
        "lacks": [name for name in needed if name not in state],
        "has": [name for name in state if name not in own],
        "has another shape of": [
            name for name in needed if name in state and state[name].shape != own[name].shape
        ],
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            what = f"{problem} {short_text(names[0])}{more}"
            raise ModelError(
                f"weights {origin} are not those of {title}: the file {what}",
                "weights",
            )
    for name in needed:
        _check_values(name, state[name], origin)
    with torch.no_grad():
        for name in needed:
            own[name].copy_(state[name])


def draw_weights(network: nn.Module) -> None:
    """Draw every convolution by He's initialisation, so that deep layers get a signal."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # ``kaiming_normal_`` counts the outputs of all groups: too many if depthwise.
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)


def checksum(module: nn.Module, text: str = "") -> str:
    """The first 16 hexadecimal digits of a SHA-256 over all names and float values, and a text."""
    summary = hashlib.sha256(text.encode())
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point():
            values = tensor.detach().to(torch.float32, memory_format=torch.contiguous_format)
            summary.update(name.encode() + values.numpy().tobytes())
    return summary.hexdigest()[:16]


def _check_values(name: str, tensor: torch.Tensor, origin: str) -> None:
    """Check that a tensor is finite in float32, the type of the network."""
    if not tensor.is_floating_point() or not bool(tensor.float().isfinite().all()):
        raise ModelError(
            f"weights {origin}: {name} is not dense, real and finite; give trained weights",
            "weights",
        )


def _download(url: str, title: str) -> StateDict:
    file = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:  # no network, no room, another hash, or a damaged file in the cache
        if file.is_file():
            raise ModelError(f"weights file {file} is damaged; delete it, and run again") from error
        reason = " ".join(str(error).split())
        raise ModelError(
            f"weights: the ImageNet weights of {title} cannot be downloaded ({reason}): "
            f"fetch {url} and put it at {file}, or give the file instead of imagenet",
            "weights",
        ) from error


def read_state_dict(path: Path) -> StateDict:
    """Read a file of named tensors, at its top level or under ``state_dict``.

    Raises:
        ModelError: it is missing, damaged, or holds something else.
    """
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise ModelError(
            f"weights: file {path} {problem}; give imagenet, random or a file", "weights"
        )
    try:
        state = _load_tensors(path)
    except Exception as error:  # torch.load raises a dozen types on a file of another kind
        raise ModelError(
            f"weights file {path} cannot be loaded: expected a state_dict saved by torch.save, "
            "tensors only, or a file of tensors named *.safetensors"
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    is_named = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not is_named:
        raise ModelError(
            f"weights file {path} holds no state_dict, a dictionary of tensors by name"
        )
    n_bytes = path.stat().st_size
    for name, tensor in state.items():
        if not _is_plain(tensor, n_bytes):
            raise ModelError(
                f"weights {path}: {short_text(name)} is not dense, real and in the file; "
                "give trained weights",
                "weights",
            )
    return state


def _load_tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with open_tensors(path) as file:
            return {name: file.read(name) for name in file.shapes}
    if is_zipfile(path):
        with ZipFile(path) as archive:
            entries = archive.infolist()
        # ``torch.save`` does not compress: an archive that inflates or overlaps is not its own.
        n_bytes = sum(entry.file_size for entry in entries)
        if any(entry.compress_type for entry in entries) or n_bytes > path.stat().st_size:
            raise ValueError("compressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats, which the message covers
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def _is_plain(tensor: torch.Tensor, n_bytes: int) -> bool:
    """Whether a tensor is an ordinary one whose values are in a file of ``n_bytes``.

    A tensor can be expanded from one value to any size, so check this before reading values.
    """
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_nested:
        return False
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    is_real = is_dense and not (tensor.is_quantized or tensor.is_complex() or tensor.is_neg())
    return is_real and tensor.numel() * tensor.element_size() <= n_bytes
