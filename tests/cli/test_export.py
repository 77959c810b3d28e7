"""The ONNX graph of a model, run in ONNX Runtime and compared with the model itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LONG

from padim import onnx_graph
from padim.backbones import Backbone, normalise
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.storage.files import temporary_folder
from utils.cli.main import export

CROP = 64
REASON = "pip install onnx onnxscript is not installed"


def fitted(backbone: str, kind: str, n_images: int = 12) -> PaDiM:
    """A model with untrained weights, fitted on noise; dense where images outnumber channels."""
    dim = None if kind == "none" else 8
    # A variance far above epsilon, as untrained networks have it, costs digits in float32.
    config = PaDiMConfig(kind, dim, resize=CROP, crop=CROP, epsilon=1.0)
    model = PaDiM(Backbone(backbone, "random"), config)
    return model.fit_crops([images(n_images, seed=1)], n_images)


def images(count: int, seed: int) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8).repeat(8, 2).repeat(8, 3)
    return torch.from_numpy(coarse // 2 + draw.integers(0, 128, coarse.shape, dtype=np.uint8))


def write(model: PaDiM, folder: Path, *options: str) -> Path:
    model.save(folder / "model.safetensors")
    output = folder / "made" / "model.onnx"
    argv = ["--model", str(folder / "model.safetensors"), "--output", str(output), *options]
    assert export(argv) == 0
    assert {path.name for path in output.parent.iterdir()} <= {"model.onnx", "model.onnx.data"}
    return output


def expect_equal(model: PaDiM, path: Path, is_normalised: bool = False) -> None:
    """Batches of several sizes, to 1e-4 of the highest value."""
    runtime = pytest.importorskip("onnxruntime", reason=REASON)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        given = images(count, seed=count)
        maps, scores = model(given)
        fed = normalise(given).contiguous() if is_normalised else given
        found = session.run(["anomaly_map", "image_score"], {"image": fed.numpy()})
        assert found[0].shape == (count, CROP, CROP)
        assert found[1].shape == (count,)
        top = float(maps.max())
        np.testing.assert_allclose(found[0], maps.numpy(), rtol=0, atol=1e-4 * top)
        np.testing.assert_allclose(found[1], scores.numpy(), rtol=0, atol=1e-4 * top)


@pytest.fixture
def packages() -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=REASON)


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        ("resnet18", "random"),
        ("resnet18", "none"),
        ("efficientnet_b5", "none"),
        pytest.param("efficientnet_b5", "random", marks=LONG),
    ],
)
def test_a_graph_gives_what_the_model_gives(packages, backbone, kind, tmp_path) -> None:
    model = fitted(backbone, kind)
    assert model.gaussian.is_low_rank == (kind == "none")
    expect_equal(model, write(model, tmp_path))


def test_of_normalised_images(packages, tmp_path: Path) -> None:
    model = fitted("resnet18", "semi_orthogonal")
    expect_equal(model, write(model, tmp_path, "--input_type", "normalised"), is_normalised=True)


def test_a_region_is_in_the_graph(packages, tmp_path: Path) -> None:
    model = fitted("resnet18", "random")
    mask = torch.zeros(CROP, CROP, dtype=torch.bool)
    mask[10:40, 20:61] = True
    model.fit_crops([images(12, seed=1)], 12, region=mask)
    maps = model(images(1, seed=1))[0]
    assert maps[:, mask].gt(0).all() and maps[:, ~mask].eq(0).all()
    expect_equal(model, write(model, tmp_path))


def test_a_large_model_has_its_data_beside_it(packages, tmp_path: Path, monkeypatch) -> None:
    model = fitted("resnet18", "random")
    monkeypatch.setattr(onnx_graph, "MAX_BYTES_INSIDE", 0)
    path = write(model, tmp_path)
    assert path.with_name("model.onnx.data").stat().st_size > path.stat().st_size
    expect_equal(model, path)
    monkeypatch.undo()
    path = write(model, tmp_path)  # in its place one that needs no second file
    assert [other.name for other in path.parent.iterdir()] == ["model.onnx"]
    expect_equal(model, path)


def test_without_the_packages_one_line_says_so(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    status = export(
        ["--model", str(tmp_path / "none.safetensors"), "--output", str(tmp_path / "a.onnx")]
    )
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1
    assert "pip install onnx onnxscript" in error
    assert not list(tmp_path.iterdir())


def test_a_network_of_bfloat16_is_refused(packages, tmp_path: Path, capsys) -> None:
    backbone = Backbone("resnet18", "random", precision="bfloat16")
    model = PaDiM(backbone, PaDiMConfig("random", 8, resize=CROP, crop=CROP))
    model.fit_crops([images(12, seed=1)], 12).save(tmp_path / "model.safetensors")
    output = tmp_path / "model.onnx"
    assert export(["--model", str(tmp_path / "model.safetensors"), "--output", str(output)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "UNTRAINED" not in line]
    assert len(errors) == 1
    assert "bfloat16" in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("output", ["model", "model.safetensors"])
def test_another_suffix_is_refused(packages, output: str, tmp_path: Path, capsys) -> None:
    status = export(
        ["--model", str(tmp_path / "none.safetensors"), "--output", str(tmp_path / output)]
    )
    assert status == 2
    assert ".onnx" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["same", "dots", "link", "hard link", "data", "weights", "folder"])
def test_what_is_read_is_never_written(how: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("utils.prediction.export.check_packages", lambda: None)
    model = tmp_path / "model.onnx"  # a model may be called anything
    fitted("resnet18", "random").save(model)
    before, output, options = model.read_bytes(), tmp_path / "out.onnx", []
    if how == "same":
        output = model
    elif how == "dots":
        (tmp_path / "sub").mkdir()
        output = tmp_path / "sub" / ".." / "model.onnx"
    elif how == "link":
        output.symlink_to(model)
    elif how == "hard link":
        output.hardlink_to(model)
    elif how == "data":
        tmp_path.joinpath("out.onnx.data").symlink_to(model)
    elif how == "weights":
        output.write_bytes(before)
        options = ["--weights", str(output)]
    else:
        output.mkdir()
    assert export(["--model", str(model), "--output", str(output), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --output ") and said.count("\n") == 1
    assert model.read_bytes() == before


def test_leftovers_of_a_killed_export_are_swept(tmp_path: Path, monkeypatch, capsys) -> None:
    """And the data of an earlier graph go, but not a file that never belonged to one."""
    monkeypatch.setattr("utils.prediction.export.check_packages", lambda: None)

    def write_graph(_model, folder: Path, name: str, _is_normalised: bool) -> list[Path]:
        (folder / name).write_text("a graph")
        return [folder / name]

    monkeypatch.setattr("utils.prediction.export.write_onnx", write_graph)
    fitted("resnet18", "random").save(tmp_path / "model.safetensors")
    out = tmp_path / "out"
    with temporary_folder(tmp_path) as folder:
        name = folder.name
    (out / name).mkdir(parents=True)
    (out / name / "half.onnx").touch()
    (out / "a.onnx.data").write_text("mine")
    argv = ["--model", str(tmp_path / "model.safetensors"), "--output", str(out / "a.onnx")]
    assert export(argv) == 0
    assert export(argv) == 0
    assert {path.name for path in out.iterdir()} == {"a.onnx", "a.onnx.data"}
    (out / "a.onnx").write_text("a graph of a.onnx.data")
    assert export(argv) == 0
    assert {path.name for path in out.iterdir()} == {"a.onnx"}
