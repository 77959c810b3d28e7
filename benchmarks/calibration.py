"""Thresholds without defects on a real class: leave-one-out scores beside the naive alternative.

python benchmarks/calibration.py --data_path .../MVTec --weights FILE

Prints what thresholds at 1 % and 5 % false alarms call of the test set, when they come from
leave-one-out scores and when they come from the scores of the very images the model was fitted on;
checks the closed form against refitting; and draws both distributions beside the test set's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from common import machine, markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datasets.layouts.mvtec import read_class
from datasets.types import Sample
from padim.anomaly_map import image_scores
from padim.backbones import Backbone
from padim.calibration import Calibration
from padim.config import PaDiMConfig
from padim.fitting import GaussianLearner
from padim.model import PaDiM
from padim.preprocessing import Preprocessing

RATES = (0.01, 0.05)
N_REFITTED = 20


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--class_name", default="bottle")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--save_path", type=Path, default=Path("benchmark_result"))
    args = parser.parse_args()
    args.save_path.mkdir(parents=True, exist_ok=True)
    item = read_class(args.data_path, args.class_name)
    train, test = crops(item.train), crops(item.test)
    defective = torch.tensor([sample.is_defective for sample in item.test])
    backbone, rows = Backbone("resnet18", args.weights), []
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    for axes, (kind, dim) in zip(
        figure.subplots(1, 2), (("random", 100), ("none", None)), strict=True
    ):
        model = PaDiM(backbone, PaDiMConfig(kind, dim)).fit_crops(train.split(16), len(train))
        left_out = model.calibration
        fitted = Calibration(score(model, train), left_out.pixel_levels)
        scores = score(model, test)
        for name, found in (("leave one out", left_out), ("images fitted on", fitted)):
            for rate in RATES:
                called = scores > found.image_threshold(rate)
                shares = (called[~defective], called[defective])
                cells = (f"{share.sum()} of {len(share)}" for share in shares)
                threshold = f"{found.image_threshold(rate):.2f}"
                rows.append((f"{kind} {dim or ''}", name, f"{rate:.0%}", threshold, *cells))
        draw(axes, f"{kind} {dim or ''}", left_out, fitted, scores, defective)
        print(
            f"{kind}: largest relative difference to refitting without each of {N_REFITTED} images"
        )
        print(f"  relative difference: {refitting_error(model, train):.1e}\n")
    header = ("channels", "scores of", "rate", "threshold", "good called", "defective called")
    print(f"{args.class_name}, ResNet-18; {machine()}\n\n{markdown(header, rows)}")
    figure.savefig(args.save_path / "calibration.png", dpi=100)


def crops(samples: tuple[Sample, ...]) -> torch.Tensor:
    return torch.stack([Preprocessing().image(sample.path) for sample in samples])


def score(model: PaDiM, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([model(batch)[1] for batch in images.split(16)])


def refitting_error(model: PaDiM, train: torch.Tensor) -> float:
    """Of the image scores in closed form, against Gaussians fitted anew on all other images."""
    batches = train.split(16)
    embeddings = torch.cat(
        [model.embedding(model.features(batch)).flatten(1, 2) for batch in batches]
    )
    learner = GaussianLearner(len(train)).update(embeddings)
    learner.finish()
    step, largest = len(train) // N_REFITTED, 0.0
    for i in range(0, step * N_REFITTED, step):
        rest = GaussianLearner(len(train) - 1).update(embeddings[:i]) if i else None
        rest = (rest or GaussianLearner(len(train) - 1)).update(embeddings[i + 1 :])
        pair = torch.cat((rest.finish()(embeddings[i : i + 1]), learner.leave_one_out[i : i + 1]))
        refitted, closed = image_scores(model.anomaly_map(pair)).tolist()
        largest = max(largest, abs(closed - refitted) / refitted)
    return largest


def draw(
    axes: Axes,
    title: str,
    left_out: Calibration,
    fitted: Calibration,
    scores: torch.Tensor,
    defective: torch.Tensor,
) -> None:
    """The distributions as rising lines: the share of the images that score at most so much."""
    for values, label, style in (
        (fitted.image_scores, "training images, scored by the model they are in", "C3--"),
        (left_out.image_scores, "training images, each left out", "C0-"),
        (scores[~defective].sort().values, "good test images", "k-"),
        (scores[defective].sort().values, "defective test images", "C1-"),
    ):
        axes.step(values, torch.linspace(0, 1, len(values)), style, where="post", label=label)
    axes.axvline(left_out.image_threshold(0.05), color="C0", linewidth=0.8)
    axes.axvline(fitted.image_threshold(0.05), color="C3", linestyle="--", linewidth=0.8)
    axes.set(xlabel="image score", ylabel="share of the images", xscale="log", title=title)
    axes.legend(fontsize=7, title="upright lines: thresholds at 5 %", title_fontsize=7)


if __name__ == "__main__":
    main()
