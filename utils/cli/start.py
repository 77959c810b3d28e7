"""The start and the end of a script's process."""

from __future__ import annotations

import sys
from typing import NoReturn

from utils.system.environment import Output, tidy_environment
from utils.system.stop import heed_signals, say_stopped, stop_status

BAD_INPUT = 2


def start(script: str, **options: str) -> NoReturn:
    """Run a script and end its process.

    Args:
        script: name of a function of ``utils.cli.main``.
        options: its arguments.
    """
    heed_signals()  # before anything that takes time is imported
    tidy_environment()
    from utils.cli import main
    from utils.system.process import exit_now

    try:
        status = getattr(main, script)(**options)
    except SystemExit as done:  # after --help, and after a mistake in the options
        status = done.code if isinstance(done.code, int) else 0
    if stop_status():
        say_stopped()
        status = stop_status()
    for name in ("stdout", "stderr"):
        output = getattr(sys, name)
        output.flush()
        if isinstance(output, Output) and output.failure is not None and status == 0:
            print(f"error: {name} cannot be written to ({output.failure})", file=sys.stderr)
            status = BAD_INPUT
    exit_now(status)
