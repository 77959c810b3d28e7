"""The file of a fitted model: a header of plain values, and tensors; never code.

What is read is not trusted: every value is checked before it is used, and a checksum reveals a file
whose bytes have changed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from padim.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone
from padim.calibration import N_PIXEL_RATES, Calibration
from padim.config import PRECISIONS, TIMM, PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.errors import ModelError
from padim.files import written_whole
from padim.gaussian import PatchGaussian
from padim.linalg import pack_triangles, unpack_triangles
from padim.model import PaDiM
from padim.parallel.blocks import is_out_of_memory
from padim.reduction import Reduction

FORMAT = "padim-model"
VERSION = 2

Tensors = Mapping[str, "torch.Tensor | None"]


@dataclass(frozen=True)
class ModelHeader:
    """All of a model that is not a tensor.

    Attributes:
        backbone: its name.
        layers: the feature layers.
        channels: of each layer.
        weights: where the backbone's came from: ``imagenet``, ``random`` or a file.
        weights_checksum: of the backbone's weights.
        config: the values of a ``PaDiMConfig``.
        grid: [H, W].
        is_low_rank: the form of the Gaussians' factors.
        network_precision: of the products of the backbone's convolutions.
        mean: of each colour, by which the backbone's images are normalised, and ``std``.
        torch: version of PyTorch that wrote the file.
    """

    backbone: str
    layers: list[str]
    channels: list[int]
    weights: str
    weights_checksum: str
    config: dict[str, Any]
    grid: list[int]
    is_low_rank: bool
    network_precision: str = "float32"
    mean: list[float] = field(default_factory=lambda: list(IMAGENET_MEAN))
    std: list[float] = field(default_factory=lambda: list(IMAGENET_STD))
    torch: str = str(torch.__version__)


def save_model(model: PaDiM, path: Path, is_half: bool = False) -> None:
    """Write a fitted model; see ``PaDiM.save``.

    Raises:
        ModelError: float16 cannot hold the factors.
    """
    gaussian, embedding = model.gaussian, model.embedding
    assert isinstance(gaussian, PatchGaussian) and embedding is not None
    dtype = torch.float16 if is_half else torch.float32
    if gaussian.is_low_rank:
        factor = gaussian.factor.cpu().to(dtype)
    else:
        factor = pack_triangles(gaussian.factor, dtype)
    if is_half and not factor.isfinite().all():
        raise ModelError(
            f"with epsilon {model.config.epsilon:g} factors are larger than float16 can hold: "
            "store them as float32"
        )
    tensors = {
        "ids": embedding.ids,
        "projection": embedding.projection,
        "mean": gaussian.mean,
        "factor": factor,
        "image_scores": None if model.calibration is None else model.calibration.image_scores,
        "pixel_levels": None if model.calibration is None else model.calibration.pixel_levels,
    }
    header = ModelHeader(
        backbone=model.backbone.name,
        layers=list(model.backbone.layers),
        channels=list(model.backbone.channels),
        weights=model.backbone.weights,
        weights_checksum=model.backbone.checksum,
        config=asdict(model.config),
        grid=list(model.grid),
        is_low_rank=gaussian.is_low_rank,
        network_precision=model.backbone.precision,
        mean=list(model.backbone.mean),
        std=list(model.backbone.std),
    )
    write_model_file(path, header, tensors)


def load_model(
    path: Path,
    backbone: Backbone | None = None,
    weights: str | None = None,
    device: torch.device | None = None,
) -> PaDiM:
    """Read a fitted model; see ``PaDiM.load``.

    Args:
        path: the file.
        backbone: the network that it was fitted with; None to load it.
        weights: ``imagenet``, ``random`` or a file for that; None for those that the model names.
        device: where the model computes; None for where the backbone is.

    Raises:
        ModelError: as ``PaDiM.load``.
    """
    header, tensors = read_model_file(path)
    if backbone is None:
        backbone = _load_backbone(header, weights, path)
    if device is not None:
        backbone = backbone.to(device)
    expected, found = (
        f"{name} {'+'.join(layers)} in {precision}, weights {checksum}, images normalised by "
        f"mean {list(mean)} and std {list(std)}"
        for name, layers, precision, checksum, mean, std in (
            (
                *(header.backbone, header.layers, header.network_precision),
                *(header.weights_checksum, header.mean, header.std),
            ),
            (
                *(backbone.name, backbone.layers, backbone.precision),
                *(backbone.checksum, backbone.mean, backbone.std),
            ),
        )
    )
    if found != expected:
        raise ModelError(f"model {path} was fitted with {expected}; this is {found}")
    model = PaDiM(backbone, PaDiMConfig(**header.config))
    if list(model.grid) != header.grid or list(backbone.channels) != header.channels:
        raise ModelError(f"model file {path} does not fit its backbone; fit it again")
    _fill(model, header, tensors)
    return model


def _load_backbone(header: ModelHeader, weights: str | None, path: Path) -> Backbone:
    chosen = header.weights if weights is None else weights
    is_file = chosen not in ("imagenet", "random")
    if weights is None and is_file and not Path(chosen).is_file():
        raise ModelError(
            f"weights: model {path} was fitted with {chosen}, which does not exist any more; "
            "give the file of these weights",
            "weights",
        )
    return Backbone(header.backbone, chosen, header.layers, precision=header.network_precision)


def _fill(model: PaDiM, header: ModelHeader, tensors: Tensors) -> None:
    """Give a new model what was learned; the Gaussians stay on the CPU if the GPU is full."""
    device = model.device
    reduction = Reduction(tensors["ids"], tensors["projection"])
    model.embedding = PatchEmbedding(model.backbone.channels, reduction).to(device)
    mean, factor = tensors["mean"], tensors["factor"]
    assert mean is not None and factor is not None
    factor = factor.float()
    if not header.is_low_rank:
        factor = unpack_triangles(factor, model.embedding.dim)
    gaussian = PatchGaussian(mean, factor, header.is_low_rank, model.config.epsilon)
    try:
        model.gaussian = gaussian.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        model.gaussian = gaussian.cpu()
    scores, levels = tensors["image_scores"], tensors["pixel_levels"]
    if scores is not None and levels is not None:
        model.calibration = Calibration(scores, levels).to(device)


def write_model_file(path: Path, header: ModelHeader, tensors: Tensors) -> None:
    """Write a model, complete or not at all.

    Args:
        path: the file.
        header: as above.
        tensors: ``ids`` (d,) or ``projection`` (C, d); ``mean`` (P, d); ``factor`` (P, N, d), or
            (P, d (d+1) / 2) in the dense form, float32 or float16; ``image_scores`` (n,) and
            ``pixel_levels`` (601,), None without calibration.
    """
    stored = {
        name: None if tensor is None else tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    content = {"format": FORMAT, "version": VERSION, "header": asdict(header), "tensors": stored}
    content["checksum"] = _checksum(asdict(header), stored)
    with written_whole(path) as partial:
        try:
            with partial.open("wb") as file:  # PyTorch itself would refuse a name like "\\.pt"
                torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, behind PyTorch's own check
                raise error.__context__ from None
            raise


def read_model_file(path: Path) -> tuple[ModelHeader, dict[str, torch.Tensor | None]]:
    """Read a model.

    Raises:
        ModelError: the file is missing, damaged, not a model, or of another version.
    """
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist; expected one that PaDiM.save wrote")
    damaged = f"model file {path} is damaged, or not a model of this program"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # torch.load raises a dozen types on a file of another kind
        raise ModelError(damaged) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"file {path} is not a model of this program")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise ModelError(
            f"model file {path} is of version {found}, this program reads {VERSION}: fit it again"
        )
    try:
        header, tensors = content["header"], content["tensors"]
        _check_tensors(tensors, path.stat().st_size)
        if content["checksum"] != _checksum(header, tensors):
            raise ValueError("checksum")
        checked = ModelHeader(**header)
        _check_header(checked)
        _check_shapes(checked, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{damaged} ({error})") from error
    return checked, tensors


def _checksum(header: Mapping, tensors: Tensors) -> str:
    summary = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        summary.update(f"{name}:{None if tensor is None else list(tensor.shape)}".encode())
        if tensor is not None and tensor.dim():
            values: Any = tensor.view(torch.uint8).numpy()
            summary.update(values)
    return summary.hexdigest()


_DTYPES = {
    "ids": (torch.int64,),
    "projection": (torch.float32,),
    "mean": (torch.float32,),
    "factor": (torch.float32, torch.float16),
    "image_scores": (torch.float32,),
    "pixel_levels": (torch.float32,),
}


def _check_tensors(tensors: Any, n_bytes: int) -> None:
    """Before their bytes are touched: a tensor can claim more elements than the file has."""
    _expect(isinstance(tensors, dict) and set(tensors) == set(_DTYPES), "tensors")
    for name, dtypes in _DTYPES.items():
        tensor = tensors[name]
        if tensor is None:
            continue
        _expect(torch.is_tensor(tensor) and tensor.layout == torch.strided, name)
        _expect(tensor.dtype in dtypes and tensor.is_contiguous() and tensor.dim() > 0, name)
        _expect(0 < tensor.numel() * tensor.element_size() <= n_bytes, name)


def _check_header(header: ModelHeader) -> None:
    name = header.backbone
    _expect(name in BACKBONES or (isinstance(name, str) and name.startswith(TIMM)), "backbone")
    for rgb in (header.mean, header.std):
        _expect(isinstance(rgb, list) and [type(value) for value in rgb] == [float] * 3, "mean")
    _expect(header.network_precision in PRECISIONS, "network_precision")
    for name in ("layers", "channels", "grid"):
        kind = str if name == "layers" else int
        value = getattr(header, name)
        _expect(isinstance(value, list) and all(type(item) is kind for item in value), name)
    _expect(len(header.grid) == 2 and min(header.grid) > 0, "grid")
    _expect(all(isinstance(getattr(header, key), str) for key in ("weights", "torch")), "weights")
    _expect(type(header.is_low_rank) is bool, "form")
    _expect(
        isinstance(header.config, dict)
        and set(header.config) == {field.name for field in fields(PaDiMConfig)},
        "config",
    )
    PaDiMConfig(**header.config)  # which checks its values


def _check_shapes(header: ModelHeader, tensors: Mapping[str, Any]) -> None:
    mean, factor = tensors["mean"], tensors["factor"]
    _expect(mean is not None and factor is not None, "mean")
    positions, dim = math.prod(header.grid), mean.shape[-1]
    _expect(mean.shape == (positions, dim), "mean")
    if header.is_low_rank:
        _expect(factor.dim() == 3 and factor.shape[::2] == (positions, dim), "factor")
    else:
        _expect(factor.shape == (positions, dim * (dim + 1) // 2), "factor")
    ids, projection = tensors["ids"], tensors["projection"]
    _expect((ids is None) != (projection is None), "ids")
    if ids is not None:
        _expect(ids.shape == (dim,) and bool((ids.diff() > 0).all()), "ids")
        _expect(int(ids[0]) >= 0 and int(ids[-1]) < sum(header.channels), "ids")
    else:
        _expect(projection.shape == (sum(header.channels), dim), "projection")
    scores, levels = tensors["image_scores"], tensors["pixel_levels"]
    _expect((scores is None) == (levels is None), "calibration")
    if scores is not None:
        _expect(scores.dim() == 1 and levels.shape == (N_PIXEL_RATES,), "calibration")
    for tensor in (mean, factor, projection, scores, levels):
        _expect(tensor is None or bool(tensor.isfinite().all()), "a value")


def _expect(is_right: bool, name: str) -> None:
    if not is_right:
        raise ValueError(f"its {name} is not as expected")
