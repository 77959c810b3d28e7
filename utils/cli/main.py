"""What every entry script does: options in, exit status out."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from datasets.errors import DataError
from padim.errors import ModelError
from utils.cli.options import (
    get_args_parser,
    get_export_parser,
    get_predict_parser,
    get_reproduce_parser,
    parse_args,
    parse_reproduce_args,
)
from utils.errors import OptionError
from utils.system.console import one_line

BAD_INPUT = 2
SOME_FAILED = 1


def main(
    backbone: str,
    description: str,
    reduction: str,
    embedding_dim: int,
    argv: Sequence[str] | None = None,
) -> int:
    """Run an entry script that fits and evaluates.

    Args:
        backbone: a key of ``padim.backbones.BACKBONES``.
        description: shown by ``--help``.
        reduction: the backbone's default reduction.
        embedding_dim: its default number of channels where they are reduced.
        argv: arguments; None for the command line's.

    Returns:
        The exit status: 0, or as ``_guarded`` has it.
    """
    args = parse_args(get_args_parser(description, reduction, embedding_dim), argv)

    def work() -> int:
        with importing():
            from utils.experiment.run import (
                run,  # imports PyTorch, so only once the options are known good
            )

        run(backbone, args)
        return 0

    return _guarded(work, "finished classes are kept", "run again to go on")


def predict(argv: Sequence[str] | None = None) -> int:
    """Run ``predict.py``.

    Returns:
        The exit status: 0; 1 where an image could not be judged; or as ``_guarded`` has it.
    """
    args = get_predict_parser().parse_args(argv)

    def work() -> int:
        with importing():
            from utils.prediction.judging import predict

        return SOME_FAILED if predict(args) else 0

    return _guarded(work, "maps written so far are kept", "--overwrite starts anew")


def export(argv: Sequence[str] | None = None) -> int:
    """Run ``export.py``.

    Returns:
        The exit status: 0, or as ``_guarded`` has it.
    """
    args = get_export_parser().parse_args(argv)

    def work() -> int:
        with importing():
            from utils.prediction.export import export

        export(args)
        return 0

    return _guarded(work, "nothing is written", "run again")


def reproduce(argv: Sequence[str] | None = None) -> int:
    """Run ``reproduce.py``.

    Returns:
        The exit status: 0, or as ``_guarded`` has it.
    """
    args = parse_reproduce_args(get_reproduce_parser(), argv)

    def work() -> int:
        with importing():
            from utils.reproduction.run import reproduce

        reproduce(args)
        return 0

    return _guarded(work, "what was run is kept", "run again to go on")


def _guarded(work: Callable[[], int], kept: str, advice: str) -> int:
    """Do a script's work, and turn what stops it into one line on stderr.

    Args:
        work: returns the exit status.
        kept: what there is after it was stopped.
        advice: what to do then.

    Returns:
        The status of ``work``; 2 after bad input; 130 or 143 when stopped by SIGINT or SIGTERM.
    """
    let_threads_sleep()
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(errors="backslashreplace")  # file names need not be valid text
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
    except (DataError, ModelError, OptionError) as error:
        return _fail(str(error))
    except OSError as error:  # a full disk, a folder taken away during the run
        what = f"{error.filename}: " if error.filename else ""
        return _fail(f"{what}{error.strerror or error}; {kept}")
    except (MemoryError, RuntimeError) as error:
        reason = _for_want_of_memory(error) or _for_want_of_others(error)
        if reason is None:
            raise  # a fault of the program's own, of which all should be seen
        return _fail(f"{reason}; {kept}")
    except KeyboardInterrupt as interrupt:
        print(f"stopped; {kept}, {advice}", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)


def leave(status: int) -> NoReturn:
    """End the process at once: to take PyTorch's modules apart first would take a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def importing() -> Iterator[None]:
    """Import with the garbage collector off, and have it pass over what was imported ever after.

    What is imported stays, and looking through all of it again and again is a sixth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def let_threads_sleep() -> None:
    """Have PyTorch's threads wait without spinning; of use only before PyTorch is imported.

    Spinning they take the cores from the processes that decode, a sixth of the time of a run.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _for_want_of_memory(error: Exception) -> str | None:
    """What to do about an error that memory was too small for; None for any other."""
    text = " ".join(str(error).split())
    if "DataLoader worker" in text:
        return f"a worker was killed ({text}); give a smaller --num_workers or --batch_size"
    is_short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_short or "can't allocate memory" in text:
        return "the memory does not suffice; give a smaller --batch_size, --crop or --embedding_dim"
    return None


def _for_want_of_others(error: Exception) -> str | None:
    """What to say where another process of the run is gone; None for any other error."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    text = " ".join(str(error).split())
    if "Duplicate GPU" in text or "ncclInvalidUsage" in text:
        return "NCCL wants a GPU for each process: start as many as there are GPUs"
    signs = ("closed by peer", "reset by peer", "refused", "timed out", "broken pipe")  # gloo's
    is_of_others = any(sign in text.lower() for sign in signs)
    if is_of_others or type(error).__name__.startswith("Dist"):  # DistNetworkError and the like
        return "another process of this run ended, or cannot be reached; its own message says why"
    return None


def _interrupt(number: int, _frame: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: what is done is written, workers are told to end."""
    raise KeyboardInterrupt(number)


def _fail(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return BAD_INPUT
