"""What becomes of freed memory, where malloc is glibc's; with any other nothing is done here."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_... in glibc's malloc.h
FLAT_BYTES = 4 * 2**20
KEPT_BYTES = 128 * 2**20
LARGEST_BYTES = 32 * 2**20  # the most that older versions allow


def keep_memory() -> None:
    """Have what one image took be kept for the next one, by whichever thread.

    Left alone it is given back to the system after every image, and to be given it anew, page by
    page, takes a fifth of the time of decoding, and up to a fifth of a network's.
    """
    _set(_MMAP_THRESHOLD, LARGEST_BYTES)
    _set(_TRIM_THRESHOLD, KEPT_BYTES)
    _set(_ARENA_MAX, 1)  # before there are threads: each would keep its own


def hold_memory_flat() -> None:
    """Have large blocks given back to the system as they are freed.

    Left alone that limit rises to the size of a feature map, and feature maps of thousands of
    batches, between them small blocks that stay, then leave a heap full of holes.
    """
    _set(_MMAP_THRESHOLD, FLAT_BYTES)


def _set(option: int, n_bytes: int) -> None:
    try:
        ctypes.CDLL(None).mallopt(option, n_bytes)
    except (OSError, AttributeError, TypeError):  # another C library
        return
