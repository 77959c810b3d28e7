"""The learner: from batches of embeddings, each seen once, to a ``PatchGaussian``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from padim import linalg
from padim.errors import ModelError
from padim.gaussian import PatchGaussian, covariance, scaled_deviations
from padim.parallel import for_each_block
from padim.parallel.blocks import block_bytes, is_out_of_memory
from padim.scatter import Scatter

# Limit for the embeddings that are kept for the leave-one-out distances only. Beyond it, those of
# an evenly spread subset of the images are kept.
KEPT_BYTES = 512 * 2**20


class GaussianLearner:
    """Learns the Gaussians of all positions.

    All embeddings are kept if they fit into ``KEPT_BYTES`` or if N <= d. Otherwise sums are kept,
    so that memory does not grow with N.

    Args:
        n_images: N, known beforehand.
        epsilon: added to the diagonal of every covariance.
        leaves_out: whether to compute leave-one-out distances, half of the time of ``finish``.
        shard: range of the images that this learner sees, if it is merged into another; None for
            all.
        positions: P of all learners, if this one sees the embeddings of some positions only.

    Attributes:
        leave_one_out: after ``finish``, the distances of the training images to the Gaussians of
            the other images, float32 (n, P). n is N, or less if N embeddings exceed
            ``KEPT_BYTES``. None if not computed, and for N = 2, since one image has no
            covariance.

    Raises:
        ModelError: fewer than 2 images, which have no covariance.

    Example:
        >>> learner = GaussianLearner(n_images=5)
        >>> gaussian = learner.update(torch.randn(5, 4, 3)).finish()
        >>> gaussian.mean.shape, learner.leave_one_out.shape
        (torch.Size([4, 3]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        n_images: int,
        epsilon: float = 0.01,
        leaves_out: bool = True,
        shard: slice | None = None,
        positions: int | None = None,
    ) -> None:
        if n_images < 2:
            raise ModelError(
                f"{n_images} training image{'s' * (n_images != 1)}: a covariance needs at least 2"
            )
        self.n_images = n_images
        self.epsilon = epsilon
        self.count = 0
        self.leave_one_out: torch.Tensor | None = None
        self.leaves_out = leaves_out and n_images > 2
        self._images = range(n_images)[shard or slice(None)]
        self._seen = [self._images[:0]]  # this learner's own images first, then merged shards
        self._positions = positions
        self._n_kept = n_images  # the number of images whose embeddings are kept
        self._parts: list[_Part] = []
        self._is_finished = False

    def update(self, embeddings: torch.Tensor) -> GaussianLearner:
        """Learn from a batch of embeddings (B, P, d).

        Raises:
            ModelError: there are more than ``n_images`` images.
        """
        self._check_unfinished()
        if not len(embeddings):
            return self
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

    def merge(self, other: GaussianLearner) -> GaussianLearner:
        """Merge a learner of other images into this one, which is for all images.

        This is the pairwise update of Chan, Golub and LeVeque (1979), for sums about two shifts
        instead of two means. Only the small difference of the shifts is multiplied, so no digits
        are lost.

        Raises:
            ModelError: some of these images have been seen.
        """
        return self.merge_state(other.state())

    def state(self) -> list[torch.Tensor]:
        """The learned state, for ``merge_state`` of another learner or process.

        Returns:
            The first image and the number of images, int64 (2,); a shift and the sum of the shifted
            embeddings, (P, d) each; the shifted embeddings kept, (P, n, d); and ``Scatter.sums``
            if not all are kept. Before the first batch, all but the first are empty.

        Raises:
            ModelError: images are missing between those that have been seen.
        """
        self._check_unfinished()
        start, stop = self._images.start, max(images.stop for images in self._seen)
        if stop - start != self.count:
            raise ModelError(
                f"{self.count} training images came, not all from {start} to {stop - 1}"
            )
        seen = torch.tensor([start, self.count])
        if not self._parts:
            return [seen, *(torch.empty((0,) * axes, dtype=torch.float32) for axes in (2, 2, 3, 2))]
        rows = [part.rows[:, : self._row(stop)] for part in self._parts]
        scatter = [part.scatter.sums() for part in self._parts if part.scatter is not None]
        return [
            seen,
            torch.cat([part.shift for part in self._parts]),
            torch.cat([part.sum for part in self._parts]),
            torch.cat(rows),
            torch.cat(scatter) if scatter else rows[0].new_empty(0, 0),
        ]

    def merge_state(self, state: Sequence[torch.Tensor]) -> GaussianLearner:
        """``merge`` with the ``state`` of a learner."""
        self._check_unfinished()
        seen, shift, total, rows, scatter = state
        start, count = seen.tolist()
        if not count:
            return self
        images = range(start, start + count)
        self._check_new(images, self._seen)
        if not self._parts:
            self._prepare(shift)
        for part in self._parts:
            block = part.block
            part.merge(
                shift[block], total[block], rows[block], scatter[block], count, self._row(start)
            )
        self._seen.append(images)
        self.count += count
        return self

    def finish(self) -> PatchGaussian:
        """Factorise the covariances, and release the learned state step by step.

        Raises:
            ModelError: there are fewer than ``n_images`` images, or epsilon is too small for the
                covariances to be inverted.
        """
        self._check_unfinished()
        if self.count != self.n_images:
            raise ModelError(f"{self.count} training images came, {self.n_images} were announced")
        parts, self._parts, self._is_finished = self._parts, [], True
        like = parts[0].rows
        dim, is_low_rank = like.shape[2], self.n_images <= like.shape[2]
        positions = parts[-1].block.stop
        mean = like.new_empty(positions, dim)
        factor = like.new_empty(positions, self.n_images if is_low_rank else dim, dim)
        left_out = like.new_empty(positions, self._n_kept) if self.leaves_out else None
        del like
        for _ in range(len(parts)):
            part = parts.pop(0)  # its memory is free before the next part of ``factor`` is filled
            block = part.block
            mean[block] = part.sum / self.n_images + part.shift
            out = None if left_out is None else left_out[block]
            part.finish(self.n_images, self.epsilon, factor[block], out)
        self.leave_one_out = None if left_out is None else left_out.T
        return PatchGaussian(mean, factor, is_low_rank, self.epsilon)

    def _row(self, image: int) -> int:
        """Number of kept images before this one; ``_n_kept`` of all, evenly spread."""
        before, first = (-(-i * self._n_kept // self.n_images) for i in (image, self._images.start))
        return before - first

    def _check_unfinished(self) -> None:
        if self._is_finished:
            raise ModelError("this learner is finished: make another one for other images")

    @staticmethod
    def _check_new(images: range, seen: Sequence[range]) -> None:
        for others in seen:
            if max(images.start, others.start) < min(images.stop, others.stop):
                raise ModelError(
                    f"training images {images.start} to {images.stop - 1} came twice: give each "
                    "learner that is merged a shard of its own"
                )

    def _prepare(self, shift: torch.Tensor) -> None:
        """Allocate the state on the device of ``shift`` or, if it is full, on the CPU.

        Args:
            shift: (P, d), close to the mean, so that sums about it are accurate.
        """
        positions, dim = shift.shape
        if self.n_images > dim:
            room = KEPT_BYTES // ((self._positions or positions) * dim * shift.element_size())
            self._n_kept = min(self.n_images, max(2, room))
        n_rows = self._row(self._images.stop)
        has_scatter = self._n_kept < self.n_images
        n_bytes = max(n_rows, has_scatter * dim) * dim * shift.element_size()
        # A part is released once its factors are made, so small parts lower the peak. But the C
        # library does not return blocks below 32 MB to the system.
        size = max(1, 2 * block_bytes(shift.device) // max(1, n_bytes))
        blocks = [slice(i, min(i + size, positions)) for i in range(0, positions, size)]
        try:
            self._parts = [_Part(b, shift[b], n_rows, has_scatter) for b in blocks]
        except RuntimeError as error:
            if shift.device.type == "cpu" or not is_out_of_memory(error):
                raise
            shift = shift.cpu()
            self._parts = [_Part(b, shift[b], n_rows, has_scatter) for b in blocks]


class _Part:
    """The learned state of a block of positions.

    Args:
        block: the positions, p of them.
        shift: (p, d), subtracted from every embedding.
        n_rows: number of embeddings kept.
        has_scatter: whether not all are kept, so that sums of x x' are needed.
    """

    def __init__(self, block: slice, shift: torch.Tensor, n_rows: int, has_scatter: bool) -> None:
        positions, dim = shift.shape
        self.block = block
        self.shift = shift
        self.sum = torch.zeros_like(shift)  # of the shifted embeddings
        self.rows = shift.new_empty(positions, n_rows, dim)  # the shifted embeddings kept
        self.scatter = Scatter(shift) if has_scatter else None

    def update(self, embeddings: torch.Tensor, kept: list[int], at: int) -> None:
        """Add embeddings (B, p, d), and keep those in ``kept`` from row ``at`` on."""
        embeddings = embeddings.to(self.rows.device)
        chosen = slice(None) if len(kept) == len(embeddings) else kept

        def add(block: slice) -> None:
            shifted = (embeddings[:, block] - self.shift[block]).transpose(0, 1)
            total, rows = shifted.sum(dim=1), shifted[:, chosen]
            # No allocation from here on: the block is repeated if memory runs out.
            self.rows[block, at : at + len(kept)] = rows
            self.sum[block] += total

        bytes_each = 2 * embeddings[:, 0].nbytes
        for_each_block(add, embeddings.shape[1], bytes_each, embeddings.device)
        if self.scatter is not None:
            self.scatter.add(embeddings)

    def merge(
        self,
        shift: torch.Tensor,
        total: torch.Tensor,
        rows: torch.Tensor,
        scatter: torch.Tensor,
        n_images: int,
        at: int,
    ) -> None:
        """Merge the state of another learner of ``n_images``; its rows go to ``at``."""
        difference = shift.to(self.shift) - self.shift
        their_sum = total.to(self.sum)
        if self.scatter is not None:
            self.scatter.merge(scatter, their_sum, difference, n_images)
        self.rows[:, at : at + rows.shape[1]] = rows.to(self.rows) + difference[:, None]
        self.sum += their_sum + n_images * difference

    def finish(
        self, n_images: int, epsilon: float, factor: torch.Tensor, left_out: torch.Tensor | None
    ) -> None:
        """Write factors (p, N or d, d) and, if wanted, leave-one-out distances (p, n)."""
        mean = self.sum / n_images  # of the shifted embeddings
        dim = mean.shape[1]
        if self.scatter is not None:
            self.scatter.sums()

        def low_rank(block: slice) -> None:
            rows = scaled_deviations(self.rows[block], mean[block], n_images)
            gram = linalg.gram(rows)
            factor[block] = linalg.low_rank_factors(rows, gram, epsilon)
            if left_out is not None:
                left_out[block] = linalg.low_rank_leave_one_out(gram, n_images, epsilon)

        def dense(block: slice) -> None:
            if self.scatter is None:
                sigma = covariance(self.rows[block], mean[block], epsilon=0)
            else:
                sigma = self.scatter.covariance(block, mean[block], n_images)
            factor[block] = linalg.dense_factors(sigma, epsilon)
            if left_out is not None:
                rows = scaled_deviations(self.rows[block], mean[block], n_images)
                left_out[block] = linalg.dense_leave_one_out(rows, sigma, n_images, epsilon)

        is_low_rank = n_images <= dim
        side = n_images if is_low_rank else dim
        n_bytes = 3 * self.rows[0].nbytes + 5 * side * side * self.rows.element_size()
        work = low_rank if is_low_rank else dense
        for_each_block(work, len(factor), n_bytes, factor.device)
