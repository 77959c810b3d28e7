"""All that is done to the process for speed. Scripts alone call it; no library does.

Each line names the measurement that justifies it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

from utils.errors import OptionError
from utils.system.memory import hold_memory_flat, keep_memory
from utils.system.stop import check_stop

_COMPILER = "torch._dynamo.utils"
_PROJECT = ("padim", "datasets", "utils")


@contextmanager
def tune_process(is_memory_flat: bool = False) -> Iterator[None]:
    """Set the process up for a run; the block imports what the run needs, PyTorch among it.

    Args:
        is_memory_flat: whether large blocks of memory are given back as they are freed, so that
            memory does not grow with the number of images; if not, they are kept for reuse.

    Raises:
        OptionError: another package cannot be imported, be it for a variable it reads.
    """
    # PyTorch's threads wait without spinning. Spinning threads take the cores from the processes
    # that decode, which costs a sixth of a run's time. It is read when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # NumPy's products are small: those of the bootstrap take a fifth of the processor time if no
    # second thread spins for its share of them. It is read when NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if is_memory_flat:
        hold_memory_flat()
    else:
        keep_memory()  # a fifth of the time of decoding, see there
    # What is imported stays, so the garbage collector need not look through it: a sixth of the
    # time of the imports.
    gc.disable()
    try:
        _import_torchvision()
        yield
    except Exception as error:
        if (getattr(error, "name", None) or "").partition(".")[0] in _PROJECT:
            raise  # a fault of the program
        reason = " ".join(str(error).split())[:200]
        raise OptionError(
            f"a package cannot be imported ({type(error).__name__}: {reason}); "
            "look at the installation and the environment's variables"
        ) from error
    finally:
        gc.freeze()
        gc.enable()
    check_stop()


def tune_worker() -> None:
    """Set up a process that decodes images: a fifth of the time of decoding, see there."""
    keep_memory()


def exit_now(status: int) -> NoReturn:
    """End the process without taking PyTorch's modules apart, which takes a second.

    With PADIM_CLEAN_EXIT=1 in the environment the process ends as Python ends it, for tools that
    do their work at exit, such as profilers and coverage.
    """
    if os.environ.get("PADIM_CLEAN_EXIT") == "1":
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def light_torchvision() -> Iterator[None]:
    """Import torchvision in the block without PyTorch's compiler: a second and 140 MB less.

    torchvision asks the compiler one question, ``is_compile_supported``, for box operators that no
    network here has. A stand-in module is there while the block runs. torchvision keeps its
    function, which passes a question on to the compiler, so torchvision answers as ever.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)
    stand_in.is_compile_supported = _ask_compiler  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def _import_torchvision() -> None:
    try:
        with light_torchvision():
            import torchvision.models
    except ImportError:  # a torchvision that asks the compiler for more
        import torchvision.models  # noqa: F401


def _ask_compiler(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)
