"""Networks of timm: their features are timm's own, and a model of one is a model like others."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import config, draw
from torchvision import models

from padim import backbones
from padim.backbones import Backbone, find_spec
from padim.config import PaDiMConfig
from padim.errors import ModelError
from padim.feature_network import IMAGENET_MEAN
from padim.model import PaDiM
from padim.onnx_graph import GraphOptions, ScoringGraph
from padim.storage.model_file import read_model_file
from padim.timm_backbones import TimmBackbone, _default_layers
from utils.experiment.network import Network
from utils.experiment.run_name import run_name

timm = pytest.importorskip(
    "timm", reason="timm is not installed: python -m pip install -r requirements-timm.txt"
)

# Each of another kind: convolutions, attention, both, with stages, windows, without batch norms.
SMALL = (
    *("test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_byobnet"),
    *("test_vit", "test_vit_relpos", "test_coatnet", "test_mambaout", "regnetx_002"),
    *("swin_tiny_patch4_window7_224", "levit_128s"),
)


def spec_of(name: str) -> TimmBackbone:
    spec = find_spec(f"timm/{name}")
    assert isinstance(spec, TimmBackbone)
    return spec


def timms_own(name: str, backbone: Backbone) -> torch.nn.Module:
    """The ``features_only`` network with the same values, whatever it calls its parts."""
    spec = spec_of(name)
    indices = [[one.name for one in spec.known].index(layer) for layer in backbone.layers]
    network = timm.create_model(name, features_only=True, out_indices=indices, **dict(spec.options))
    values = {
        key.removeprefix("network.").replace(".", "_"): value
        for key, value in backbone.stages.state_dict().items()
    }
    state = network.state_dict()
    for key in state:  # parts behind the last feature are in some of timm's networks alone
        state[key] = values.get(key.removeprefix("model.").replace(".", "_"), state[key])
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
def test_features_are_timms_own(name: str) -> None:
    backbone, spec = Backbone(f"timm/{name}", "random", seed=3), spec_of(name)
    side = spec.input_size if spec.is_fixed else 224 if "swin" in name else 96
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    normalised = backbone.normalise(images)
    torch.testing.assert_close(normalised, (images / 255 - mean) / std, rtol=1e-6, atol=1e-6)
    with torch.inference_mode():
        ours, theirs = backbone(normalised), timms_own(name, backbone)(normalised)
    assert len(ours) == len(theirs) == len(backbone.layers)
    for one, other, channels, stride in zip(
        ours, theirs, backbone.channels, backbone.strides, strict=True
    ):
        nchw = other if other.shape == one.shape else other.permute(0, 3, 1, 2)  # Swin's come last
        torch.testing.assert_close(one, nchw, rtol=1e-6, atol=1e-6)
        assert one.shape[:2] == (1, channels) and one.shape[2] == -(-side // stride)
        assert one.std() > 1e-6  # some signal is left
    assert backbone.grid(side) == tuple(ours[0].shape[2:])


@pytest.mark.parametrize(
    ("name", "layers", "strides"),
    [
        ("resnet50", ("layer1", "layer2", "layer3"), (4, 8, 16)),
        ("convnext_tiny", ("stages.0", "stages.1", "stages.2"), (4, 8, 16)),
        ("efficientnet_b5", ("blocks.1", "blocks.2", "blocks.4"), (4, 8, 16)),
        ("vit_tiny_patch16_224", ("blocks.2", "blocks.5", "blocks.8"), (16, 16, 16)),
        ("levit_128s", ("stages.0", "stages.1", "stages.2"), (16, 32, 64)),
    ],
)
def test_default_layers_go_by_stride_or_by_depth(name: str, layers: tuple, strides: tuple) -> None:
    spec = spec_of(name)
    assert spec.layers == layers
    assert tuple(one.stride for one in spec.known if one.name in layers) == strides


def test_default_layers_of_a_shallow_network() -> None:
    known = spec_of("test_vit").known
    for depth in range(1, len(known) + 1):
        found = _default_layers(known[:depth])
        assert 1 <= len(found) <= 3 and set(found) <= {one.name for one in known[:depth]}


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2"])
def test_maps_are_those_of_the_same_network_without_timm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Folded into its convolution, a batch norm rounds otherwise; timm's networks are not folded.
    monkeypatch.setattr(backbones, "_fold_batch_norms", lambda module: None)
    network = getattr(models, name)(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as training leaves them, not as drawn
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    state = {k: v for k, v in network.state_dict().items() if not k.startswith(("layer4", "fc"))}
    torch.save(state, tmp_path / "weights.pth")
    train, test = draw(6, 1), draw(2, 2)
    maps = []
    for prefix in ("", "timm/"):
        backbone = Backbone(prefix + name, tmp_path / "weights.pth")
        maps.append(PaDiM(backbone, config()).fit(train).score(test)[0])
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file(suffix: str, tmp_path: Path) -> None:
    import safetensors.torch

    torch.manual_seed(5)
    network, path = timm.create_model("test_vit"), tmp_path / f"vit.{suffix}"
    save = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(network.state_dict(), path)
    backbone = Backbone("timm/test_vit", path)
    blocks = backbone.stages["network"].blocks
    assert torch.equal(blocks[3].attn.qkv.weight, network.blocks[3].attn.qkv.weight)
    for wrong, words in (("timm/test_convnext", "not those of"), ("resnet18", "not those of")):
        with pytest.raises(ModelError, match=words):
            Backbone(wrong, path)
    path.write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"cannot be loaded.*safetensors"):
        Backbone("timm/test_vit", path)


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no net\nat all")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(ModelError, match=r"timm/test_resnet.*\(no net at all\).*give a file"):
        Backbone("timm/test_resnet")


def test_random_weights_are_those_of_the_seed() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (Backbone("timm/test_vit", "random", seed=seed) for seed in (1, 1, 2))
    assert first.checksum == again.checksum != other.checksum
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        ("timm/resnt50", None, r"did you mean resnet50\?"),
        ("timm/ResNet18", None, r"did you mean \S*resnet18"),
        ("timm/resnet50.a1_in2k", None, r"did you mean resnet50.a1_in1k\?"),
        ("timm/", None, "unknown to timm"),
        ("timm/hf-hub:timm/resnet18", None, "unknown to timm"),
        ("convnext_tiny", None, "timm/NAME"),
        ("timm/test_vit", ["block.3"], r"no layer block.3.*did you mean blocks.3\?"),
        ("timm/test_vit", [], "expected a list"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    name: str, layers: list[str] | None, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as error:
        Backbone(name, "random", layers)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(("name", "crop"), [("test_vit", 100), ("levit_128s", 192)])
def test_a_size_that_the_network_does_not_take_is_refused(name: str, crop: int) -> None:
    backbone, own = Backbone(f"timm/{name}", "random"), spec_of(name).input_size
    with pytest.raises(ModelError, match=f"crop {crop}: timm/{name} takes no .*its own.*{own}"):
        PaDiM(backbone, PaDiMConfig(crop=crop))


def test_a_vit_takes_other_sizes_than_its_own() -> None:
    backbone = Backbone("timm/test_vit", "random")
    assert [backbone.grid(side) for side in (64, 160, 224)] == [(4, 4), (10, 10), (14, 14)]


def test_the_default_configuration_is_the_networks() -> None:
    assert Backbone("timm/test_vit", "random").config() == PaDiMConfig(resize=183, crop=160)
    few = Backbone("timm/test_resnet", "random", layers=["layer1"])
    assert few.config().embedding_dim == few.channels[0] < 100


def test_a_model_file_knows_its_network_and_its_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone("timm/test_vit", "random")
    assert backbone.mean == (0.5, 0.5, 0.5) != IMAGENET_MEAN
    model, test = PaDiM(backbone, config()).fit(draw(5, 1)), draw(2, 2)
    model.save(tmp_path / "model.safetensors")
    header, _ = read_model_file(tmp_path / "model.safetensors")
    assert (header.backbone, header.mean) == ("timm/test_vit", [0.5, 0.5, 0.5])
    maps, scores = model(test)
    assert torch.equal(PaDiM.load(tmp_path / "model.safetensors")(test)[0], maps)
    graph_maps, graph_scores = ScoringGraph(model, GraphOptions("uint8"))(test)[:2]
    torch.testing.assert_close(graph_maps, maps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(graph_scores, scores, rtol=1e-4, atol=1e-4)
    other = replace(spec_of("test_vit"), mean=IMAGENET_MEAN)
    monkeypatch.setattr("padim.timm_backbones.timm_spec", lambda _name: other)
    with pytest.raises(ModelError, match=r"was fitted with timm/test_vit.*0.5.*this is.*0.485"):
        PaDiM.load(tmp_path / "model.safetensors")


def test_without_timm_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm/test_dla needs .*pip install timm"):
        Backbone("timm/test_dla", "random")
    assert Backbone("resnet18", "random").layers == ("layer1", "layer2", "layer3")


def test_runs_have_names_for_folders_and_share_a_network_tapped_earlier() -> None:
    network = Network(Backbone("timm/test_resnet", "random"))
    early = network.tapped(("layer1",))
    assert early.channels == network.whole.channels[:1]
    assert run_name(network.whole, config()) == "timm_test_resnet_rd20"
    assert run_name(early, config()) == "timm_test_resnet_layer1_rd20"
