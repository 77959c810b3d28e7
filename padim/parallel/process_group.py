"""The processes that fit one model together, as ``torchrun`` starts them.

Each process sees a shard of the images, and owns a range of the positions. It receives the learned
state of its range from all processes, and merges and factorises it. The factors are then sent to
all processes, so that each scores its shard of the test images. If one process cannot hold them
all, they stay with their owners. A group of one process sends nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from padim.errors import ModelError
from padim.fitting import GaussianLearner

if TYPE_CHECKING:
    from padim.parallel.sharded_gaussian import ShardedLearner

T = TypeVar("T")

START_TIMEOUT = timedelta(minutes=10)  # for all processes to start
# For the slowest process, and for rank 0 to evaluate and draw a class. It ends a deadlock; a
# process that ends is noticed at once.
TIMEOUT = timedelta(hours=1)
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
PIECE_BYTES = 64 * 2**20  # a tensor is sent in pieces: the device may have no room for all of it


@dataclass(frozen=True)
class ProcessGroup:
    """One process of ``world_size``, an argument of ``PaDiM.fit_features``.

    Attributes:
        rank: which process this is, from 0; rank 0 alone writes files.
        world_size: how many processes there are.
        device: the device on which tensors are sent and received.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def from_environment(cls, device: torch.device) -> ProcessGroup:
        """Join the group that the environment describes; one process if it describes none.

        Raises:
            ModelError: the others do not start, or the environment does not say how to find them.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        from torch.distributed.rendezvous import rendezvous  # missing in some builds of PyTorch

        try:
            store, rank, size = next(rendezvous("env://", timeout=START_TIMEOUT))
        except (ValueError, distributed.DistError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"the other processes of this run cannot be found ({reason}): start it with "
                "torchrun, or unset WORLD_SIZE for one process"
            ) from error
        _wait_for_all(store, rank, size, device.type)
        is_cuda = device.type == "cuda"
        if is_cuda:
            torch.cuda.set_device(device)  # otherwise NCCL guesses the device
        distributed.init_process_group(
            "nccl" if is_cuda else "gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT
        )
        return cls(rank, size, device if is_cuda else torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def shards(self, total: int) -> list[slice]:
        """The range of every process, almost equal in size; that of rank 0 is never empty."""
        ends = [-(-total * rank // self.world_size) for rank in range(self.world_size + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]

    def shard(self, total: int) -> slice:
        """The range of this process."""
        return self.shards(total)[self.rank]

    def learner(
        self, n_images: int, positions: int, epsilon: float, leaves_out: bool
    ) -> GaussianLearner | ShardedLearner:
        """A learner of the Gaussians of all ``positions`` from shards of ``n_images``."""
        from padim.parallel.sharded_gaussian import ShardedLearner

        if self.world_size == 1:
            return GaussianLearner(n_images, epsilon, leaves_out)
        return ShardedLearner(n_images, positions, epsilon, leaves_out, self)

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0; the others wait for it."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The sums of the tensors of all processes."""
        if self.world_size == 1:
            return tensors
        sums = [tensor.to(self.device, copy=True) for tensor in tensors]
        for tensor in sums:
            distributed.all_reduce(tensor)
        return sums

    def gather_objects(self, value: T) -> list[T]:
        """The values of all processes by rank, in rank 0; an empty list in the others."""
        if self.world_size == 1:
            return [value]
        values = [value] * self.world_size if self.is_first else None
        distributed.gather_object(value, values, dst=0)
        return values or []

    def all_true(self, value: bool) -> bool:
        """Whether the value is true in every process."""
        return not self.all_reduce([torch.tensor([0 if value else 1])])[0].item()

    def memory_share(self) -> int:
        """Bytes that a process may keep allocated: half of the free memory of its device.

        On a CPU, half of its share of the memory of the machine or container.
        """
        device = self.device
        if device.type == "cuda":
            kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return (torch.cuda.mem_get_info(device)[0] + kept) // 2
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size))
        return _memory() // (2 * here)

    def all_gather(self, part: torch.Tensor, total: int) -> torch.Tensor:
        """Concatenate the shards of ``total`` along the first axis, in every process."""
        if self.world_size == 1:
            return part
        gathered = part.new_empty(total, *part.shape[1:], device=self.device)
        for rank, shard in enumerate(self.shards(total)):
            if shard.stop > shard.start:
                piece = gathered[shard]
                if rank == self.rank:
                    piece.copy_(part)
                distributed.broadcast(piece, src=rank)
        return gathered.to(part.device)

    def gather(self, part: torch.Tensor, total: int) -> torch.Tensor | None:
        """``all_gather`` into the CPU memory of rank 0 only; None in the others."""
        if not self.is_first:
            for piece in _pieces(part):
                distributed.send(piece.to(self.device).contiguous(), 0)
            return None
        gathered = part.new_empty(total, *part.shape[1:], device="cpu")
        shards = self.shards(total)
        gathered[shards[0]] = part
        for rank, shard in enumerate(shards[1:], start=1):
            for piece in _pieces(gathered[shard]):
                found = torch.empty_like(piece, device=self.device)
                distributed.recv(found, rank)
                piece.copy_(found)
        return gathered

    def all_to_all(
        self, give: Callable[[int], Sequence[torch.Tensor]]
    ) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Send tensors to every process, and receive theirs, one process after the other.

        Unlike ``torch.distributed.all_to_all_single``, only one process's tensors are in memory at
        a time, and their sizes may differ.

        Args:
            give: returns the tensors for a rank; called once for each, when they are sent. All
                have the same number of axes and the same types.

        Yields:
            A rank and the tensors that it sent; this process's own come first.
        """
        yield self.rank, list(give(self.rank))
        for step in range(1, self.world_size):
            to, source = (self.rank + step) % self.world_size, (self.rank - step) % self.world_size
            yield source, self._exchange(give(to), to, source)

    def _exchange(self, given: Sequence[torch.Tensor], to: int, source: int) -> list[torch.Tensor]:
        sizes = torch.tensor([tuple(t.shape) + (0,) * (4 - t.dim()) for t in given])
        their_sizes = torch.empty_like(sizes)
        self._swap(sizes, to, their_sizes, source)
        found = []
        for tensor, size in zip(given, their_sizes.tolist(), strict=True):
            found.append(tensor.new_empty(size[: tensor.dim()]))
            self._swap(tensor, to, found[-1], source)
        return found

    def _swap(self, given: torch.Tensor, to: int, found: torch.Tensor, source: int) -> None:
        """Send one tensor and receive another, a piece at a time."""
        sent, received = (
            t.contiguous().view(-1).split(PIECE_BYTES // t.element_size()) if t.numel() else ()
            for t in (given, found)
        )
        for ours, theirs in zip_longest(sent, received):
            operations = []
            if ours is not None:
                operations.append(distributed.P2POp(distributed.isend, ours.to(self.device), to))
            if theirs is not None:
                here = theirs.to(self.device)
                operations.append(distributed.P2POp(distributed.irecv, here, source))
            for work in distributed.batch_isend_irecv(operations):
                work.wait()
            if theirs is not None:
                theirs.copy_(here)

    def close(self) -> None:
        """Wait for all processes, and end the group."""
        if self.world_size > 1:
            distributed.barrier()
            distributed.destroy_process_group()


def _wait_for_all(store: distributed.Store, rank: int, size: int, kind: str) -> None:
    """Wait until all processes have started, and check that they use one kind of device.

    Raises:
        ModelError: some did not start, or they use different kinds of devices.
    """
    names = [f"process {other}" for other in range(size)]
    store.set(names[rank], kind)
    try:
        store.wait(names, START_TIMEOUT)
    except distributed.DistStoreError as error:
        missing = ", ".join(name for name in names if not store.check([name]))
        minutes = START_TIMEOUT.total_seconds() / 60
        raise ModelError(
            f"{missing} of {size} did not start within {minutes:g} minutes; see their own messages"
        ) from error
    kinds = [store.get(name).decode() for name in names]
    for name, other in zip(names, kinds, strict=True):
        if other != kinds[0]:
            raise ModelError(
                f"{name} runs on {other}, process 0 on {kinds[0]}: give all the same device"
            )


def _pieces(part: torch.Tensor) -> Sequence[torch.Tensor]:
    """The rows of a tensor in pieces of at most ``PIECE_BYTES``."""
    if not part.numel():
        return ()
    return part.split(max(1, PIECE_BYTES // part[0].nbytes))


def _memory() -> int:
    """Bytes of memory of this machine or, if there is a limit, of this container."""
    if not hasattr(os, "sysconf"):  # not a Unix
        return sys.maxsize
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # not Linux, or without a limit
        found = min(found, int(MEMORY_LIMIT.read_text()))
    return found
