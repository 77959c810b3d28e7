"""The networks: taps against a plain forward pass, weights good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import random_backbone
from torchvision import models

from padim.backbones import Backbone, normalise
from padim.config import PRECISIONS
from padim.errors import ModelError
from padim.paper_backbones import BACKBONES

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture(scope="module")
def resnet18() -> models.ResNet:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def weights_file(resnet18: models.ResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18.state_dict(), path)
    return path


@pytest.mark.parametrize("name", BACKBONES)
def test_taps_are_the_networks_own_feature_maps(name: str, tmp_path: Path) -> None:
    spec = BACKBONES[name]
    generator = torch.manual_seed(3)
    network = spec.build().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as training leaves them, not as drawn
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name, tmp_path / "weights.pth")
    # The network's own forward pass is the oracle: what it goes through is noted by hooks.
    expected: list[torch.Tensor] = []
    if name == "efficientnet_b5":  # blocks 7, 20 and 26, counted from 1
        tapped, forward = [network._blocks[i] for i in (6, 19, 25)], network.extract_features
    else:
        tapped, forward = [network.layer1, network.layer2, network.layer3], network
    for module in tapped:
        module.register_forward_hook(lambda _module, _input, output: expected.append(output))
    with torch.inference_mode():
        taps = backbone(normalise(IMAGES))
        forward(normalise(IMAGES))
    assert len(expected) == 3
    for ours, theirs in zip(taps, expected, strict=True):
        # Batch norms are folded into the convolutions, which rounds otherwise.
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.std().item())


@pytest.mark.parametrize("name", BACKBONES)
def test_in_bfloat16_taps_are_right_to_two_digits(name: str) -> None:
    exact, halved = (random_backbone(name, given) for given in PRECISIONS)
    assert exact.checksum == halved.checksum
    with torch.inference_mode():
        pairs = zip(exact(normalise(IMAGES)), halved(normalise(IMAGES)), strict=True)
        for expected, tap in pairs:
            assert tap.dtype == torch.float32
            off = (tap - expected).norm() / expected.norm()
            assert 2**-12 < off < 0.05  # a digit of bfloat16 is 2^-9


def test_nothing_after_the_last_tap_is_kept(weights_file: Path) -> None:
    backbone = Backbone("resnet18", weights_file)
    assert backbone.channels == (64, 128, 256)
    assert list(backbone.stages) == ["stem", "layer1", "layer2", "layer3"]


def test_normalise_is_torchvisions() -> None:
    theirs = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    expected = (IMAGES / 255 - torch.tensor(theirs.mean).view(3, 1, 1)) / torch.tensor(
        theirs.std
    ).view(3, 1, 1)
    torch.testing.assert_close(normalise(IMAGES), expected)


@pytest.mark.parametrize(
    ("name", "channels", "grids"),
    [
        ("wide_resnet50_2", (256, 512, 1024), (16, 8, 4)),
        ("efficientnet_b5", (40, 128, 176), (16, 4, 4)),
    ],
)
def test_the_papers_taps(name: str, channels: tuple, grids: tuple) -> None:
    backbone = random_backbone(name)
    with torch.inference_mode():
        taps = backbone(normalise(IMAGES))
    assert backbone.channels == channels
    assert tuple(tap.shape[-1] for tap in taps) == grids
    assert all(torch.isfinite(tap).all() and tap.std() > 1e-3 for tap in taps)


def test_efficientnet_blocks_are_counted_from_1() -> None:
    spec = BACKBONES["efficientnet_b5"]
    network = spec.build()
    stages = {stage.name: stage.module for stage in spec.stages(network)}
    assert len(stages) == 1 + 39
    assert stages["block7"] is network._blocks[6]
    assert stages["block26"] is network._blocks[25]


def test_layers_can_be_chosen_and_come_in_network_order() -> None:
    backbone = Backbone("resnet18", "random", layers=["layer2", "layer1"])
    assert backbone.layers == ("layer1", "layer2")
    assert list(backbone.stages) == ["stem", "layer1", "layer2"]
    with pytest.raises(ModelError, match="no layer layer9; it has layer1 to layer4"):
        Backbone("resnet18", "random", layers=["layer9"])


def test_random_weights_are_those_of_the_seed() -> None:
    first, again, other = (Backbone("resnet18", "random", seed=seed) for seed in (1, 1, 2))
    assert first.checksum == again.checksum != other.checksum


def test_a_file_need_only_reach_the_last_tap(
    resnet18: models.ResNet, weights_file: Path, tmp_path: Path
) -> None:
    kept = {k: v for k, v in resnet18.state_dict().items() if not k.startswith(("layer4", "fc"))}
    torch.save({"state_dict": kept}, tmp_path / "short.pth")
    short = Backbone("resnet18", tmp_path / "short.pth")
    assert short.checksum == Backbone("resnet18", weights_file).checksum


def test_weights_of_another_network_are_refused(weights_file: Path, tmp_path: Path) -> None:
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(ModelError, match=r"resnet34.pth are not those of ResNet-18: the file has"):
        Backbone("resnet18", tmp_path / "resnet34.pth")
    with pytest.raises(ModelError, match="not those of Wide ResNet-50-2: the file lacks"):
        Backbone("wide_resnet50_2", weights_file)
    torch.save(models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    with pytest.raises(ModelError, match="another shape of"):
        Backbone("wide_resnet50_2", tmp_path / "resnet50.pth")


class Harmful:
    """Unpickling this would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_files_that_hold_no_tensors_are_refused_and_run_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"layer": Harmful(tmp_path / "touched")}, tmp_path / "harmful.pth")
    for name in ("text.pth", "empty.pth", "list.pth", "harmful.pth", "missing.pth"):
        with pytest.raises(ModelError, match=name):
            Backbone("resnet18", tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_a_failed_download_says_what_to_fetch_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "torch.hub.download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no net"))
    )
    for name, spec in BACKBONES.items():
        with pytest.raises(ModelError) as error:
            Backbone(name, "imagenet")
        message = str(error.value)
        assert "\n" not in message
        for part in ("no net", spec.weights_url, str(tmp_path), "give the file"):
            assert part in message


def test_a_cached_download_is_used_and_a_damaged_one_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resnet18: models.ResNet, weights_file: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / Path(BACKBONES["resnet18"].weights_url).name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights_file.read_bytes())
    assert Backbone("resnet18").checksum == Backbone("resnet18", weights_file).checksum
    cached.write_bytes(b"cut short")
    with pytest.raises(ModelError, match="is damaged; delete it"):
        Backbone("resnet18")


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_strides_and_the_grid_are_known_beforehand(name: str) -> None:
    backbone = random_backbone(name)
    for side in (33, 57, 64, 100):
        with torch.inference_mode():
            feature_maps = backbone(torch.zeros(1, 3, side, side))
        assert tuple(one.shape[1] for one in feature_maps) == backbone.channels
        sizes = [tuple(one.shape[2:]) for one in feature_maps]
        assert backbone.grid(side) == max(sizes)
    with torch.inference_mode():
        feature_maps = backbone(torch.zeros(1, 3, 64, 64))
    assert tuple(64 // one.shape[2] for one in feature_maps) == backbone.strides


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet81"}, "did you mean resnet18"),
        ({"name": "resnet18", "layers": []}, "layers"),
        ({"name": "resnet18", "layers": "layer1"}, "list of layer names"),
        ({"name": "resnet18", "precision": "float8"}, "bfloat16"),
    ],
)
def test_unknown_names_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Backbone(weights="random", **options)
