"""The file of a fitted model: a header of plain values, and tensors; never code.

Files are not trusted. Shapes are checked before any tensor is read, and values before they are
used. A checksum detects changed bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from padim.backbones import Backbone
from padim.calibration import Calibration
from padim.config import PaDiMConfig
from padim.errors import ModelError, NotFittedError, short_text
from padim.gaussian import PatchGaussian
from padim.linalg import pack_triangles, unpack_triangles
from padim.model import PaDiM
from padim.parallel.blocks import is_out_of_memory
from padim.reduction import Reduction
from padim.region_of_interest import packed, unpacked
from padim.storage.files import written_whole
from padim.storage.model_header import ModelHeader, expect
from padim.storage.tensor_file import bytes_of, open_tensors, write_tensors

FORMAT = "padim-model"
VERSION = 3
SUFFIX = ".safetensors"  # by convention
PLACES = ("", "models/", "*/models/")  # of models: in a folder, a run, a folder of runs
SHOWN = 8  # models of a folder that a message lists

Tensors = Mapping[str, torch.Tensor]


def save_model(model: PaDiM, path: Path, is_half: bool = False) -> None:
    """Write a fitted model; see ``PaDiM.save``.

    Raises:
        NotFittedError: this process does not hold all Gaussians.
        ModelError: float16 cannot hold the factors.
    """
    gaussian, embedding = model.gaussian, model.embedding
    if not isinstance(gaussian, PatchGaussian) or embedding is None:
        raise NotFittedError("the Gaussians are shared by several processes; call gather() first")
    tensors = {"mean": gaussian.mean, "factor": _stored_factor(model, gaussian, is_half)}
    if embedding.ids is not None:
        tensors["ids"] = embedding.ids
    if embedding.projection is not None:
        tensors["projection"] = embedding.projection
    if model.calibration is not None:
        tensors["image_scores"] = model.calibration.image_scores
        tensors["pixel_levels"] = model.calibration.pixel_levels
    if model.region is not None:
        tensors["region"] = packed(model.region.mask)
    header = ModelHeader(
        backbone=model.backbone.name,
        layers=list(model.backbone.layers),
        channels=list(model.backbone.channels),
        weights=model.backbone.weights,
        weights_checksum=model.backbone.checksum,
        config=asdict(model.config),
        grid=list(model.grid),
        is_low_rank=gaussian.is_low_rank,
        is_calibrated=model.calibration is not None,
        network_precision=model.backbone.precision,
        mean=list(model.backbone.mean),
        std=list(model.backbone.std),
        n_looked_at=None if model.region is None else len(model.region.positions),
    )
    write_model_file(path, header, tensors)


def _stored_factor(model: PaDiM, gaussian: PatchGaussian, is_half: bool) -> torch.Tensor:
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
    return factor


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
    _check_backbone(header, backbone, path)
    config = PaDiMConfig(**header.config)
    # Check the grid before the model is made: the matrices of its maps take memory.
    if (
        list(backbone.channels) != header.channels
        or list(backbone.grid(config.crop)) != header.grid
    ):
        raise ModelError(f"model file {path} does not fit its backbone; fit it again")
    model = PaDiM(backbone, config)
    _fill(model, header, tensors)
    return model


def _load_backbone(header: ModelHeader, weights: str | None, path: Path) -> Backbone:
    chosen = header.weights if weights is None else weights
    is_file = chosen not in ("imagenet", "random")
    if weights is None and is_file and not Path(chosen).is_file():
        raise ModelError(
            f"weights: model {path} was fitted with {short_text(chosen)}, "
            "which does not exist any more; give the file of these weights",
            "weights",
        )
    return Backbone(header.backbone, chosen, header.layers, precision=header.network_precision)


def _check_backbone(header: ModelHeader, backbone: Backbone, path: Path) -> None:
    """Check that a network is the one that a model was fitted with."""
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


def _fill(model: PaDiM, header: ModelHeader, tensors: Tensors) -> None:
    """Set the learned parts of a model; the Gaussians stay on the CPU if the GPU is full."""
    device = model.device
    if "region" in tensors:
        model.look_at(unpacked(tensors["region"], model.config.crop))
    reduction = Reduction(tensors.get("ids"), tensors.get("projection"))
    model.embedding = model.embedding_of(reduction, model.region)
    mean, factor = tensors["mean"], tensors["factor"]
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
    if header.is_calibrated:
        calibration = Calibration(tensors["image_scores"], tensors["pixel_levels"])
        model.calibration = calibration.to(device)


def write_model_file(path: Path, header: ModelHeader, tensors: Tensors) -> None:
    """Write a model, complete or not at all.

    Args:
        path: the file.
        header: as in ``model_header``.
        tensors: as ``ModelHeader.check_shapes`` has them.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = header.to_json()
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "header": content,
        "checksum": _checksum(content, stored),
    }
    with written_whole(path) as partial, partial.open("wb") as file:
        write_tensors(file, metadata, stored)


def read_model_file(path: Path) -> tuple[ModelHeader, dict[str, torch.Tensor]]:
    """Read a model.

    Raises:
        ModelError: the file is missing, damaged, not a model, or of another version.
    """
    if path.is_dir():
        raise ModelError(f"model {path} is a folder; {_models_in(path)}")
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist; expected one that PaDiM.save wrote")
    with path.open("rb") as raw:
        if raw.read(4) == b"PK\x03\x04":
            raise ModelError(
                f"file {path} is a model of an earlier version, or not a model: fit it again"
            )
    try:
        with open_tensors(path) as file:
            metadata = file.metadata
            expect(metadata.get("format") == FORMAT, "format")
            expect(metadata.get("version") == str(VERSION), f"version (expected {VERSION})")
            header = ModelHeader.from_json(metadata.get("header", ""))
            header.check_shapes(file.shapes, file.dtypes)
            tensors = {name: file.read(name) for name in file.shapes}
        expect(metadata.get("checksum") == _checksum(metadata["header"], tensors), "checksum")
        header.check_values(tensors)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ModelError(_damaged(path, error)) from error
    return header, tensors


def _models_in(folder: Path) -> str:
    """The hint for a folder that was given instead of a model: the models in it."""
    found = sorted(path for place in PLACES for path in folder.glob(f"{place}*{SUFFIX}"))
    if not found:
        return f"expected a file {SUFFIX}, and there is none in it"
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    names = ", ".join(str(path.relative_to(folder)) for path in found[:SHOWN])
    return f"give one of the models in it: {names}{more}"


def _damaged(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"model file {path} is damaged, or not a model of this program ({reason}); fit it again"


def _checksum(header: str, tensors: Tensors) -> str:
    summary = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        summary.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        summary.update(bytes_of(tensor))
    return summary.hexdigest()
