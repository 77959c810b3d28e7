"""Options: defaults, what they accept, and one line for what they do not."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from utils.cli.options import get_args_parser, parse_args


def parse(*argv: str) -> Namespace:
    return parse_args(get_args_parser("a script", "random", 100), argv)


def test_defaults_are_the_papers() -> None:
    args = parse()
    assert (args.resize, args.crop, args.epsilon, args.sigma) == (256, 224, 0.01, 4.0)
    assert (args.reduction, args.embedding_dim, args.seed) == ("random", 100, 0)
    assert (args.data_path, args.save_path, args.weights) == (None, Path("result"), "imagenet")
    assert (args.figures, args.device, args.overwrite) == (None, "auto", False)


def test_values_are_converted() -> None:
    args = parse("--classes", "a,b", "c", "--layers", "layer1,stem", "--crop=none", "--figures=3")
    assert (args.classes, args.layers, args.crop, args.figures) == (
        ["a,b", "c"],  # split where the classes are known, for one may be called so
        ["layer1", "stem"],
        256,
        3,
    )
    assert parse("--figures", "none").figures == 0
    assert parse("--reduction", "none").embedding_dim is None
    assert parse("--device", "cuda:1").device == "cuda:1"
    assert parse("--sigma", "0").sigma == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seed", "-1"], "-1 is out of range; give a whole number from 0 to 4294967295"),
        (["--seed", "one"], "'one' is no number"),
        (["--batch_size", "0"], "give a whole number from 1 up"),
        (["--crop", "300"], "--crop 300 is larger than --resize 256"),
        (["--epsilon", "0"], "a number above 0"),
        (["--epsilon", "nan"], "a number above 0"),
        (["--sigma", "-2"], "a number from 0 up"),
        (["--device", "gpu"], "'gpu' is none of auto, cpu, cuda, cuda:N, mps"),
        (["--figures", "some"], "'some' is none of all, none and a whole number"),
        (["--device", "cuda:128"], "'cuda:128' is none of auto"),
        (["--device", "cuda:\u00b2"], "is none of auto"),
        (["--sigma", "1e10"], "--sigma 1e+10 is larger than the image, 224 pixels"),
        (["--epsilon", "1e300"], "at most 1e+06"),
        (["--layers", ","], "--layers names none"),
        (["--reduction", "none", "--embedding_dim", "5"], "--reduction none keeps all channels"),
        (["--seed", "a\nb"], "'a\\nb' is no number"),
        (["--false_alarm_rate", "1"], "above 0 and below 1"),
        (["--reduction", "lda"], "choose from"),
        (["--data", "x"], "unrecognized arguments: --data x"),
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
