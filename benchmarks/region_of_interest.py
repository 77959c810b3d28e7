"""What a region saves and changes on a real class, beside the whole image.

python benchmarks/region_of_interest.py --data_path .../MVTec --classes bottle --weights FILE \
    --ellipse 36 36 870 870

The region is an ellipse in the box left, top, right, bottom in pixels of the images; it is written
beside the results, to be given to a script as --region. The Gaussians alone are timed: the network
sees the whole image in both cases. Then a bar is painted into the upper left corner of the good
test images, outside the region: something that changes where nobody needs to look.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, like the scripts

from benchmarks.common import machine, markdown
from datasets.layouts.mvtec import read_class
from datasets.loading.cache import read_sample
from padim import Backbone, PaDiM, PaDiMConfig
from padim.fitting import GaussianLearner
from padim.reading.image_file import image_size
from padim.region_of_interest import read_region

ROUNDS = 3
# Of crops (n, 3, crop, crop): the rows and columns painted red.
BAR = (slice(None), slice(None), slice(10), slice(60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--classes", default="bottle", metavar="CLASS")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--ellipse", type=int, nargs=4, required=True)
    parser.add_argument("--mask", type=Path, default=Path("region.png"))
    args = parser.parse_args()
    item = read_class(args.data_path, args.classes)
    picture = Image.new("L", image_size(item.train[0].path))
    ImageDraw.Draw(picture).ellipse(args.ellipse, fill=255)
    picture.save(args.mask)
    model = PaDiM(Backbone("resnet18", args.weights), PaDiMConfig(crop=256))
    region = model.preprocessing.crop_of_mask(read_region(args.mask))
    train, test = (
        [read_sample(sample, model.preprocessing) for sample in split]
        for split in (item.train, item.test)
    )
    features = list(model.feature_batches([torch.stack([image for image, _ in train])]))
    images, masks = torch.stack([image for image, _ in test]), torch.stack([m for _, m in test])
    is_bad = np.array([sample.is_defective for sample in item.test])
    cells: list[list[str]] = [[], []]
    seconds: list[list[tuple[float, float]]] = [[], []]
    for _ in range(ROUNDS):
        for which, mask in enumerate((None, region)):
            model.fit_features(features, len(train), region=mask)
            cells[which] = numbers(model, images, masks, is_bad)
            embeddings = [model.embedding.patches(batch) for batch in features]
            learner, start = GaussianLearner(len(train)), time.process_time()
            for batch in embeddings:
                learner.update(batch)
            gaussian, middle = learner.finish(), time.process_time()
            list(gaussian.batches(embeddings))
            seconds[which].append((middle - start, time.process_time() - middle))
    rows = []
    for name, found, times in zip(("whole image", "region"), cells, seconds, strict=True):
        fit, score = (min(one) for one in zip(*times, strict=True))
        rows.append(
            (name, *found[:2], f"{fit:.2f}", f"{1000 * score / len(train):.1f}", *found[2:])
        )
    header = ("", "positions", "Gaussians, MB", "fit, CPU s", "score, CPU ms an image")
    print(machine())
    print(markdown((*header, "image AUROC", "pixel AUROC", "flagged good", "with a bar"), rows))


def numbers(
    model: PaDiM, images: torch.Tensor, masks: torch.Tensor, is_bad: np.ndarray
) -> list[str]:
    """Positions and memory of the Gaussians, AUROC, and the good images flagged at 5 %."""
    maps, scores = model(images)
    barred = images[~torch.from_numpy(is_bad)].clone()
    barred[BAR] = torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None]
    threshold = model.calibration.image_threshold(0.05)
    flagged = (scores.numpy() > threshold)[~is_bad], model(barred)[1].numpy() > threshold
    gaussian = model.gaussian
    return [
        str(len(gaussian.mean)),
        f"{(gaussian.mean.nbytes + gaussian.factor.nbytes) / 1e6:.0f}",
        f"{roc_auc_score(is_bad, scores.numpy()):.3f}",
        f"{roc_auc_score(masks.flatten().numpy(), maps.flatten().numpy()):.3f}",
        *(f"{one.sum()} of {len(one)}" for one in flagged),
    ]


if __name__ == "__main__":
    main()
