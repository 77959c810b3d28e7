"""Silence Pillow, libtiff and tifffile while a file is read.

A file that cannot be read raises an ``ImageError``, which gives the reason. All settings are
restored after reading. Several threads may read at once.
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
_restore = ExitStack()  # undone by the last of them


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the decoders in the block, whatever the filters of warnings are."""
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
        # Not its level: setting one clears the caches of all loggers of the process.
        _restore.callback(vars(logger).update, handlers=logger.handlers, propagate=logger.propagate)
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    set_handler = _libtiff_setter()
    if set_handler is not None:
        _restore.callback(set_handler, set_handler(None))


@cache
def _libtiff_setter() -> Callable[[int | None], int | None] | None:
    """libtiff's function that sets the error handler; the default one prints to stderr."""
    try:
        setter = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # a Pillow without libtiff, or one that hides it
        return None
    setter.restype, setter.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    return setter
