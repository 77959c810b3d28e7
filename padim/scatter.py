"""Running sums of x x' at many positions, if there are too many images to keep.

The sums of all positions exceed any cache: reading and writing them takes longer than the product
of a few images. Therefore embeddings wait in a group, whose products are added at once. The sums
are symmetric: only the lower triangle is kept, in strips of rows. With many channels, sums and
group take three quarters of the memory of full matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from padim.linalg import strips
from padim.parallel import for_each_block

# Size of a group as a fraction of the channels: 56 embeddings for the 448 channels of ResNet-18.
# Groups of twice the size are not faster.
GROUP_SHARE = 1 / 8
MIN_GROUP = 32


class Scatter:
    """The sums of x x' at p positions.

    Args:
        shift: (p, d), subtracted from every embedding: x is the difference.
    """

    def __init__(self, shift: torch.Tensor) -> None:
        positions, self._dim = shift.shape
        self._shift = shift
        self._size = max(MIN_GROUP, round(self._dim * GROUP_SHARE))  # of the group
        self._n_waiting = 0  # embeddings in the group
        n_sums = sum((strip.stop - strip.start) * strip.stop for strip in strips(self._dim))
        # One allocation, so that the memory is released as a whole.
        both = shift.new_zeros(positions, n_sums + self._size * self._dim)
        self._sums = both[:, :n_sums]
        self._group = both[:, n_sums:].unflatten(1, (self._size, self._dim))

    def add(self, embeddings: torch.Tensor) -> None:
        """Add embeddings (B, p, d)."""
        while len(embeddings):
            some, embeddings = embeddings.tensor_split([self._size - self._n_waiting])
            first, self._n_waiting = self._n_waiting, self._n_waiting + len(some)
            free = self._group[:, first : self._n_waiting]
            torch.sub(some.transpose(0, 1), self._shift[:, None], out=free)
            if self._n_waiting == self._size:
                self.sums()

    def sums(self) -> torch.Tensor:
        """The sums of all embeddings so far: the strips' values, concatenated, (p, n)."""
        waiting, self._n_waiting = self._group[:, : self._n_waiting], 0
        for strip, sums in self._strips(slice(None)) if waiting.shape[1] else ():
            # One product per block, so that a block can be repeated if its workspace does not fit.
            add = partial(_add_products, sums, waiting, waiting, strip)
            for_each_block(add, len(sums), sums[0].nbytes, sums.device)
        return self._sums

    def merge(
        self, sums: torch.Tensor, total: torch.Tensor, difference: torch.Tensor, n_images: int
    ) -> None:
        """Add the sums of another ``Scatter``.

        Args:
            sums: its ``sums``.
            total: (p, d), the sum of its x.
            difference: (p, d), its shift minus this one.
            n_images: the number of its images.
        """
        self._sums += sums.to(self._sums)
        # x + D instead of x adds u D' + D u', with u = sum of x + N/2 D.
        pair = torch.stack((total + n_images / 2 * difference, difference), dim=1)
        for strip, own in self._strips(slice(None)):
            _add_products(own, pair, pair.flip(1), strip, slice(None))

    def covariance(self, block: slice, mean: torch.Tensor, n_images: int) -> torch.Tensor:
        """Equation (1) without epsilon for a block of positions: lower triangles (p, d, d).

        Args:
            block: the positions.
            mean: their means of x, (p, d).
            n_images: N, all of them added.
        """
        sigma = mean.new_zeros(*mean.shape, self._dim)
        for strip, sums in self._strips(block):
            outer = torch.bmm(mean[:, strip, None], mean[:, None, : strip.stop])
            part = torch.sub(sums, outer, alpha=n_images).div_(n_images - 1)
            sigma[:, strip, : strip.stop] = part
        return sigma

    def _strips(self, block: slice) -> Iterator[tuple[slice, torch.Tensor]]:
        """Each strip of rows, and its sums (p, rows, end of the strip), a view."""
        first = 0
        for strip in strips(self._dim):
            shape = strip.stop - strip.start, strip.stop
            end = first + shape[0] * shape[1]
            yield strip, self._sums[block, first:end].unflatten(1, shape)
            first = end


def _add_products(
    sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor, strip: slice, block: slice
) -> None:
    """Add a strip of the symmetric X' Y to ``sums``; X and Y are (p, k, d)."""
    x, y = left[block, :, strip], right[block, :, : strip.stop]
    sums[block].baddbmm_(x.transpose(1, 2), y)
