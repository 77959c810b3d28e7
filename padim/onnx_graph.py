"""A fitted model as one graph for ONNX, from images to maps and image scores.

The same steps as ``PaDiM.score``, without its blocks and its in-place work, which a graph cannot
have. Only this module needs the packages ``onnx`` and ``onnxscript``.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from padim.anomaly_map import image_scores
from padim.backbones import IMAGENET_MEAN, IMAGENET_STD
from padim.errors import ModelError
from padim.model import PaDiM

OPSET = 18
# A protocol buffer ends at 2 GiB; the rest of the graph has room in what is left.
MAX_BYTES_INSIDE = 2**31 - 64 * 2**20


class ScoringGraph(nn.Module):
    """What ``PaDiM.score`` does, in operations that ONNX has.

    Args:
        model: fitted; it is left as it is.
        is_normalised: whether the graph takes float32 images that are normalised already, instead
            of uint8 ones.

    Raises:
        ModelError: the model's network is not of float32, in which alone runtimes have all of it.
    """

    def __init__(self, model: PaDiM, is_normalised: bool = False) -> None:
        super().__init__()
        if model.backbone.precision != "float32":
            raise ModelError(
                f"a model of --network_precision {model.backbone.precision} cannot be exported: "
                "fit it with float32"
            )
        self.backbone = _with_plain_swish(deepcopy(model.backbone).cpu())
        self.reduction = deepcopy(model.reduction).cpu()
        self.anomaly_map = deepcopy(model.anomaly_map).cpu()
        gaussian = model.gaussian
        # One row a channel, so that a batch of embeddings is a matrix at every position.
        self.register_buffer("mean", gaussian.mean.cpu()[:, :, None])
        self.register_buffer("factor", gaussian.factor.cpu())
        self.register_buffer("image_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("image_std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.is_low_rank = gaussian.is_low_rank
        self.epsilon = gaussian.epsilon
        self.grid = model.grid
        self.is_normalised = is_normalised

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, crop, crop) to maps (B, crop, crop) and image scores (B,), float32."""
        if not self.is_normalised:
            images = (images.to(torch.float32) / 255 - self.image_mean) / self.image_std
        embeddings = self.reduction(self.backbone(images)).flatten(1, 2)
        delta = embeddings.permute(1, 2, 0) - self.mean  # (P, d, B)
        squared = torch.bmm(self.factor, delta).square().sum(dim=1)
        if self.is_low_rank:
            squared = (delta.square().sum(dim=1) - squared) / self.epsilon
        distances = squared.clamp(min=0).sqrt().T.unflatten(1, self.grid)
        maps = self.anomaly_map(distances)
        return maps, image_scores(maps)


def write_onnx(model: PaDiM, folder: Path, name: str, is_normalised: bool = False) -> list[Path]:
    """Write a model as ``folder/name``, and beside it ``name.data`` where it is beyond 2 GiB.

    Args:
        model: fitted.
        folder: an empty one; the two files are tied by their names, so they are not renamed.
        name: of the file.
        is_normalised: as in ``ScoringGraph``.

    Returns:
        The files written, the graph last.

    Raises:
        ModelError: the packages are not installed.
    """
    check_packages()
    graph = ScoringGraph(model, is_normalised).eval()
    side = model.config.crop
    # Of a batch of one the exporter would take the size for a constant.
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
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    program.save(folder / name, external_data=size > MAX_BYTES_INSIDE)
    data = folder / f"{name}.data"
    return [path for path in (data, folder / name) if path.exists()]


def check_packages() -> None:
    """See that an export can be made.

    Raises:
        ModelError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"an export needs the package {error.name}: "
            "python -m pip install -r requirements-export.txt"
        ) from error


def _with_plain_swish(module: nn.Module) -> nn.Module:
    """Without the gradient of its own by which EfficientNet's saves memory in training."""
    for name, child in module.named_children():
        if type(child).__name__ == "MemoryEfficientSwish":
            setattr(module, name, nn.SiLU())
        else:
            _with_plain_swish(child)
    return module
