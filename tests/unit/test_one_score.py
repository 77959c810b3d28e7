"""An image has one score, to the last digit, whatever else is scored, and how."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers import config, draw, random_backbone
from scripts import ROOT

from padim import PaDiM
from padim.gaussian import TILE, PatchGaussian

N_IMAGES = 7  # several passes through a network, and a part of one


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fitted(name: str, **options: object) -> PaDiM:
    return PaDiM(random_backbone(name), config(**options)).fit(draw(24, 1))


@pytest.fixture(
    scope="module", params=["random", "none", "pca", "efficientnet_b5", "wide_resnet50_2"]
)
def model(request: pytest.FixtureRequest) -> PaDiM:
    if request.param in ("random", "none", "pca"):
        return fitted("resnet18", reduction=request.param)
    return fitted(request.param)


def test_a_score_depends_on_the_image_alone(model: PaDiM) -> None:
    images = draw(N_IMAGES, 2)
    maps, scores = model.score(images)
    order = torch.randperm(N_IMAGES, generator=torch.Generator().manual_seed(0))
    for n_threads in (1, 2):
        with threads(n_threads):
            for size in (1, 3, 5, N_IMAGES):
                parts = [model.score(part) for part in images[order].split(size)]
                assert torch.cat([part[0] for part in parts]).equal(maps[order])
                assert torch.cat([part[1] for part in parts]).equal(scores[order])
    judged = list(model.predict(images))
    assert [result.score for result in judged] == scores.tolist()
    assert all(result.anomaly_map.equal(maps[i]) for i, result in enumerate(judged))
    batches = model.feature_batches(images.split(2))
    assert torch.cat([maps for maps, _ in model.score_features(batches)]).equal(maps)


@pytest.mark.parametrize(("rows", "dim"), [(100, 100), (9, 100), (7, 12), (55, 55)])
def test_a_distance_does_not_depend_on_the_batch(rows: int, dim: int) -> None:
    draw_numbers = torch.Generator().manual_seed(1)
    factor = torch.randn(10, rows, dim, generator=draw_numbers)
    gaussian = PatchGaussian(torch.zeros(10, dim), factor, False, 0.01)
    embeddings = torch.randn(70, 10, dim, generator=draw_numbers)
    whole = gaussian(embeddings)
    for size in (1, 2, 5, 31, 32, 33, 56):
        assert torch.cat([gaussian(part) for part in embeddings.split(size)]).equal(whole), size
        assert torch.cat(list(gaussian.batches(embeddings.split(size)))).equal(whole), size
    for first in range(1, TILE):
        assert gaussian(embeddings[first:]).equal(whole[first:]), first


def test_fitting_does_not_depend_on_threads_or_batches() -> None:
    network, images = random_backbone(), draw(24, 1)
    states = []
    for n_threads, size in ((1, 5), (2, 24), (2, 1)):
        with threads(n_threads):
            model = PaDiM(network, config()).fit_crops(images.split(size), 24)
            states.append(
                [model.gaussian.mean, model.gaussian.factor, *model.calibration.buffers()]
            )
    for state in states[1:]:
        assert all(ours.equal(theirs) for ours, theirs in zip(state, states[0], strict=True))


FORKED = """
import os, signal, sys
import torch
from helpers import CROP, config, draw
from padim import Backbone, PaDiM

def large(n_images, seed):  # so large that PyTorch shares every copy out over its threads
    return draw(n_images, seed).repeat(1, 1, 10, 10)

def use(save):
    model = PaDiM(Backbone("resnet18", "random"), config()).fit(train)
    model.save(save)
    loaded = PaDiM.load(save)
    assert loaded.score(test)[0].equal(model.score(test)[0])
    return [result.anomaly_map for result in loaded.predict(test)]

torch.set_num_threads(2)
train, test = large(6, 1), large(3, 2)
model = PaDiM(Backbone("resnet18", "random"), config()).fit(train)
maps = [result.anomaly_map for result in model.predict(test)]
child = os.fork()
if child == 0:
    signal.alarm(60)
    found = model.score(test)[0], use(sys.argv[1])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)  # for what follows, which is not the library's
    is_same = all(a.equal(b) and a.equal(c) for a, b, c in zip(*found, maps, strict=True))
    os._exit(0 if is_same else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_scores(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    script = [sys.executable, "-c", FORKED, tmp_path / "model"]
    subprocess.run(script, env=environment, check=True, timeout=300)
