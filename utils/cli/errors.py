"""The one place where an error becomes a line on stderr and an exit status."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields

from padim.errors import DeviceMemoryError, PaDiMError
from utils.errors import OptionError
from utils.experiment.options import RunOptions
from utils.prediction.options import ExportOptions, PredictOptions
from utils.reproduction.options import ReproduceOptions
from utils.system.console import one_line
from utils.system.stop import is_first_process, say_stopped, set_stop_line, stop_status

SOME_FAILED = 1
BAD_INPUT = 2
_OPTIONS = {
    field.name
    for kind in (RunOptions, ReproduceOptions, PredictOptions, ExportOptions)
    for field in fields(kind)
} | {"backbone"}
# PyTorch raises a bare RuntimeError with these texts if a CPU lacks memory, if NCCL has too few
# GPUs, and if a process that gloo talks to is gone.
_NO_CPU_MEMORY = re.compile(r"DefaultCPUAllocator: (can't allocate|not enough) memory")
_NCCL_SHARES_GPU = re.compile(r"Duplicate GPU|ncclInvalidUsage")
_GONE = "another process of this run ended or cannot be reached; its own message says why"
_PROCESS_GONE = re.compile(
    r"closed by peer|reset by peer|refused|timed out|broken pipe", re.IGNORECASE
)


def guard(work: Callable[[], int], kept: str, advice: str) -> int:
    """Do a script's work, and turn what stops it into one line on stderr.

    Args:
        work: returns the exit status.
        kept: what remains after the script was stopped.
        advice: what to do then.

    Returns:
        The status of ``work``; 2 after bad input; 128 and its number if a signal stopped it.
    """
    set_stop_line(f"stopped; {kept}, {advice}")
    try:
        status, message = _outcome(work, kept)
    except BaseException:  # such as the end of a process that the signal went to as well
        if not stop_status():
            raise
        status = 0
        message = None
    for output in filter(None, (sys.stdout, sys.stderr)):
        output.flush()
    if stop_status():
        say_stopped()
        return stop_status()
    if message is not None:
        print(f"error: {one_line(message)}", file=sys.stderr)
    return status


def _outcome(work: Callable[[], int], kept: str) -> tuple[int, str | None]:
    """The status, and the line of an error."""
    try:
        return work(), None
    except DeviceMemoryError as error:
        return BAD_INPUT, f"{error}; give a smaller --batch_size or --crop; {kept}"
    except (PaDiMError, OptionError) as error:
        return BAD_INPUT, _with_option(error)
    except OSError as error:  # a full disk, or a folder that was removed during the run
        what = f"{error.filename}: " if error.filename else ""
        return BAD_INPUT, f"{what}{error.strerror or error}; {kept}"
    except (MemoryError, RuntimeError) as error:
        reason = explain(error)
        if reason is None:
            raise  # a fault of the program: its traceback is needed
        if reason == _GONE and not is_first_process():
            return BAD_INPUT, None  # the first process and the one that is gone say it
        return BAD_INPUT, f"{reason}; {kept}"


def explain(error: MemoryError | RuntimeError) -> str | None:
    """Say what to do about an error that the machine caused; None for a fault of the program.

    The text of an error decides only if PyTorch gives it no type of its own.
    """
    torch = sys.modules.get("torch")
    is_distributed = os.environ.get("WORLD_SIZE", "1") != "1"
    text = " ".join(str(error).split())
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return (
            "the GPU has too little memory; give a smaller --batch_size or --crop, or --device cpu"
        )
    if isinstance(error, MemoryError) or _NO_CPU_MEMORY.search(text):
        return "there is too little memory; give a smaller --batch_size, --crop or --embedding_dim"
    if is_distributed and _NCCL_SHARES_GPU.search(text):
        return "NCCL needs a GPU for each process: start as many processes as there are GPUs"
    if is_distributed and (_is_network_error(error) or _PROCESS_GONE.search(text)):
        return _GONE
    return None


def _with_option(error: Exception) -> str:
    """The message; if it starts with a parameter that is an option, with the option's name."""
    parameter = getattr(error, "parameter", None)
    is_option = parameter in _OPTIONS and str(error).startswith(parameter)
    return f"--{error}" if is_option else str(error)


def _is_network_error(error: Exception) -> bool:
    distributed = sys.modules.get("torch.distributed")
    return isinstance(error, getattr(distributed, "DistError", ()))
