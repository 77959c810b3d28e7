"""Process positions or images in blocks that fit into the memory of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from padim.errors import DeviceMemoryError
from padim.parallel.threads import map_in_threads, thread_count

# On a CPU: enough to keep batched routines busy, and little compared with the Gaussians. On a GPU,
# small blocks leave most of the device idle: an eighth of the free memory, within these bounds.
CPU_BYTES = 32 * 2**20  # of all blocks processed at the same time
MIN_BYTES = 2**20  # less is not worth a second thread
CUDA_BYTES = (16 * 2**20, 1024 * 2**20)


def for_each_block(
    work: Callable[[slice], None],
    total: int,
    bytes_each: int,
    device: torch.device,
    cpu_size: int | None = None,
) -> None:
    """Call ``work`` with slices that together cover ``range(total)``; on a CPU in several threads.

    Args:
        work: called with one block at a time, in any order. If it runs out of memory, it is called
            again with a part of the block, so it must change nothing before its last allocation.
        total: number of positions, or of images.
        bytes_each: memory needed for one of them.
        device: where ``work`` computes.
        cpu_size: size of the blocks on a CPU, for work whose last digits depend on it.

    Raises:
        DeviceMemoryError: a block of one does not fit into the memory.
    """
    if device.type != "cpu":
        step = max(1, block_bytes(device) // max(1, bytes_each))
        _in_turn(work, slice(0, total), step, device)
        return
    n_threads = thread_count() if total * bytes_each > MIN_BYTES else 1
    step = max(1, CPU_BYTES // (n_threads * max(1, bytes_each)))
    step = cpu_size or min(step, -(-total // n_threads)) or 1
    blocks = [slice(start, min(start + step, total)) for start in range(0, total, step)]
    map_in_threads(lambda block: _in_turn(work, block, step, device), blocks)


def grouped(batches: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    """Consecutive batches in groups of at least ``size`` rows; the last group may be smaller."""
    group: list[torch.Tensor] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= size:
            yield group
            group = []
    if group:
        yield group


def block_bytes(device: torch.device) -> int:
    """How large a block may be, in bytes."""
    if device.type != "cuda":
        return CPU_BYTES
    free, _total = torch.cuda.mem_get_info(device)
    return min(max(free // 8, CUDA_BYTES[0]), CUDA_BYTES[1])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device.

    PyTorch raises ``OutOfMemoryError`` on a GPU, but a bare ``RuntimeError`` on a CPU, which is
    recognised by its text.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _in_turn(work: Callable[[slice], None], total: slice, step: int, device: torch.device) -> None:
    """Call ``work`` with consecutive blocks, and with smaller ones after memory ran out."""
    start = total.start
    while start < total.stop:
        end = min(start + step, total.stop)
        try:
            work(slice(start, end))
            start = end
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if end - start == 1:
                raise DeviceMemoryError(f"the memory of {device} does not suffice") from error
            step = (end - start) // 2
