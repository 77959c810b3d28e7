"""A fitted model as one graph for ONNX, from images to maps, scores, p-values and decisions.

The steps are those of ``PaDiM.predict``, without blocks and in-place operations, which a graph does
not have. Only this module needs the packages ``onnx`` and ``onnxscript``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from padim import __version__
from padim.anomaly_map import image_scores
from padim.errors import ModelError, NotFittedError
from padim.gaussian import PatchGaussian, mahalanobis
from padim.model import PaDiM
from padim.onnx_resize import ResizeAndCrop

OPSET = 18
MAX_SIZE = 2**31  # of an axis that may vary
INPUT_TYPES = ("image", "uint8", "normalised")
OUTPUTS = ("anomaly_map", "image_score", "p_value", "is_defective")
# A protocol buffer is limited to 2 GiB; 64 MiB are for the rest of the graph.
MAX_BYTES_INSIDE = 2**31 - 64 * 2**20
MIN_HALF_SIZE = 2**16  # values; smaller tensors save nothing as float16


@dataclass(frozen=True)
class GraphOptions:
    """What a graph takes, and how it decides.

    Attributes:
        input_type: ``image``, images uint8 (B, h, w, 3) of any size; ``uint8``, crops
            (B, 3, crop, crop); or ``normalised``, float32 crops as the network takes them.
        false_positive_rate: of the decision; at least 1 / (n + 1) for n training images.
        is_half: whether large tensors are stored as float16; the graph computes in float32.
    """

    input_type: str = "image"
    false_positive_rate: float = 0.01
    is_half: bool = False


class ScoringGraph(nn.Module):
    """What ``PaDiM.predict`` does, in operations that ONNX has.

    Args:
        model: a fitted model; not changed.
        options: what the graph takes, and how it decides.

    Raises:
        ModelError: the network is not float32, the only precision of all runtimes.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    image_mean: torch.Tensor
    image_std: torch.Tensor
    normal_scores: torch.Tensor | None

    def __init__(self, model: PaDiM, options: GraphOptions = GraphOptions()) -> None:
        super().__init__()
        if model.backbone.precision != "float32":
            raise ModelError(
                f"a model of a {model.backbone.precision} network cannot be exported: "
                "fit it with float32"
            )
        gaussian = model.gaussian
        if not isinstance(gaussian, PatchGaussian) or model.embedding is None:
            raise NotFittedError("the model is not fitted, or not gathered")
        self.backbone = _with_plain_swish(deepcopy(model.backbone).cpu())
        self.embedding = deepcopy(model.embedding).cpu()
        self.anomaly_map = deepcopy(model.anomaly_map).cpu()
        self.register_buffer("mean", gaussian.mean.cpu())
        self.register_buffer("factor", gaussian.factor.cpu())
        for name in ("mean", "std"):
            colours = torch.tensor(getattr(self.backbone, name), dtype=torch.float32)
            self.register_buffer(f"image_{name}", colours.view(3, 1, 1))
        self.epsilon = gaussian.epsilon if gaussian.is_low_rank else None
        self.input_type = options.input_type
        self.resize_and_crop = ResizeAndCrop(model.preprocessing)
        calibration = model.calibration
        self.register_buffer(
            "normal_scores", None if calibration is None else calibration.image_scores.cpu()
        )
        rate = options.false_positive_rate
        self.threshold = None if calibration is None else calibration.image_threshold(rate)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute ``OUTPUTS`` from images of the type ``GraphOptions.input_type``.

        Returns:
            Maps (B, crop, crop) and image scores (B,), float32; of a calibrated model also
            p-values (B,), float32, and whether each image is defective, bool (B,).
        """
        if self.input_type == "image":
            images = self.resize_and_crop(images)
        if self.input_type != "normalised":
            images = (images.to(torch.float32) / 255 - self.image_mean) / self.image_std
        embeddings = self.embedding.patches(self.backbone(images))
        distances = mahalanobis(embeddings, self.mean, self.factor, self.epsilon)
        maps = self.anomaly_map(distances)
        scores = image_scores(maps)
        if self.normal_scores is None or self.threshold is None:
            return maps, scores
        # Calibration.p_values by counting: a graph has no binary search.
        as_high = (self.normal_scores >= scores[:, None]).to(torch.float32).sum(dim=1)
        p_values = (1 + as_high) / (1 + len(self.normal_scores))
        return maps, scores, p_values, scores > self.threshold

    def example(self, side: int) -> torch.Tensor:
        """An example input for the exporter.

        No variable axis has size 1, which the exporter takes for a constant.
        """
        if self.input_type == "image":
            return torch.zeros(2, side + 1, side + 2, 3, dtype=torch.uint8)
        is_crop = self.input_type == "uint8"
        return torch.zeros(2, 3, side, side, dtype=torch.uint8 if is_crop else torch.float32)


def write_onnx(
    model: PaDiM,
    folder: Path,
    name: str,
    options: GraphOptions = GraphOptions(),
    properties: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write a model as ``folder/name``, with tensors in ``name.data`` if it exceeds 2 GiB.

    Args:
        model: fitted.
        folder: an empty folder; do not rename the files, since the graph names ``name.data``.
        name: of the graph's file.
        options: what the graph takes, and how it decides.
        properties: additional metadata of the graph, added to ``graph_properties``.

    Returns:
        The files written, the graph last.

    Raises:
        ModelError: the packages are not installed, or float16 cannot hold a value.
    """
    check_packages()
    graph = ScoringGraph(model, options).eval()
    example = graph.example(model.config.crop)
    axes = ("batch", "height", "width") if options.input_type == "image" else ("batch",)
    # Without an upper bound PyTorch 2.6 writes the sizes of the example into the graph.
    free = [torch.export.Dim(axis, min=1, max=MAX_SIZE) for axis in axes]
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS[: 2 if graph.normal_scores is None else None]),
            dynamic_shapes=(dict(enumerate(free)),),
            verbose=False,
        )
    assert program is not None
    if options.is_half:
        _store_as_half(program.model)
    program.model.metadata_props.update(graph_properties(model, options) | dict(properties or {}))
    tensors = [value.const_value for value in program.model.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    program.save(folder / name, external_data=size > MAX_BYTES_INSIDE)
    data = folder / f"{name}.data"
    return [path for path in (data, folder / name) if path.exists()]


def graph_properties(model: PaDiM, options: GraphOptions) -> dict[str, str]:
    """The metadata of a graph, text by name."""
    config, backbone = model.config, model.backbone
    found: dict[str, object] = {
        "padim_version": __version__,
        "torch_version": torch.__version__,
        "backbone": backbone.name,
        "layers": "+".join(backbone.layers),
        "weights_checksum": backbone.checksum,
        "input_type": options.input_type,
        "stored_as": "float16" if options.is_half else "float32",
        "resize": config.resize,
        "crop": config.crop,
        "bits": config.bits,
    }
    if model.calibration is not None:
        rate, calibration = options.false_positive_rate, model.calibration
        found |= {
            "n_training_images": len(calibration.image_scores),
            "requested_false_alarm_rate": rate,
            "false_alarm_rate": max(rate, calibration.finest_rate),
            "image_threshold": calibration.image_threshold(rate),
            "pixel_threshold": calibration.pixel_threshold(rate),
        }
    if model.region is not None:
        picture, file = Image.fromarray(model.region.mask.cpu().numpy()), BytesIO()
        picture.save(file, format="PNG")
        found["region"] = b64encode(file.getvalue()).decode()
    return {name: str(value) for name, value in found.items()}


def _store_as_half(model: Any) -> None:
    """Store large tensors of a graph as float16, each followed by a cast to float32.

    Raises:
        ModelError: a value is too large.
    """
    from onnxscript import ir

    graph = model.graph
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < MIN_HALF_SIZE:
            continue
        with np.errstate(over="ignore"):
            half = tensor.numpy().astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError("float16 cannot hold the model's values: store them as float32")
        stored = ir.Value(name=f"{value.name}_half", const_value=ir.tensor(half))
        stored.shape, stored.type = value.shape, ir.TensorType(ir.DataType.FLOAT16)
        cast = ir.Node("", "Cast", [stored], [ir.AttrInt64("to", int(ir.DataType.FLOAT))])
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del graph.initializers[value.name]
        graph.register_initializer(stored)
        graph.insert_before(graph[0], cast)


def check_packages(is_run: bool = False) -> None:
    """Check that an export can be made.

    Args:
        is_run: whether the graph is also to be run.

    Raises:
        ModelError: a package is not installed.
    """
    names = ("onnx", "onnxscript", *(("onnxruntime",) if is_run else ()))
    try:
        for name in names:
            import_module(name)
    except ImportError as error:
        raise ModelError(
            f"an export needs the package {error.name}: python -m pip install {' '.join(names)}"
        ) from error


def _with_plain_swish(module: nn.Module) -> nn.Module:
    """Replace EfficientNet's swish, which has a custom gradient, by ``nn.SiLU``."""
    for name, child in module.named_children():
        if type(child).__name__ == "MemoryEfficientSwish":
            setattr(module, name, nn.SiLU())
        else:
            _with_plain_swish(child)
    return module
