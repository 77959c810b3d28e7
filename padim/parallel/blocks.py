"""Work done block by block, in blocks as large as the device's memory allows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from padim.errors import ModelError
from padim.parallel.threads import at_a_time, side_by_side

# Enough to keep batched routines busy, little beside the Gaussians themselves; on a GPU, where a
# small block leaves most of the device idle, an eighth of what is free, within these bounds.
CPU_BYTES = 32 * 2**20  # of the blocks worked on at a time, together, unless one of one takes more
LEAST_BYTES = 2**20  # less is not worth a second thread
CUDA_BYTES = (16 * 2**20, 1024 * 2**20)


def in_blocks(
    work: Callable[[slice], None], total: int, bytes_each: int, device: torch.device
) -> None:
    """Call ``work`` with slices that together cover ``range(total)``; on a CPU several at a time.

    Args:
        work: done on one block, in any order. It may be called again with the first part of a
            block that it ran out of memory on, so it changes nothing before its last allocation.
        total: number of positions, or images.
        bytes_each: memory that one of them takes while it is worked on.
        device: where.

    Raises:
        ModelError: the device's memory does not suffice for a block of one.
    """
    if device.type != "cpu":
        _in_turn(work, slice(0, total), max(1, block_bytes(device) // max(1, bytes_each)), device)
        return
    at_once = at_a_time() if total * bytes_each > LEAST_BYTES else 1
    step = max(1, CPU_BYTES // (at_once * max(1, bytes_each)))
    step = min(step, -(-total // at_once)) or 1
    blocks = [slice(start, min(start + step, total)) for start in range(0, total, step)]
    side_by_side(lambda block: _in_turn(work, block, step, device), blocks)


def _in_turn(work: Callable[[slice], None], whole: slice, step: int, device: torch.device) -> None:
    """Call ``work`` with one block after the other, smaller ones where memory runs out."""
    start = whole.start
    while start < whole.stop:
        end = min(start + step, whole.stop)
        try:
            work(slice(start, end))
            start = end
        except torch.OutOfMemoryError as error:
            if end - start == 1:
                raise ModelError(
                    f"{device} has too little memory left; give --device cpu or a smaller --crop"
                ) from error
            step = (end - start) // 2


def block_bytes(device: torch.device) -> int:
    """How large a block may be."""
    if device.type != "cuda":
        return CPU_BYTES
    free, _total = torch.cuda.mem_get_info(device)
    return min(max(free // 8, CUDA_BYTES[0]), CUDA_BYTES[1])
