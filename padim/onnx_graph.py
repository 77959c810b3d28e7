"""A fitted model as one graph for ONNX, from crops to maps and image scores.

The same steps as ``PaDiM.forward``, without its blocks and its in-place work, which a graph cannot
have. Only this module needs the packages ``onnx`` and ``onnxscript``.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from padim.anomaly_map import image_scores
from padim.errors import ModelError, NotFittedError
from padim.gaussian import PatchGaussian, mahalanobis
from padim.model import PaDiM

OPSET = 18
# A protocol buffer ends at 2 GiB; the rest of the graph has room in what is left.
MAX_BYTES_INSIDE = 2**31 - 64 * 2**20


class ScoringGraph(nn.Module):
    """What ``PaDiM.forward`` does, in operations that ONNX has.

    Args:
        model: fitted; it is left as it is.
        is_normalised: whether the graph takes float32 crops that are normalised already, instead of
            uint8 ones.

    Raises:
        ModelError: the network is not of float32, the only precision that all runtimes have.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(self, model: PaDiM, is_normalised: bool = False) -> None:
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
        self.is_normalised = is_normalised

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (B, 3, crop, crop) to maps (B, crop, crop) and image scores (B,), float32."""
        if not self.is_normalised:
            crops = (crops.to(torch.float32) / 255 - self.image_mean) / self.image_std
        embeddings = self.embedding.patches(self.backbone(crops))
        distances = mahalanobis(embeddings, self.mean, self.factor, self.epsilon)
        maps = self.anomaly_map(distances)
        return maps, image_scores(maps)


def write_onnx(model: PaDiM, folder: Path, name: str, is_normalised: bool = False) -> list[Path]:
    """Write a model as ``folder/name``, and beside it ``name.data`` where it is beyond 2 GiB.

    Args:
        model: fitted.
        folder: an empty one; the two files are tied by their names, so they are not renamed.
        name: of the graph's file.
        is_normalised: as in ``ScoringGraph``.

    Returns:
        The files written, the graph last.

    Raises:
        ModelError: the packages are not installed.
    """
    check_packages()
    graph = ScoringGraph(model, is_normalised).eval()
    side = model.config.crop
    # The exporter takes a batch size of one for a constant.
    example = torch.zeros(2, 3, side, side, dtype=torch.float32 if is_normalised else torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["anomaly_map", "image_score"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    program.save(folder / name, external_data=size > MAX_BYTES_INSIDE)
    data = folder / f"{name}.data"
    return [path for path in (data, folder / name) if path.exists()]


def check_packages() -> None:
    """Check that an export can be made.

    Raises:
        ModelError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"an export needs the package {error.name}: python -m pip install onnx onnxscript"
        ) from error


def _with_plain_swish(module: nn.Module) -> nn.Module:
    """Replace EfficientNet's swish, which saves memory in training by a gradient of its own."""
    for name, child in module.named_children():
        if type(child).__name__ == "MemoryEfficientSwish":
            setattr(module, name, nn.SiLU())
        else:
            _with_plain_swish(child)
    return module
