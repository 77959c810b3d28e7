"""What happens to freed memory if malloc is glibc's; with any other malloc nothing is done."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_... in glibc's malloc.h
FLAT_BYTES = 4 * 2**20
KEPT_BYTES = 128 * 2**20
LARGEST_BYTES = 32 * 2**20  # the most that older versions of glibc allow


def keep_memory() -> None:
    """Keep the memory that one image took for the next one, in whichever thread.

    By default it goes back to the system after every image. To get it again, page by page, takes a
    fifth of the time of decoding and up to a fifth of a network's time.
    """
    _set(_MMAP_THRESHOLD, LARGEST_BYTES)
    _set(_TRIM_THRESHOLD, KEPT_BYTES)
    _set(_ARENA_MAX, 1)  # before there are threads: each would keep memory of its own


def hold_memory_flat() -> None:
    """Give large blocks back to the system as soon as they are freed.

    By default the threshold for that rises to the size of a feature map. The feature maps of
    thousands of batches, with small blocks in between that stay, then fragment the heap. What an
    image takes in smaller blocks, its pixels and its files, is kept for the next one: half of the
    system's share of the time of writing.
    """
    _set(_MMAP_THRESHOLD, FLAT_BYTES)
    _set(_TRIM_THRESHOLD, LARGEST_BYTES)


def _set(option: int, n_bytes: int) -> None:
    try:
        ctypes.CDLL(None).mallopt(option, n_bytes)
    except (OSError, AttributeError, TypeError):  # another C library
        return
