"""Writes docs/options.md, every option of every script, from the scripts' parsers: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from padim.config import PaDiMConfig
from utils.cli import common
from utils.cli.compare_options import parse_compare_options
from utils.cli.export_options import parse_export_options
from utils.cli.predict_options import parse_predict_options
from utils.cli.reproduce_options import parse_reproduce_options
from utils.cli.run_options import parse_run_options, parse_timm_options

HEAD = """# Options

Made by `make docs` from what `--help` says. An unknown option or value ends with one line, which
names the nearest known one.
"""


class _ParserMade(Exception):  # noqa: N818 - how a parser is taken out of the function that makes it
    pass


def parser_of(script: str, parse: Callable[[], object]) -> common.Parser:
    """The parser that a function makes."""

    def note(parser: common.Parser, argv: object) -> None:
        raise _ParserMade(parser)

    usual = common.Parser.options
    common.Parser.options = note  # type: ignore[method-assign, assignment]
    try:
        parse()
    except _ParserMade as made:
        parser = made.args[0]
        parser.prog = script
        return parser
    finally:
        common.Parser.options = usual  # type: ignore[method-assign]
    raise RuntimeError(f"{script} makes no parser")


def parsers() -> list[common.Parser]:
    """Those of all scripts whose options differ."""
    return [
        parser_of("main_resnet.py", lambda: parse_run_options("resnet18")),
        parser_of("main_timm.py", lambda: parse_timm_options(lambda *_: PaDiMConfig())),
        parser_of("predict.py", parse_predict_options),
        parser_of("export.py", parse_export_options),
        parser_of("reproduce.py", parse_reproduce_options),
        parser_of("compare.py", parse_compare_options),
    ]


def lines(parser: common.Parser, known: dict[str, str]) -> Iterator[str]:
    """The section of a script; options that another one has with the same words are left out."""
    yield f"\n## {parser.prog}\n"
    yield f"{parser.description}.\n"
    yield f"    {(parser.epilog or '').partition(':  ')[2].replace('%(prog)s', parser.prog)}\n"
    yield "| option | values | meaning |\n| --- | --- | --- |"
    same = []
    for action in parser._actions:
        name = action.option_strings[-1]
        text = (action.help or "").replace("%(default)s", str(action.default))
        if name in ("--help", "--version"):
            continue
        if known.get(name) == text:
            same.append(f"`{name}`")
            continue
        known.setdefault(name, text)
        yield f"| `{name}` | {values(action)} | {text.replace('|', ' or ')} |"
    if same:
        yield f"\nThe same as above: {', '.join(same)}."


def values(action: object) -> str:
    choices = getattr(action, "choices", None)
    if choices is not None:
        return ", ".join(f"`{one}`" for one in choices)
    metavar = getattr(action, "metavar", None)
    several = " ..." if getattr(action, "nargs", None) in ("+", 2) else ""
    return (metavar or "").replace("|", ", ") + several


def text() -> str:
    """The whole page."""
    known: dict[str, str] = {}
    sections = ["\n".join(lines(parser, known)) for parser in parsers()]
    sections[0] = sections[0].replace(
        "## main_resnet.py", "## main_resnet.py, main_wide_resnet.py, main_eff_net.py"
    )
    return HEAD + "\n".join(sections) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(text(), encoding="utf-8")
