"""On the real class ``bottle`` with ImageNet weights, where both are given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LONG, measure_pixels, rank, slow_pro
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets.layouts.mvtec import read_class
from datasets.loading.labelled import ImageStream
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.preprocessing import Preprocessing

DATA, WEIGHTS = os.environ.get("MVTEC_PATH"), os.environ.get("RESNET18_WEIGHTS")

pytestmark = [
    pytest.mark.skipif(not DATA, reason="MVTEC_PATH is not set: no real images"),
    pytest.mark.skipif(not WEIGHTS, reason="RESNET18_WEIGHTS is not set: no trained weights"),
]


@pytest.fixture(scope="module")
def bottle() -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Training crops, test crops, masks and labels."""
    item = read_class(Path(DATA), "bottle")
    stream = ImageStream([item], Preprocessing(), batch_size=32, num_workers=2)
    train = torch.cat([batch.images for batch in stream.take(len(item.train))])
    test = list(stream.take(len(item.test)))
    images = torch.cat([batch.images for batch in test])
    masks = torch.cat([batch.masks for batch in test]).numpy()
    return train, images, masks, np.array([sample.is_defective for sample in item.test])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("resnet18", WEIGHTS)


@pytest.fixture(scope="module")
def features(backbone: Backbone, bottle: tuple) -> tuple[list, list]:
    """The feature maps of both splits, which are the same for every draw of channels."""
    model = PaDiM(backbone, PaDiMConfig())
    train, test = (list(model.feature_batches(images.split(8))) for images in bottle[:2])
    return train, test


def score(
    backbone: Backbone, bottle: tuple, features: tuple[list, list], config: PaDiMConfig
) -> tuple[np.ndarray, np.ndarray]:
    train, test = features
    model = PaDiM(backbone, config).fit_features(train, len(bottle[0]))
    scored = list(model.score_features(test))
    return tuple(torch.cat(part).numpy() for part in zip(*scored, strict=True))


def test_draws_land_where_the_paper_does(
    backbone: Backbone, bottle: tuple, features: tuple
) -> None:
    _, _, masks, labels = bottle
    numbers = []
    for seed in range(5 if "SOAK" in os.environ else 2):
        maps, scores = score(backbone, bottle, features, PaDiMConfig(seed=seed))
        pixels = measure_pixels(maps, masks)
        numbers.append((rank(scores, labels).auroc, pixels.ranking.auroc, pixels.pro))
    means = np.mean(numbers, axis=0)
    assert (means >= (0.993, 0.978, 0.935)).all(), means


@LONG
def test_all_channels_and_exact_metrics(backbone: Backbone, bottle: tuple, features: tuple) -> None:
    maps, scores = score(backbone, bottle, features, PaDiMConfig(reduction="none"))
    _, _, masks, labels = bottle
    ranking, measured = rank(scores, labels), measure_pixels(maps, masks)
    pixels = measured.ranking
    numbers = np.array((ranking.auroc, pixels.auroc, measured.pro))
    assert (numbers >= (0.99, 0.98, 0.94)).all(), numbers

    assert ranking.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    flat = masks.ravel(), maps.ravel()
    assert pixels.auroc == pytest.approx(roc_auc_score(*flat), abs=1e-9)
    assert pixels.average_precision == pytest.approx(average_precision_score(*flat), abs=1e-9)

    # The slow PRO goes through every threshold, so it gets fewer of them and fewer pixels.
    coarse, few = np.round(maps[::3, ::2, ::2], 1), masks[::3, ::2, ::2]
    assert measure_pixels(coarse, few).pro == pytest.approx(slow_pro(coarse, few), abs=1e-9)
