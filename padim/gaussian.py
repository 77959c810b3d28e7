"""A Gaussian at every position of the grid, and the Mahalanobis distance to it (section III-B, C).

At each position the N training embeddings (rows of X, d channels) give

    mean        mu    = 1/N sum x_i
    covariance  Sigma = 1/(N-1) sum (x_i - mu)(x_i - mu)' + epsilon I                      (eq. 1)
    distance    m(x)  = sqrt((x - mu)' Sigma^-1 (x - mu))                                  (eq. 2)

Sigma^-1 is never formed. What is kept is a factor F, in whichever exact form is smaller:

``dense``, d x d, where N > d. With Sigma = L L', F = L^-1 and m^2 = |F (x - mu)|^2, which cannot
be negative.

``low_rank``, N x d, where N <= d. With Y the centred rows over sqrt(N-1) and
Y Y' + epsilon I = C C' (N x N), Woodbury's identity gives F = C^-1 Y and
m^2 = (|x - mu|^2 - |F (x - mu)|^2) / epsilon. The difference cancels: see PRECISION below.

PRECISION. All in float32. The low-rank form loses the digits by which |x - mu|^2 / epsilon is
larger than m^2; with features of an ImageNet network they are few. On the real class bottle,
ResNet-18, the largest relative error of m^2 against float64 is 4e-6 in the dense form (d = 100) and
1e-5 in the low-rank form (N = 209, d = 448): ``benchmarks/precision.py`` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from padim.errors import ModelError
from padim.linalg import (
    covariances,
    dense_factors,
    dense_left_out,
    low_rank_factors,
    low_rank_left_out,
    products,
)
from padim.parallel.blocks import block_bytes, in_blocks

# Of the embeddings that only leave-one-out distances need, so many bytes at most are kept: those
# of as many images, evenly spread over all.
KEPT_BYTES = 512 * 2**20
GROUP_BYTES = 64 * 2**20  # of embeddings that are measured together on a CPU


class PatchGaussian(nn.Module):
    """The Gaussians of all P positions, as learned by ``GaussianFit``.

    Args:
        mean: (P, d).
        factor: (P, d, d) in the dense form, (P, N, d) in the low-rank form.
        is_low_rank: which form it is.
        epsilon: the regularisation that is in ``factor``.
    """

    def __init__(
        self, mean: torch.Tensor, factor: torch.Tensor, is_low_rank: bool, epsilon: float
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.is_low_rank = is_low_rank
        self.epsilon = epsilon

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Mahalanobis distances, square-rooted.

        Args:
            embeddings: (B, P, d).

        Returns:
            float32 (B, P), where the embeddings are.
        """
        given = embeddings.to(self.factor.device)  # a factor too large for the GPU is on the CPU
        batch, positions, dim = given.shape
        squared = given.new_empty(positions, batch)

        def measure(block: slice) -> None:
            delta = (given[:, block] - self.mean[block]).permute(1, 2, 0)  # (p, d, B)
            projected = torch.bmm(self.factor[block], delta).square_().sum(dim=1)
            if self.is_low_rank:
                projected = (delta.square().sum(dim=1) - projected) / self.epsilon
            squared[block] = projected

        in_blocks(measure, positions, 4 * batch * (dim + self.factor.shape[1]), given.device)
        return squared.clamp_(min=0).sqrt_().T.to(embeddings.device)

    def each(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The distances of one batch of embeddings after the other.

        On a CPU small ones are measured together, for to read the factors takes most of the time.
        """
        if self.factor.device.type != "cpu":
            yield from map(self, batches)
            return
        for group in _groups(batches):
            embeddings = group[0] if len(group) == 1 else torch.cat(group)
            yield from self(embeddings).split([len(batch) for batch in group])

    def whole(self) -> PatchGaussian:
        """This, which holds all positions; see ``OwnedGaussian`` for what does not."""
        return self

    def placed(self, device: torch.device) -> PatchGaussian:
        """This, on the device; or left where it is when the device has no room for it."""
        try:
            return self.to(device)
        except torch.OutOfMemoryError:
            return self.cpu()


def _groups(batches: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Batches that follow one another, ``GROUP_BYTES`` of them; of the last ones fewer."""
    group: list[torch.Tensor] = []
    for batch in batches:
        group.append(batch)
        if sum(batch.nbytes for batch in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def pack_triangles(factor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The lower triangles of dense factors (P, d, d), without the zeros: (P, d (d+1) / 2).

    They come in the machine's memory, wherever the factors are, for a GPU may lack the room.
    """
    rows, columns = torch.tril_indices(factor.shape[1], factor.shape[1], device=factor.device)
    packed = torch.empty(len(factor), len(rows), dtype=dtype)

    def pack(block: slice) -> None:
        packed[block] = factor[block, rows, columns]

    in_blocks(pack, len(factor), 4 * len(rows), factor.device)
    return packed


def unpack_triangles(packed: torch.Tensor, dim: int) -> torch.Tensor:
    """Dense factors (P, d, d) from ``pack_triangles``."""
    factor = packed.new_zeros(len(packed), dim, dim)
    rows, columns = torch.tril_indices(dim, dim, device=packed.device)
    factor[:, rows, columns] = packed
    return factor


class GaussianFit:
    """Learns the Gaussians from batches of embeddings, each seen once.

    While all embeddings fit into ``KEPT_BYTES`` or are no more than the channels, they are kept.
    Of more images sums are kept, so that memory does not grow with N.

    Args:
        n_images: N, known beforehand.
        epsilon: added to the diagonal of every covariance.
        leaves_out: whether leave-one-out distances are wanted, half of what ``finish`` takes.
        share: of the images, those that this learner sees, to be merged into one for all; None for
            all of them.
        positions: P, where this learner gets the embeddings of some of them only.

    Attributes:
        left_out: after ``finish``, the distances of training images to the Gaussians of the others,
            float32 (n, P): of all images, or of n evenly spread ones where the embeddings of all
            would take more than ``KEPT_BYTES``. None where they are not wanted, and where N is 2,
            for one image has no covariance.

    Raises:
        ModelError: fewer than 2 images, for which there is no covariance.
    """

    def __init__(
        self,
        n_images: int,
        epsilon: float = 0.01,
        leaves_out: bool = True,
        share: slice | None = None,
        positions: int | None = None,
    ) -> None:
        if n_images < 2:
            raise ModelError(f"{n_images} training image: a covariance needs at least 2")
        self.n_images = n_images
        self.epsilon = epsilon
        self.count = 0
        self.left_out: torch.Tensor | None = None
        self.leaves_out = leaves_out and n_images > 2
        self._images = range(n_images)[share or slice(None)]
        self._seen = [self._images[:0]]  # images: this learner's own first, then others' shares
        self._positions = positions
        self._n_wanted = n_images  # of so many images the embeddings are to be kept
        self._parts: list[_Part] = []

    def update(self, embeddings: torch.Tensor) -> GaussianFit:
        """Take in a batch of embeddings (B, P, d).

        Raises:
            ModelError: more images come than were announced.
        """
        n_own = len(self._seen[0])
        images = self._images[n_own : n_own + len(embeddings)]
        if len(images) < len(embeddings):
            raise ModelError(f"more images came than the {len(self._images)} that were announced")
        self._check_new(images, self._seen[1:])
        if not self._parts:
            self._prepare(embeddings.mean(dim=0))
        kept = [i for i, image in enumerate(images) if self._row(image) < self._row(image + 1)]
        for part in self._parts:
            part.update(embeddings[:, part.block], kept, self._row(images.start))
        self._seen[0] = self._images[: n_own + len(embeddings)]
        self.count += len(embeddings)
        return self

    def merge(self, other: GaussianFit) -> GaussianFit:
        """Take in what a learner of a share of the images has seen; this one is for all of them.

        The pairwise update of Chan et al., between sums about two points instead of two means: what
        is multiplied is the difference of the points, which is small, so no digits are lost.

        Raises:
            ModelError: some of these images have been seen.
        """
        return self.absorb(other.learned())

    def learned(self) -> list[torch.Tensor]:
        """All that has been seen, to be absorbed by another learner, also of another process.

        Returns:
            The first image and how many there are, int64 (2,); a shift and the sum of the shifted
            embeddings, (P, d); the shifted embeddings kept, (P, n, d); and the sums of their
            products, (P, d, d), where not all are kept. All but the first are empty where nothing
            has been seen.

        Raises:
            ModelError: there are images missing between those that have been seen.
        """
        start, stop = self._images.start, max(images.stop for images in self._seen)
        if stop - start != self.count:
            raise ModelError(f"{self.count} training images came, not all from {start} to {stop}")
        seen = torch.tensor([start, self.count])
        if not self._parts:
            return [seen, *(torch.empty((0,) * axes) for axes in (2, 2, 3, 3))]
        n_kept = self._row(stop)
        rows = [part.rows[:, :n_kept] for part in self._parts]
        scatter = [part.scatter for part in self._parts if part.scatter is not None]
        return [
            seen,
            torch.cat([part.shift for part in self._parts]),
            torch.cat([part.sum for part in self._parts]),
            torch.cat(rows),
            torch.cat(scatter) if scatter else rows[0].new_empty(0, 0, 0),
        ]

    def absorb(self, learned: Sequence[torch.Tensor]) -> GaussianFit:
        """``merge`` of what ``learned`` gave."""
        seen, shift, total, rows, scatter = learned
        start, count = seen.tolist()
        if not count:
            return self
        images = range(start, start + count)
        self._check_new(images, self._seen)
        if not self._parts:
            self._prepare(shift)
        at = self._row(start)
        for part in self._parts:
            block = part.block
            part.merge(shift[block], total[block], rows[block], scatter[block], count, at)
        self._seen.append(images)
        self.count += count
        return self

    def finish(self) -> PatchGaussian:
        """Factorise, in place of what was learned from.

        Raises:
            ModelError: fewer images came than were announced, or epsilon is too small for the
                covariances to be inverted.
        """
        if self.count != self.n_images:
            raise ModelError(f"{self.count} training images came, {self.n_images} were announced")
        first = self._parts[0].rows
        dim, is_low_rank = first.shape[2], self._is_low_rank(first.shape[2])
        positions = self._parts[-1].block.stop
        mean = first.new_empty(positions, dim)
        factor = first.new_empty(positions, self.n_images if is_low_rank else dim, dim)
        left_out = first.new_empty(positions, self._n_wanted) if self.leaves_out else None
        for index, part in enumerate(self._parts):
            block = part.block
            mean[block] = part.mean(self.n_images)
            part.finish(
                self.n_images,
                self.epsilon,
                factor[block],
                None if left_out is None else left_out[block],
            )
            self._parts[index] = None  # its memory is free before the next part of ``factor``
        self.left_out = None if left_out is None else left_out.T
        return PatchGaussian(mean, factor, is_low_rank, self.epsilon)

    def _row(self, image: int) -> int:
        """How many of the images before this one are kept: evenly spread, ``_n_wanted`` of all."""
        before, first = (
            -(-i * self._n_wanted // self.n_images) for i in (image, self._images.start)
        )
        return before - first

    @staticmethod
    def _check_new(images: range, seen: Sequence[range]) -> None:
        for others in seen:
            if max(images.start, others.start) < min(images.stop, others.stop):
                raise ModelError(
                    f"training images {images.start} to {images.stop - 1} came twice: give each "
                    "learner that is merged a share of its own"
                )

    def _is_low_rank(self, dim: int) -> bool:
        return self.n_images <= dim

    def _prepare(self, shift: torch.Tensor) -> None:
        """Make room for all that will be learned, on the device or, where it is full, beside it.

        Args:
            shift: (P, d), near the mean, so that sums about it stay exact.
        """
        positions, dim = shift.shape
        if not self._is_low_rank(dim):
            room = KEPT_BYTES // ((self._positions or positions) * dim * shift.element_size())
            self._n_wanted = min(self.n_images, max(2, room))
        n_kept = self._row(self._images.stop)
        has_scatter = self._n_wanted < self.n_images
        n_bytes = max(n_kept, has_scatter * dim) * dim * shift.element_size()
        # A part's memory is given back as its factors are made. Small parts lower the peak, but of
        # blocks below 32 MB the C library keeps the memory.
        size = max(1, 2 * block_bytes(shift.device) // max(1, n_bytes))
        blocks = [slice(i, min(i + size, positions)) for i in range(0, positions, size)]
        try:
            self._parts = [_Part(b, shift[b], n_kept, has_scatter) for b in blocks]
        except torch.OutOfMemoryError:
            shift = shift.cpu()
            self._parts = [_Part(b, shift[b], n_kept, has_scatter) for b in blocks]


class _Part:
    """What is learned at some of the positions.

    Args:
        block: the positions, p of them.
        shift: (p, d), taken off every embedding.
        n_kept: how many embeddings will be kept.
        has_scatter: whether those are not all, so that sums of x x' are needed.
    """

    def __init__(self, block: slice, shift: torch.Tensor, n_kept: int, has_scatter: bool) -> None:
        positions, dim = shift.shape
        self.block = block
        self.shift = shift
        self.sum = torch.zeros_like(shift)  # of the shifted embeddings
        self.rows = shift.new_empty(positions, n_kept, dim)  # the shifted embeddings kept
        self.scatter = shift.new_zeros(positions, dim, dim) if has_scatter else None

    def update(self, embeddings: torch.Tensor, kept: list[int], at: int) -> None:
        """Take in embeddings (B, p, d), and keep some of them as rows ``at`` and following."""
        given = embeddings.to(self.rows.device)
        chosen = slice(None) if len(kept) == len(given) else kept

        def add(block: slice) -> None:
            shifted = (given[:, block] - self.shift[block]).transpose(0, 1)
            total, rows = shifted.sum(dim=1), shifted[:, chosen]
            # From here on no memory is asked for: the block may be done again where there is none.
            if self.scatter is not None:
                self.scatter[block].baddbmm_(shifted.transpose(1, 2), shifted)
            self.rows[block, at : at + len(kept)] = rows
            self.sum[block] += total

        in_blocks(add, given.shape[1], 2 * given[:, 0].nbytes, given.device)

    def merge(
        self,
        shift: torch.Tensor,
        total: torch.Tensor,
        rows: torch.Tensor,
        scatter: torch.Tensor,
        n_images: int,
        at: int,
    ) -> None:
        """Take in what another learner has here, of ``n_images``, its rows ``at`` and following."""
        apart = shift.to(self.shift) - self.shift
        their_sum = total.to(self.sum)
        if self.scatter is not None:
            cross = their_sum[:, :, None] * apart[:, None, :]
            cross = cross + cross.transpose(1, 2) + scatter.to(cross)
            self.scatter += cross.baddbmm_(apart[:, :, None], apart[:, None, :], alpha=n_images)
        self.rows[:, at : at + rows.shape[1]] = rows.to(self.rows) + apart[:, None]
        self.sum += their_sum + n_images * apart

    def mean(self, n_images: int) -> torch.Tensor:
        """(p, d)."""
        return self.sum / n_images + self.shift

    def finish(
        self, n_images: int, epsilon: float, factor: torch.Tensor, left_out: torch.Tensor | None
    ) -> None:
        """Write factors (p, N or d, d) and, if wanted, leave-one-out distances (p, n)."""
        shifted_mean = self.sum / n_images
        dim = shifted_mean.shape[1]
        is_low_rank = n_images <= dim

        def factorise(block: slice) -> None:
            rows = (self.rows[block] - shifted_mean[block, None]).div_(math.sqrt(n_images - 1))
            if is_low_rank:
                gram = products(rows)
                factor[block] = low_rank_factors(rows, gram, epsilon)
                if left_out is not None:
                    left_out[block] = low_rank_left_out(gram, n_images, epsilon)
                return
            scatter = None if self.scatter is None else self.scatter[block]
            covariance = covariances(rows, scatter, shifted_mean[block], n_images)
            factor[block] = dense_factors(covariance, epsilon)
            if left_out is not None:
                left_out[block] = dense_left_out(rows, covariance, n_images, epsilon)

        side = n_images if is_low_rank else dim
        n_bytes = 3 * self.rows[0].nbytes + 5 * side * side * self.rows.element_size()
        in_blocks(factorise, len(factor), n_bytes, factor.device)
