"""Options: defaults, what they accept, and one line for what they do not."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest
from helpers import expect_one_line
from scripts import ROOT

from padim.config import PAPER_CONFIGS, TITLES
from utils.cli.compare_options import parse_compare_options
from utils.cli.export_options import parse_export_options
from utils.cli.predict_options import parse_predict_options
from utils.cli.reproduce_options import parse_reproduce_options, weights_by_backbone
from utils.cli.run_options import parse_run_options
from utils.evaluation.metric_names import DEFAULT_METRICS, METRICS
from utils.experiment.options import RunOptions
from utils.reproduction.plan import BACKBONES

SCRIPTS = {
    "main": partial(parse_run_options, "resnet18"),
    "predict": parse_predict_options,
    "export": parse_export_options,
    "reproduce": parse_reproduce_options,
    "compare": parse_compare_options,
}


def parse(*argv: str) -> RunOptions:
    return parse_run_options("resnet18", argv)


def test_defaults_are_the_papers() -> None:
    options = parse()
    assert (options.resize, options.crop, options.epsilon, options.sigma) == (256, None, 0.01, 4.0)
    assert (options.reduction, options.embedding_dim, options.seed) == ("random", 100, 0)
    assert (options.data_path, options.save_path) == (None, Path("result"))
    assert (options.weights, options.figures, options.device) == ("imagenet", None, "auto")
    assert options.overwrite is False


def test_every_backbone_has_defaults() -> None:
    found = {}
    for backbone in BACKBONES:
        options = parse_run_options(backbone, [])
        found[backbone] = (options.reduction, options.embedding_dim)
    assert found == {
        "resnet18": ("random", 100),
        "wide_resnet50_2": ("random", 550),
        "efficientnet_b5": ("none", None),
    }
    assert parse_run_options("efficientnet_b5", ["--reduction=pca"]).embedding_dim == 100
    assert tuple(TITLES) == tuple(PAPER_CONFIGS) == BACKBONES


def test_values_are_converted() -> None:
    options = parse("--classes", "a,b", "c", "--layers", "layer1,stem", "--crop=none")
    assert options.classes == ("a,b", "c")  # split when the classes are known: "a,b" may be one
    assert options.layers == ("layer1", "stem")
    assert options.crop == 256
    assert parse("--figures=3").figures == 3
    assert parse("--figures", "none").figures == 0
    assert parse("--reduction", "none").embedding_dim is None
    assert parse("--device", "cuda:1").device == "cuda:1"
    assert parse("--sigma", "0").sigma == 0
    assert parse("--seeds", "2", "1").seeds == (2, 1)


def test_options_are_frozen_and_hold_no_lists() -> None:
    predict = ["--model=m.safetensors", "--input", "a", "b", "--save_path=s"]
    for options in (
        parse("--classes", "a", "--seeds", "1", "2"),
        parse_predict_options(predict),
        parse_export_options(["--model=m.safetensors", "--output=m.onnx"]),
        parse_reproduce_options(["--data_path=d", "--classes", "a"]),
    ):
        values = vars(options)
        assert not [name for name, value in values.items() if isinstance(value, list)]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, next(iter(values)), None)


def test_weights_have_one_meaning() -> None:
    one, two = ("resnet18",), ("resnet18", "efficientnet_b5")
    assert weights_by_backbone(["random"], two) == dict.fromkeys(two, "random")
    assert weights_by_backbone(["a.pth"], one) == {"resnet18": "a.pth"}
    assert weights_by_backbone(["a=b.pth"], one) == {"resnet18": "a=b.pth"}
    assert weights_by_backbone(["resnet18=a.pth"], one) == {"resnet18": "a.pth"}
    assert weights_by_backbone(["resnet18=a.pth"], two) == {
        "resnet18": "a.pth",
        "efficientnet_b5": "imagenet",
    }
    argv = ["--data_path=d", "--backbones", "resnet18", "--weights", "a.pth"]
    options = parse_reproduce_options(argv)
    assert options.weights == {"resnet18": "a.pth"}
    assert not options.is_untrained
    assert parse_reproduce_options(["--data_path=d", "--weights=random"]).is_untrained


@pytest.mark.parametrize(
    "given",
    [
        ["a.pth"],
        ["vgg=a.pth"],
        ["resnet18="],
        ["imagenet", "random"],
        ["resnet18=random"],
        ["a", "b"],
    ],
)
def test_weights_that_name_no_backbone_are_refused(given: list[str]) -> None:
    with pytest.raises(ValueError, match="give imagenet, random, a file if one backbone"):
        weights_by_backbone(given, BACKBONES)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seed", "-1"], "-1 is out of range; give a whole number from 0 to 4294967295"),
        (["--seed", "one"], "'one' is not a number"),
        (["--batch_size", "0"], "give a whole number from 1 up"),
        (["--crop", "300"], "--crop 300 is larger than --resize 256"),
        (["--epsilon", "0"], "a number above 0"),
        (["--epsilon", "nan"], "a number above 0"),
        (["--sigma", "-2"], "a number from 0 up"),
        (["--device", "gpu"], "'gpu' is not auto, cpu, cuda, cuda:N or mps"),
        (["--figures", "some"], "'some' is not all, none or a whole number"),
        (["--device", "cuda:128"], "'cuda:128' is not auto"),
        (["--device", "cuda:\u00b2"], "is not auto"),
        (["--sigma", "1e10"], "--sigma 1e+10 is larger than the image, 256 pixels"),
        (["--epsilon", "1e300"], "at most 1e+06"),
        (["--layers", ","], "--layers names no layer"),
        (["--reduction", "none", "--embedding_dim", "5"], "--reduction none keeps all channels"),
        (["--seed", "a\nb"], "'a\\nb' is not a number"),
        (["--false_alarm_rate", "1"], "above 0 and below 1"),
        (["--reduction", "lda"], "expected one of random"),
        (["--reduction", "randm"], "'randm' is unknown; did you mean random?"),
        (["--dataset", "MVTEC"], "'MVTEC' is unknown"),
        (["--data", "x"], "unknown argument --data; did you mean --dataset?"),
        (["--batchsize=3"], "unknown argument --batchsize=3; did you mean --batch_size?"),
        (["x\n"], "unknown argument x\\n ("),
        (["--classes"], "expected at least one argument"),
    ],
)
def test_mistakes_get_one_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*argv)
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert words in output.err


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_version(script: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script]([option])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "None" not in shown  # a default that is not worth knowing
    assert "False" not in shown
    assert option == "--help" or shown.startswith("padim ")


def test_no_namespace_leaves_the_command_line() -> None:
    for path in ROOT.glob("utils/**/*.py"):
        if path.parent.name != "cli":
            assert "import argparse" not in path.read_text(), path
            assert "from argparse" not in path.read_text(), path


@pytest.mark.parametrize(
    "given", [["pro", "aupimo"], ["pro,aupimo"], ["pro,", "aupimo"], [",pro,,aupimo"]]
)
def test_metrics_are_the_columns_in_the_order_given(given: list[str]) -> None:
    assert parse("--metrics", *given).metrics == ("pro", "aupimo")
    assert parse_compare_options(["--runs", "a", "b", "--metrics", *given]).metrics[0] == "pro"
    assert parse().metrics == DEFAULT_METRICS


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["pr0"], ["pr0 is no metric", *METRICS]),
        (["PRO"], ["PRO is no metric"]),
        (["pro", "pro"], ["--metrics names one twice"]),
        ([","], ["names no metric"]),
        (["n_train"], ["n_train is no metric"]),
    ],
)
def test_a_wrong_metric_is_one_line_with_the_names(given: list[str], words: list, capsys) -> None:
    for parser in (SCRIPTS["main"], SCRIPTS["compare"]):
        with pytest.raises(SystemExit) as stopped:
            parser(["--metrics", *given, *(["--runs", "a", "b"] * (parser is not SCRIPTS["main"]))])
        expect_one_line(capsys, stopped.value.code, *words)
