"""What a script inherits from whatever started it, made fit for use: variables, outputs, warnings.

Other tools' variables are meant for other programs. One that PyTorch or Matplotlib cannot use is
removed, so that the script runs as without it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from io import TextIOWrapper
from typing import Any

# Whole numbers above 0, or several, as nested levels of OpenMP have them.
_COUNTS = re.compile(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,6}", re.ASCII)
_PAIRS = re.compile(r"\w+:[^,:]+(,\w+:[^,:]+)*", re.ASCII)
_EXPECTED = {
    "OMP_NUM_THREADS": _COUNTS,
    "OMP_THREAD_LIMIT": _COUNTS,
    "MKL_NUM_THREADS": _COUNTS,
    "OPENBLAS_NUM_THREADS": _COUNTS,
    "NUMEXPR_NUM_THREADS": _COUNTS,
    "LOCAL_WORLD_SIZE": _COUNT,
    "LOCAL_RANK": _INDEX,
    "PYTORCH_ALLOC_CONF": _PAIRS,
    "PYTORCH_CUDA_ALLOC_CONF": _PAIRS,
}
# This process's values: no window is opened, no other program's settings change a figure, and
# PyTorch's C++ part reports errors only.
_OWN = {
    "MPLBACKEND": "agg",
    "MATPLOTLIBRC": os.devnull,
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def tidy_environment() -> None:
    """Make variables, warnings and outputs of this process fit; the first thing a script does."""
    for name, expected in _EXPECTED.items():
        if name in os.environ and not expected.fullmatch(os.environ[name].strip()):
            del os.environ[name]
    os.environ.update(_OWN)
    # Other packages' warnings speak of their own code; ours are printed. PYTHONWARNINGS=error
    # would turn them into errors.
    warnings.simplefilter("ignore")
    logging.lastResort = logging.NullHandler()  # for loggers without a handler of their own
    _open_outputs()


def local_world_size() -> int:
    """How many processes of this run are on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")  # torchrun sets it
    return int(text) if _COUNT.fullmatch(text) else 1


def _open_outputs() -> None:
    """Give closed descriptors 0 to 2 something harmless: a file opened later would get theirs."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = Output.over(sys.stdout, 1)
    sys.stderr = Output.over(sys.stderr, 2)


class Output(TextIOWrapper):
    """An output that may have no reader: what is printed then is lost, and the work goes on.

    Attributes:
        failure: why the output could not be written; None while it can, or if its reader ended.
    """

    failure: str | None = None

    @classmethod
    def over(cls, stream: Any, descriptor: int) -> Output:
        """Around a standard stream, or around its descriptor if the stream was closed."""
        is_open = stream is not None and hasattr(stream, "buffer")
        buffer = stream.buffer if is_open else open(descriptor, "wb", closefd=False)  # noqa: SIM115
        encoding = stream.encoding if is_open else "utf-8"
        # File names need not be valid text.
        is_by_line = stream.line_buffering if is_open else descriptor == 2
        return cls(buffer, encoding, "backslashreplace", line_buffering=is_by_line)

    def write(self, text: str) -> int:
        """As ``TextIOWrapper``, except that an output that cannot be written is left alone."""
        try:
            return super().write(text)
        except OSError as error:
            return self._give_up(error, len(text))

    def flush(self) -> None:
        """As ``write``."""
        try:
            super().flush()
        except OSError as error:
            self._give_up(error, 0)

    def _give_up(self, error: OSError, n_letters: int) -> int:
        if not isinstance(error, BrokenPipeError):
            self.failure = error.strerror
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, self.fileno())  # what is in the buffer goes there too
        os.close(descriptor)
        return n_letters
