"""Hostile model and weights files: one line each, in bounded memory, whatever is wrong."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import config, draw
from hostile_files import draw_model, draw_weights_file, pack, read
from scripts import ROOT

from padim import Backbone, ModelError, PaDiM, PaDiMError

N_FILES = int(os.environ.get("MUTATIONS", 40))  # of each kind
CUT = ("layer2", "layer3", "layer4", "fc")  # layers that a small weights file leaves out


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_hostile_files_are_refused_with_one_line_in_bounded_memory(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    whole = {k: v for k, v in resnet18(weights=None).state_dict().items() if "layer4" not in k}
    torch.save({k: v for k, v in whole.items() if not k.startswith("fc")}, tmp_path / "good.pth")
    model = PaDiM(Backbone("resnet18", tmp_path / "good.pth"), config())
    model.fit(draw(12, 1)).save(tmp_path / "good.safetensors")
    for name in ("models", "weights"):
        (tmp_path / name).mkdir()
    small = {k: v for k, v in whole.items() if not k.startswith(CUT)}
    for seed in range(N_FILES):
        content = draw_model(tmp_path / "good.safetensors", random.Random(seed))
        (tmp_path / "models" / f"{seed:03d}.safetensors").write_bytes(content)
        draw_weights_file(small, tmp_path / "weights" / f"{seed:03d}.pth", random.Random(seed))
    script = [sys.executable, ROOT / "tests/hostile_files.py", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * N_FILES} files" in done.stdout


def test_the_generator_signs_as_the_program_does(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", "random")
    PaDiM(backbone, config()).fit(draw(4, 1)).save(tmp_path / "good.safetensors")
    (tmp_path / "again.safetensors").write_bytes(pack(*read(tmp_path / "good.safetensors")))
    images = draw(2, 2)
    models = [
        PaDiM.load(tmp_path / name, backbone) for name in ("good.safetensors", "again.safetensors")
    ]
    assert models[0].score(images)[0].equal(models[1].score(images)[0])


def test_scores_that_are_not_finite_are_no_decisions(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", "random")
    PaDiM(backbone, config()).fit(draw(4, 1)).save(tmp_path / "good.safetensors")
    metadata, tensors = read(tmp_path / "good.safetensors")
    dtype, shape, data = tensors["mean"]
    huge = torch.full((len(data) // 4,), 3e38).numpy().tobytes()
    (tmp_path / "huge.safetensors").write_bytes(
        pack(metadata, tensors | {"mean": (dtype, shape, huge)})
    )
    model = PaDiM.load(tmp_path / "huge.safetensors", backbone)
    for call in (model.score, lambda images: list(model.predict(images))):
        with pytest.raises(PaDiMError, match="score of image 1 is .*fit it again"):
            call(draw(2, 2))


def test_a_model_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    torch.save({"format": "padim-model", "version": 2}, tmp_path / "old.safetensors")
    with pytest.raises(ModelError, match="earlier version, or not a model: fit it again"):
        PaDiM.load(tmp_path / "old.safetensors")
