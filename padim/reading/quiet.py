"""What Pillow, libtiff and tifffile print about a file is not printed while it is read here.

A file that cannot be read is an ``ImageError``, which says all that there is to say. Nothing stays
changed after the reading, which may go on in several threads at once.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from PIL import Image

_LOGGERS = ("PIL", "tifffile")
_lock = threading.Lock()
_n_readers = 0  # in all threads
_restore = ExitStack()  # what the last of them does


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the decoders in the block, whatever the environment makes of warnings."""
    global _n_readers
    with _lock:
        _n_readers += 1
        if _n_readers == 1:
            _silence()
    try:
        yield
    finally:
        with _lock:
            _n_readers -= 1
            if _n_readers == 0:
                _restore.close()


def _silence() -> None:
    _restore.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    for logger in map(logging.getLogger, _LOGGERS):
        # Not its level: to set one forgets what all loggers of the process have looked up.
        _restore.callback(vars(logger).update, handlers=logger.handlers, propagate=logger.propagate)
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    set_handler = _libtiff_setter()
    if set_handler is not None:
        _restore.callback(set_handler, set_handler(None))


@cache
def _libtiff_setter() -> Callable[[int | None], int | None] | None:
    """libtiff's own function that sets its error handler, which prints to stderr at first."""
    try:
        setter = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # a Pillow without libtiff, or one that hides it
        return None
    setter.restype, setter.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    return setter
