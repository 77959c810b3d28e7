"""The library as a programmer uses it: kinds of images, checks at the door, no side effects."""

from __future__ import annotations

import copy
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config, draw_image
from PIL import Image

import padim
from padim import Backbone, ImageError, ModelError, NotFittedError, PaDiM, PaDiMConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("resnet18", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "more").mkdir()
    for i in range(6):
        draw_image(i).save(root / ("more" if i > 3 else ".") / f"{i}.png")
    (root / "notes.txt").write_text("not an image")
    (root / ".hidden.png").write_text("not read")
    return root


@pytest.fixture(scope="module")
def model(backbone: Backbone, folder: Path) -> PaDiM:
    return PaDiM(backbone, config()).fit(folder)


def test_every_kind_of_images_gives_the_same_scores(model: PaDiM, folder: Path) -> None:
    paths = sorted(folder.glob("*.png"))[1:] + sorted(folder.glob("more/*.png"))
    pictures = [Image.open(path) for path in paths]
    arrays = [np.asarray(picture) for picture in pictures]
    tensor = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    expected = model.score(folder)[1]
    assert len(expected) == 6
    for images in (str(folder), paths, map(str, paths), pictures, arrays, np.stack(arrays), tensor):
        torch.testing.assert_close(model.score(images)[1], expected, rtol=1e-5, atol=0)
    for one in (paths[2], pictures[2], arrays[2], tensor[2]):
        torch.testing.assert_close(model.score(one)[1], expected[2:3], rtol=1e-5, atol=0)


def test_predictions_follow_the_decision_rule(model: PaDiM, folder: Path) -> None:
    maps, scores = model.score(folder)
    results = list(model.predict(folder, false_positive_rate=0.2))
    assert [result.path.name for result in results] == [f"{i}.png" for i in range(6)]
    for result, one, score in zip(results, maps, scores.tolist(), strict=True):
        assert result.score == pytest.approx(score)
        assert result.threshold == model.calibration.image_threshold(0.2)
        assert result.is_defective == (result.score > result.threshold)
        assert 0 < result.p_value <= 1
        torch.testing.assert_close(result.anomaly_map, one)


def test_a_saved_model_finds_its_own_backbone(model: PaDiM, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for given in (str(path), path):
        model.save(given)
        loaded = PaDiM.load(given)
        assert loaded.backbone.checksum == model.backbone.checksum
        assert loaded.score(folder)[0].equal(model.score(folder)[0])


def test_a_model_whose_weights_are_gone_says_so(folder: Path, tmp_path: Path) -> None:
    network, weights = Backbone("resnet18", "random"), tmp_path / "weights.pth"
    from torchvision import models

    torch.save(models.resnet18(weights=None).state_dict(), weights)
    network = Backbone("resnet18", weights)
    PaDiM(network, config()).fit(folder).save(tmp_path / "model.safetensors")
    weights.unlink()
    with pytest.raises(ModelError, match=r"weights: model .*weights.pth, which does not exist"):
        PaDiM.load(tmp_path / "model.safetensors")
    assert PaDiM.load(tmp_path / "model.safetensors", network).gaussian is not None


def test_it_is_a_module(model: PaDiM, backbone: Backbone, folder: Path) -> None:
    expected = model.score(folder)[0]
    assert copy.deepcopy(model).score(folder)[0].equal(expected)
    other = PaDiM(backbone, config(seed=7))
    other.load_state_dict(model.state_dict())
    assert other.score(folder)[0].equal(expected)
    names = set(model.state_dict())
    assert {"embedding.ids", "gaussian.mean", "gaussian.factor", "calibration.image_scores"} < names
    assert model.to("cpu") is model
    assert (model.grid, PaDiM(backbone).grid) == ((16, 16), (56, 56))


@pytest.mark.parametrize("other", [{"epsilon": 0.1}, {"sigma": 2.0}, {"resize": 80}])
def test_a_state_of_another_configuration_is_refused(
    model: PaDiM, backbone: Backbone, other: dict
) -> None:
    with pytest.raises(ModelError, match=next(iter(other))):
        PaDiM(backbone, config(**other)).load_state_dict(model.state_dict())


def test_a_state_is_a_copy_and_a_part_of_it_unfits_nothing(
    model: PaDiM, backbone: Backbone, folder: Path
) -> None:
    other = PaDiM(backbone, config())
    other.load_state_dict(model.state_dict())
    assert other.embedding.ids.data_ptr() != model.embedding.ids.data_ptr()
    part = {k: v for k, v in model.state_dict().items() if k.startswith("backbone")}
    other.load_state_dict(part, strict=False)
    assert other.score(folder)[0].equal(model.score(folder)[0])


def test_pictures_in_memory_are_read_as_their_files_are(model: PaDiM, tmp_path: Path) -> None:
    """Turned by their tag, with 16 bits scaled, not clipped; and views of arrays in any order."""
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_image(3).crop((0, 0, 48, 30)).save(tmp_path / "turned.png", exif=exif)
    deep = (np.asarray(draw_image(4).convert("L")).astype(np.uint16)) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for path in (tmp_path / "turned.png", tmp_path / "deep.png"):
        assert model.score(Image.open(path))[0].equal(model.score(path)[0])
    pixels = np.asarray(draw_image(5))
    assert model.score(pixels[:, ::-1, ::-1])[0].equal(
        model.score(np.ascontiguousarray(pixels[:, ::-1, ::-1]))[0]
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "deep.png").read_bytes()[:300])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(ImageError, match=r"cut\.png"):
        model.score(cut)


def test_a_rate_is_checked_without_a_calibration_too(backbone: Backbone) -> None:
    two = PaDiM(backbone, config()).fit([draw_image(0), draw_image(1)])
    for rate in (7, "0.01"):
        with pytest.raises(ModelError, match="false_positive_rate"):
            two.predict(draw_image(0), rate)


@pytest.mark.parametrize("reduction", ["random", "pca"])
def test_fitting_again_starts_afresh(backbone: Backbone, folder: Path, reduction: str) -> None:
    options = config(reduction=reduction)
    other = [draw_image(i).rotate(90) for i in range(20, 28)]
    again = PaDiM(backbone, options).fit(other).fit(folder)
    once = PaDiM(backbone, options).fit(folder)
    assert again.score(folder)[0].equal(once.score(folder)[0])
    assert again.fit(other[:2]).calibration is None
    assert next(again.predict(other[0])).is_defective is None


def test_before_fit_everything_says_that_it_is_missing(backbone: Backbone, tmp_path: Path) -> None:
    blank = PaDiM(backbone, config())
    image = draw_image(0)
    crops = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    for use in (
        lambda: blank.score(image),
        lambda: blank.predict(image),
        lambda: blank(crops),
        lambda: blank.save(tmp_path / "model.safetensors"),
        lambda: blank.gather(),
    ):
        with pytest.raises(NotFittedError, match="not fitted"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(2, 3, 64, 64), "float32; expected uint8"),
        (np.random.default_rng(0).random((64, 64, 3)), "float64; expected uint8"),
        (torch.full((2, 3, 64, 64), torch.nan), "expected uint8"),
        (torch.zeros(2, 1, 64, 64, dtype=torch.uint8), "shape (2, 1, 64, 64)"),
        (np.zeros((64, 64, 4), np.uint8), "shape (64, 64, 4)"),
        (np.zeros((2, 0, 64, 3), np.uint8), "no pixels"),
        ("nowhere", "nowhere does not exist"),
        (7, "of type int"),
        ([None], "of type NoneType"),
    ],
)
def test_images_that_cannot_be_used(model: PaDiM, images: object, words: str) -> None:
    for use in (model.score, model.predict, copy.copy(model).fit):
        with pytest.raises(ImageError) as error:
            use(images)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_crops_of_another_size(model: PaDiM) -> None:
    with pytest.raises(ImageError, match=r"shape \(2, 3, 56, 64\); expected torch.uint8"):
        model(torch.zeros(2, 3, 56, 64, dtype=torch.uint8))
    assert model(torch.zeros(0, 3, 64, 64, dtype=torch.uint8))[0].shape == (0, 64, 64)
    assert model.score([])[1].shape == (0,)


def test_one_image_is_too_few(backbone: Backbone, folder: Path, tmp_path: Path) -> None:
    for images in (draw_image(0), [draw_image(0)], folder / "0.png"):
        with pytest.raises(ModelError, match="1 training image: .* at least 2"):
            PaDiM(backbone, config()).fit(images)
    with pytest.raises(ImageError, match="no image in"):
        PaDiM(backbone, config()).fit(tmp_path)


def test_a_broken_file_is_named(model: PaDiM, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    with pytest.raises(ImageError, match=r"broken\.png"):
        model.score(tmp_path)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"reduction": "radnom"}, "reduction"),
        ({"reduction": "PCA"}, "reduction"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"embedding_dim": 2.5}, "embedding_dim"),
        ({"embedding_dim": None}, "embedding_dim"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"crop": 300}, "crop"),
        ({"crop": 0}, "crop"),
        ({"resize": 2**20}, "resize"),
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": "0.01"}, "epsilon"),
        ({"sigma": -1}, "sigma"),
        ({"sigma": 500}, "sigma"),
    ],
)
def test_configurations_are_checked(options: dict, parameter: str) -> None:
    with pytest.raises(ModelError, match=parameter) as error:
        PaDiMConfig(**options)
    assert error.value.parameter == parameter
    assert "--" not in str(error.value)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_rates_are_checked(model: PaDiM, folder: Path, rate: float) -> None:
    with pytest.raises(ModelError, match="false_positive_rate"):
        model.predict(folder, rate)


def test_the_papers_configuration_is_the_default() -> None:
    assert PaDiM(Backbone("resnet18", "random")).config == PaDiMConfig("random", 100)
    assert PaDiMConfig.of_paper("wide_resnet50_2").embedding_dim == 550
    assert PaDiMConfig.of_paper("efficientnet_b5").reduction == "none"


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "padim").rglob("*.py")
    if path.stem != "__init__"
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"torch": torch})
    assert found.failed == 0
    source = Path(module.__file__).read_text()
    for package in ("datasets", "utils"):  # the library imports nothing of the project but itself
        assert f"import {package}" not in source
        assert f"from {package}" not in source


def test_all_that_is_public_can_be_imported() -> None:
    assert all(getattr(padim, name) is not None for name in padim.__all__)
    with pytest.raises(AttributeError, match="no attribute 'PaDim'"):
        padim.PaDim  # noqa: B018


UNCHANGED = """
import gc, os, signal, sys
import torch, torchvision, PIL.Image, numpy
environment, threads = dict(os.environ), torch.get_num_threads()
handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
frozen, hooks, warned = gc.get_freeze_count(), sys.excepthook, list(__import__("warnings").filters)
dtype, generator = torch.get_default_dtype(), torch.get_rng_state()

from padim import Backbone, PaDiM, PaDiMConfig
model = PaDiM(Backbone("resnet18", "random"), PaDiMConfig(embedding_dim=20))
images = torch.zeros(5, 3, 64, 64, dtype=torch.uint8)
model.fit(images).score(images)

assert dict(os.environ) == environment and torch.get_num_threads() == threads
assert {s: signal.getsignal(s) for s in handlers} == handlers
assert gc.isenabled() and gc.get_freeze_count() == frozen and sys.excepthook is hooks
assert list(__import__("warnings").filters) == warned
assert torch.get_default_dtype() == dtype and torch.get_rng_state().equal(generator)
assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
from torchvision.ops import boxes
assert "padim" not in str(getattr(boxes, "is_compile_supported", ""))
print("unchanged")
"""


def test_using_it_changes_nothing_of_the_process() -> None:
    command = [sys.executable, "-c", UNCHANGED]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout == "unchanged\n", run.stderr
