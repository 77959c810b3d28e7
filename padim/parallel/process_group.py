"""The processes that fit one model together, as ``torchrun`` starts them.

Each sees a share of the images. What one learns of a range of positions goes to the process that
owns these, which merges and factorises them; the factors then go to all, so that each scores its
share of the test images, or stay with their owners where they are too much for one. A process alone
is a team of one, for which nothing is ever sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from padim.errors import ModelError

JOIN = timedelta(minutes=10)  # for all processes to start, before a run is given up
# For the slowest process, and for the first one to measure and draw a class. One that ends is
# noticed at once.
WAIT = timedelta(hours=6)
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
PIECE_BYTES = 64 * 2**20  # of a tensor that is sent to a device which has no room for all of it


@dataclass(frozen=True)
class Team:
    """One process among ``size``.

    Attributes:
        rank: which one, from 0; the first alone writes.
        size: how many there are.
        device: where it sends from and receives to.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | str = "cpu"

    @classmethod
    def join(cls, device: torch.device) -> Team:
        """The team that the environment describes, of one process where it describes none.

        Raises:
            ModelError: the others do not come, or the environment does not say how to find them.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        from torch.distributed.rendezvous import rendezvous  # not there in every PyTorch

        try:
            store, rank, size = next(rendezvous("env://", timeout=JOIN))
        except (ValueError, distributed.DistError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"the other processes of this run cannot be found ({reason}): start it with "
                "torchrun, or unset WORLD_SIZE for one process"
            ) from error
        _call_roll(store, rank, size, device.type)
        is_cuda = device.type == "cuda"
        if is_cuda:
            torch.cuda.set_device(device)  # or NCCL would guess which one is meant
        distributed.init_process_group(
            "nccl" if is_cuda else "gloo", store=store, rank=rank, world_size=size, timeout=WAIT
        )
        return cls(rank, size, device if is_cuda else "cpu")

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def shares(self, total: int) -> list[slice]:
        """The range of every process: as even as can be, the first one's never empty."""
        ends = [-(-total * rank // self.size) for rank in range(self.size + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]

    def share(self, total: int) -> slice:
        """This process's range."""
        return self.shares(total)[self.rank]

    def told(self, message: Any) -> Any:
        """What the first process says; the others wait for it."""
        if self.size == 1:
            return message
        box = [message]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def added(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The sums of the processes' tensors."""
        sums = [tensor.to(self.device, copy=True) for tensor in tensors]
        if self.size > 1:
            for tensor in sums:
                distributed.all_reduce(tensor)
        return sums

    def agrees(self, holds: bool) -> bool:
        """Whether something holds for every process."""
        return not self.added([torch.tensor([0 if holds else 1])])[0].item()

    def room(self) -> int:
        """Bytes that a process may hold for good: half of what is free on its device.

        On CPUs half of its share of the machine's memory, or of its container's.
        """
        device = torch.device(self.device)
        if device.type == "cuda":
            kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return (torch.cuda.mem_get_info(device)[0] + kept) // 2
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        return _memory() // (2 * here)

    def joined(self, part: torch.Tensor, total: int) -> torch.Tensor:
        """All of what each process has its share of, along the first axis; by every process."""
        if self.size == 1:
            return part
        whole = part.new_empty(total, *part.shape[1:], device=self.device)
        for rank, share in enumerate(self.shares(total)):
            if share.stop > share.start:
                piece = whole[share]
                if rank == self.rank:
                    piece.copy_(part)
                distributed.broadcast(piece, src=rank)
        return whole.to(part.device)

    def collected(self, part: torch.Tensor, total: int) -> torch.Tensor | None:
        """``joined``, but in the memory of the first process alone; None to the others."""
        if not self.is_first:
            for piece in _pieces(part):
                distributed.send(piece.to(self.device).contiguous(), 0)
            return None
        whole = part.new_empty(total, *part.shape[1:], device="cpu")
        shares = self.shares(total)
        whole[shares[0]] = part
        for rank, share in enumerate(shares[1:], start=1):
            for piece in _pieces(whole[share]):
                found = torch.empty_like(piece, device=self.device)
                distributed.recv(found, rank)
                piece.copy_(found)
        return whole

    def exchanged(
        self, give: Callable[[int], Sequence[torch.Tensor]]
    ) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Send tensors to every process, and get theirs, from one after the other.

        Args:
            give: the tensors for a process, of whom the rank is given; each is asked for once, when
                it is sent. They have the same number of axes and the same types for all and from
                all.

        Yields:
            The rank they are from, and the tensors: first what this one gives to itself.
        """
        yield self.rank, list(give(self.rank))
        for step in range(1, self.size):
            to, source = (self.rank + step) % self.size, (self.rank - step) % self.size
            yield source, self._swapped(give(to), to, source)

    def _swapped(self, given: Sequence[torch.Tensor], to: int, source: int) -> list[torch.Tensor]:
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

    def leave(self) -> None:
        """Part in peace, when all is done."""
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()


def _call_roll(store: distributed.Store, rank: int, size: int, kind: str) -> None:
    """Wait until all processes have come, and make sure that they can go together.

    Raises:
        ModelError: some have not come, or with another kind of device.
    """
    names = [f"process {other}" for other in range(size)]
    store.set(names[rank], kind)
    try:
        store.wait(names, JOIN)
    except distributed.DistStoreError as error:
        missing = ", ".join(name for name in names if not store.check([name]))
        minutes = JOIN.total_seconds() / 60
        raise ModelError(
            f"{missing} of {size} did not come within {minutes:g} minutes; see what they have said"
        ) from error
    kinds = [store.get(name).decode() for name in names]
    for name, other in zip(names, kinds, strict=True):
        if other != kinds[0]:
            raise ModelError(
                f"{name} runs on {other}, process 0 on {kinds[0]}: give all the same --device"
            )


def _pieces(part: torch.Tensor) -> Sequence[torch.Tensor]:
    """Some rows of a tensor at a time, as they are sent."""
    if not part.numel():
        return ()
    return part.split(max(1, PIECE_BYTES // part[0].nbytes))


def _memory() -> int:
    """Bytes of memory of this machine, or of the container that this runs in."""
    if not hasattr(os, "sysconf"):  # not a Unix
        return sys.maxsize
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # not Linux, or without a limit
        found = min(found, int(MEMORY_LIMIT.read_text()))
    return found


ALONE = Team()
