"""What every entry script does: options in, exit status out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from datasets.errors import DataError
from padim.errors import ModelError
from utils.errors import OptionError
from utils.options import get_args_parser, parse_args

BAD_INPUT = 2


def main(
    backbone: str,
    description: str,
    reduction: str,
    embedding_dim: int,
    argv: Sequence[str] | None = None,
) -> int:
    """Run an entry script.

    Args:
        backbone: a key of ``padim.backbones.BACKBONES``.
        description: shown by ``--help``.
        reduction: the backbone's default reduction.
        embedding_dim: its default number of channels where they are reduced.
        argv: arguments; None for the command line's.

    Returns:
        The exit status: 0; 2 after bad input (one line on stderr); 130 or 143 when stopped by
        SIGINT or SIGTERM.
    """
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(errors="backslashreplace")  # file names need not be valid text
    signal.signal(signal.SIGTERM, _interrupt)
    args = parse_args(get_args_parser(description, reduction, embedding_dim), argv)
    try:
        from utils.run import run  # imports PyTorch, so only once the options are known good

        run(backbone, args)
    except (DataError, ModelError, OptionError) as error:
        return _fail(str(error))
    except OSError as error:  # a full disk, a folder taken away during the run
        what = f"{error.filename}: " if error.filename else ""
        return _fail(f"{what}{error.strerror or error}; finished classes are kept")
    except KeyboardInterrupt as interrupt:
        print("stopped; finished classes are kept, run again to go on", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    return 0


def _interrupt(number: int, _frame: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: what is done is written, workers are told to end."""
    raise KeyboardInterrupt(number)


def _fail(message: str) -> int:
    line = message.replace("\n", "\\n").replace("\r", "\\r")
    print(f"error: {line}", file=sys.stderr)
    return BAD_INPUT
