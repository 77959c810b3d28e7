"""How far the float32 distances are from float64 on a real class, in both forms of the Gaussian.

python benchmarks/precision.py --data_path .../MVTec --class_name bottle --weights FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, like the scripts

from datasets.layouts.mvtec import read_class
from datasets.types import Sample
from padim.backbones import Backbone, normalise
from padim.config import PaDiMConfig
from padim.embedding import PatchEmbedding
from padim.fitting import GaussianLearner
from padim.preprocessing import Preprocessing
from padim.reduction import draw_reduction

STEP = 9  # of the 3136 positions every ninth is measured, which is one in every neighbourhood


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--class_name", default="bottle")
    parser.add_argument("--weights", default="imagenet")
    args = parser.parse_args()
    item = read_class(args.data_path, args.class_name)
    backbone = Backbone("resnet18", args.weights)
    print("channels  form      largest relative error of m^2   median")
    for kind, dim in (("random", 100), ("random", 200), ("none", None)):
        reduction = draw_reduction(PaDiMConfig(kind, dim), sum(backbone.channels))
        embedding = PatchEmbedding(backbone.channels, reduction)
        train = embeddings(backbone, embedding, item.train)
        test = embeddings(backbone, embedding, item.test)
        gaussian = GaussianLearner(len(train)).update(train).finish()
        ours = gaussian(test).double().square()
        error = ((ours - squared_distances(train, test)) / squared_distances(train, test)).abs()
        form = "low rank" if gaussian.is_low_rank else "dense"
        print(f"{embedding.dim:8}  {form:8}  {error.max():29.1e}  {error.median():7.1e}")


@torch.inference_mode()
def embeddings(backbone: Backbone, embedding: PatchEmbedding, samples: tuple[Sample, ...]):
    """(n, positions measured, d)."""
    crops = torch.stack([Preprocessing().image(sample.path) for sample in samples])
    parts = [embedding(backbone(normalise(batch))).flatten(1, 2) for batch in crops.split(16)]
    return torch.cat([part[:, ::STEP] for part in parts])


def squared_distances(train: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
    """The same distances from the d x d covariance, in float64, position by position."""
    found = []
    for rows, new in zip(train.double().unbind(1), test.double().unbind(1), strict=True):
        covariance = torch.cov(rows.T) + 0.01 * torch.eye(rows.shape[1], dtype=torch.float64)
        delta = new - rows.mean(dim=0)
        solved = torch.cholesky_solve(delta.T, torch.linalg.cholesky(covariance)).T
        found.append((delta * solved).sum(dim=1))
    return torch.stack(found, dim=1)


if __name__ == "__main__":
    main()
