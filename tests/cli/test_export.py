"""The ONNX graph of a model, run in ONNX Runtime and compared with the model itself."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from base64 import b64decode
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import LONG
from PIL import Image

from padim import onnx_graph
from padim.backbones import Backbone, normalise
from padim.config import PaDiMConfig
from padim.model import PaDiM
from padim.onnx_graph import GraphOptions, ScoringGraph
from padim.storage.files import temporary_folder
from utils.cli.main import export, predict
from utils.prediction import parity

RESIZE, CROP = 72, 64
NEEDS_TIMM = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
REASON = "pip install onnx onnxscript is not installed"
JUDGE = Path(__file__).parents[2] / "judge_onnx.py"


def fitted(backbone: str, kind: str, n_images: int = 12) -> PaDiM:
    """A model with untrained weights, fitted on noise; dense where images outnumber channels."""
    dim = None if kind == "none" else 8
    # A variance far above epsilon, as untrained networks have it, costs digits in float32.
    config = PaDiMConfig(kind, dim, resize=RESIZE, crop=CROP, epsilon=1.0)
    model = PaDiM(Backbone(backbone, "random"), config)
    return model.fit_crops([crops(n_images, seed=1)], n_images)


def crops(count: int, seed: int) -> torch.Tensor:
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


def session(path: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason=REASON)
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def expect_equal(model: PaDiM, path: Path, tolerance: float = 1e-4) -> None:
    """Images of several sizes, and two at once, to a share of the highest value."""
    opened = session(path)
    for count, size in ((1, (CROP, CROP)), (2, (90, 211)), (1, (40, 1)), (1, (300, 260))):
        images = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
        expected = list(model.predict(list(images), 0.2))
        maps, scores, p_values, flags = opened.run(None, {"image": images})
        assert maps.shape == (count, CROP, CROP)
        top = max(one.score for one in expected)
        for index, one in enumerate(expected):
            np.testing.assert_allclose(maps[index], one.anomaly_map, atol=tolerance * top)
            np.testing.assert_allclose(scores[index], one.score, atol=tolerance * top)
            assert p_values[index] == pytest.approx(one.p_value)
            assert flags[index] == one.is_defective


@pytest.fixture(scope="module")
def packages() -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=REASON)


@pytest.fixture(scope="module")
def resnet(packages, tmp_path_factory: pytest.TempPathFactory) -> tuple[PaDiM, Path]:
    """A fitted ResNet-18 and its graph, which several tests read; its model file is beside both."""
    model, folder = fitted("resnet18", "random"), tmp_path_factory.mktemp("resnet")
    return model, write(model, folder, "--false_alarm_rate=0.2")


def test_a_graph_gives_what_the_model_gives(resnet) -> None:
    expect_equal(*resnet)


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        pytest.param("timm/test_vit", "random", marks=NEEDS_TIMM),
        pytest.param("resnet18", "none", marks=LONG),
        pytest.param("wide_resnet50_2", "none", marks=LONG),
        pytest.param("efficientnet_b5", "none", marks=LONG),
        pytest.param("efficientnet_b5", "random", marks=LONG),
    ],
)
def test_of_other_networks(packages, backbone, kind, tmp_path: Path) -> None:
    model = fitted(backbone, kind)
    if backbone.startswith("timm"):  # one export for two things: it looks at a region only
        mask = torch.zeros(CROP, CROP, dtype=torch.bool)
        mask[10:40, 20:61] = True
        model.fit_crops([crops(12, seed=1)], 12, region=mask)
        maps = model(crops(1, seed=1))[0]
        assert maps[:, mask].gt(0).all() and maps[:, ~mask].eq(0).all()
    assert model.gaussian.is_low_rank == (kind == "none")
    path = write(model, tmp_path, "--false_alarm_rate=0.2")
    expect_equal(model, path)
    facts = session(path).get_modelmeta().custom_metadata_map
    if model.region is not None:
        with Image.open(BytesIO(b64decode(facts["region"]))) as picture:
            assert np.array_equal(np.asarray(picture), model.region.mask)


@pytest.mark.parametrize("kind", ["none", "semi_orthogonal"])
def test_what_is_exported_takes_crops_too(kind: str) -> None:
    """The exporter's own work is tested above; it does not depend on the kind."""
    model, given = fitted("resnet18", kind), crops(3, seed=2)
    maps, scores = model(given)
    for input_type, fed in (("uint8", given), ("normalised", normalise(given))):
        found = ScoringGraph(model, GraphOptions(input_type)).eval()(fed)
        torch.testing.assert_close(found[0], maps, rtol=0, atol=1e-4 * float(maps.max()))
        torch.testing.assert_close(found[1], scores, rtol=1e-4, atol=0)


def test_without_thresholds_a_graph_gives_maps_and_scores() -> None:
    model = fitted("resnet18", "random", n_images=2)
    assert len(ScoringGraph(model)(torch.zeros(1, 9, 7, 3, dtype=torch.uint8))) == 2


def test_the_graph_says_what_it_is_of(resnet) -> None:
    model, path = resnet
    facts = session(path).get_modelmeta().custom_metadata_map
    calibration = model.calibration
    expected = {"class": "model", "backbone": "resnet18", "resize": "72", "crop": "64"}
    expected |= {"bits": "16", "n_training_images": "12", "input_type": "image"}
    expected |= {"false_alarm_rate": "0.2", "weights_checksum": model.backbone.checksum}
    expected |= {"image_threshold": str(calibration.image_threshold(0.2))}
    expected |= {"pixel_threshold": str(calibration.pixel_threshold(0.2))}
    assert facts.items() >= expected.items()
    assert {"padim_version", "torch_version"} < set(facts)


def test_openvino_reads_the_same_file(resnet) -> None:
    openvino = pytest.importorskip("openvino")
    model, path = resnet
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in ((90, 211), (300, 260)):
        image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        (expected,) = model.predict(image, 0.2)
        found = compiled({"image": image[None]})
        assert found["image_score"][0] == pytest.approx(expected.score, rel=1e-3)
        assert found["p_value"][0] == pytest.approx(expected.p_value)
        assert found["is_defective"][0] == expected.is_defective


def test_half_as_large_with_its_data_beside_it(resnet, tmp_path: Path, monkeypatch, capsys) -> None:
    """And then replaced by a graph that needs no second file. The exporter's work is done once."""
    onnx_ir = pytest.importorskip("onnx_ir")
    model, whole = resnet
    rate, images = "--false_alarm_rate=0.2", image_folder(tmp_path / "images", 3)
    program = torch.onnx.ONNXProgram(onnx_ir.load(whole), None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_given, **_options: program)
    monkeypatch.setattr(onnx_graph, "MAX_BYTES_INSIDE", 0)
    path = write(model, tmp_path, rate, "--float16", "--verify", str(images))
    said = capsys.readouterr().out
    assert "largest differences from the model on 3 images: score " in said
    assert "0 decisions differ" in said
    data = path.with_name("model.onnx.data").stat().st_size
    assert path.stat().st_size < data < 0.6 * whole.stat().st_size
    expect_equal(model, path, tolerance=5e-3)
    monkeypatch.undo()
    argv = ["--model", str(tmp_path / "model.safetensors"), "--output", str(path), rate]
    monkeypatch.setattr("utils.prediction.export.write_onnx", copying(whole))
    assert export(argv) == 2
    assert f"--output {path} exists already: give --overwrite" in capsys.readouterr().err
    assert path.with_name("model.onnx.data").is_file()
    assert export([*argv, "--overwrite"]) == 0
    assert [other.name for other in path.parent.iterdir()] == ["model.onnx"]
    expect_equal(model, path)


def copying(graph: Path) -> Any:
    """In the place of ``write_onnx``, which takes seconds."""

    def write_graph(_model: PaDiM, folder: Path, name: str, *_options: object) -> list[Path]:
        return [Path(shutil.copy(graph, folder / name))]

    return write_graph


def image_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("images", "unlike the model: largest differences from the model on 1 images"),
        ("images/0.png", "unlike the model"),
        ("nowhere", "does not exist"),
        ("empty", "no image"),
    ],
)
def test_a_graph_unlike_its_model_is_not_written(
    given: str, words: str, resnet, tmp_path: Path, monkeypatch, capsys
) -> None:
    image_folder(tmp_path / "images", 1)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(parity, "MAX_SCORE_DIFFERENCE", -1.0)
    monkeypatch.setattr("utils.prediction.export.write_onnx", copying(resnet[1]))
    model, output = resnet[1].parents[1] / "model.safetensors", tmp_path / "out" / "a.onnx"
    argv = ["--model", str(model), "--output", str(output), "--verify", str(tmp_path / given)]
    assert export([*argv, "--false_alarm_rate=0.2"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "UNTRAINED" not in line]
    assert len(errors) == 1
    assert words in errors[0]
    assert not list(tmp_path.glob("out/*"))


def test_judging_without_the_product_gives_its_table(resnet, tmp_path: Path) -> None:
    """A copy of the file in a folder of its own, so that it can import nothing of this program."""
    images = image_folder(tmp_path / "images", 2)
    (images / "deep").mkdir()
    first = Image.open(images / "0.png")
    first.convert("L").save(images / "deep" / "grey.png")
    Image.open(images / "1.png").convert("P").save(images / "palette.PNG")
    first.convert("RGBA").resize((31, 20)).save(images / "alpha.webp", lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    first.save(images / "turned.jpg", exif=turned)
    levels = np.random.default_rng(5).integers(0, 65536, (40, 60), dtype=np.uint16)
    Image.fromarray(levels).save(images / "sixteen.tif")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:2000])
    (images / "text.jpg").write_text("no image")
    (images / ".hidden.png").touch()
    model = resnet[1].parents[1] / "model.safetensors"
    shared = ["--input", str(images), "--save_path"]
    rate = ("--false_alarm_rate=0.2", "--maps=none", "--num_workers=0", "--figures=none")
    assert predict(["--model", str(model), *shared, str(tmp_path / "product"), *rate]) == 1

    script = shutil.copy(JUDGE, tmp_path / "judge_onnx.py")
    command = [sys.executable, script, "--model", str(resnet[1]), *shared, str(tmp_path / "alone")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [
        ["failed:", "cut.png:"],
        ["failed:", "text.jpg:"],
    ]
    expected, found = (read_table(tmp_path / name) for name in ("product", "alone"))
    assert found[0] == expected[0]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert (ours[0], ours[3]) == (theirs[0], theirs[3])
        assert float(ours[1]) == pytest.approx(float(theirs[1]), rel=1e-4)
        assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=1e-6)
    assert [path.name for path in sorted((tmp_path / "alone").iterdir())] == [
        *("failed.csv", "scores.csv")
    ]
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "--overwrite" in again.stderr


def read_table(folder: Path) -> list[list[str]]:
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.reader(file))


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
    model.fit_crops([crops(12, seed=1)], 12).save(tmp_path / "model.safetensors")
    output = tmp_path / "model.onnx"
    assert export(["--model", str(tmp_path / "model.safetensors"), "--output", str(output)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line[:3] != "!!!"]
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
    monkeypatch.setattr("utils.prediction.export.check_packages", lambda _is_run: None)
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
    monkeypatch.setattr("utils.prediction.export.check_packages", lambda _is_run: None)

    def write_graph(_model, folder: Path, name: str, *_options: object) -> list[Path]:
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
    assert export([*argv, "--overwrite"]) == 0
    assert {path.name for path in out.iterdir()} == {"a.onnx", "a.onnx.data"}
    (out / "a.onnx").write_text("a graph of a.onnx.data")
    assert export([*argv, "--overwrite"]) == 0
    assert {path.name for path in out.iterdir()} == {"a.onnx"}
