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

LEAVE ONE OUT. How far a training image is from the Gaussian of the other N-1, with the same
epsilon, needs no second fit. With e = epsilon (N-2)/(N-1) and h_i = y_i' (Y'Y + e I)^-1 y_i, its
leverage, taking x_i out of mean and covariance is a rank-one downdate, and

    m_i^2 = N (N-2) / (N-1) * h_i / r_i,        r_i = (N-1)/N - h_i.

In the low-rank form h_i is nearly (N-1)/N, so r_i is had without the difference, from
Y Y' (Y Y' + e I)^-1: it is e times the i-th diagonal of the inverse, less the 1/N in it that is due
to the rows having been centred.

PRECISION. All in float32. On the real class bottle, ResNet-18, the largest relative error of m^2
against float64 is 4e-6 in the dense form (d = 100), 1e-5 in the low-rank form (N = 209, d = 448):
``benchmarks/precision.py`` measures it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from padim.blocks import in_blocks
from padim.errors import ModelError

# Of the embeddings that only leave-one-out distances need, so many bytes at most are kept: those
# of every second, third, ... image where N is large.
KEPT_BYTES = 512 * 2**20


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

    def placed(self, device: torch.device) -> PatchGaussian:
        """This, on the device; or left where it is when the device has no room for it."""
        try:
            return self.to(device)
        except torch.OutOfMemoryError:
            return self.cpu()


def pack_triangles(factor: torch.Tensor) -> torch.Tensor:
    """The lower triangles of dense factors (P, d, d), without the zeros: (P, d (d+1) / 2)."""
    rows, columns = torch.tril_indices(factor.shape[1], factor.shape[1], device=factor.device)
    return factor[:, rows, columns]


def unpack_triangles(packed: torch.Tensor, dim: int) -> torch.Tensor:
    """Dense factors (P, d, d) from ``pack_triangles``."""
    factor = packed.new_zeros(len(packed), dim, dim)
    rows, columns = torch.tril_indices(dim, dim, device=packed.device)
    factor[:, rows, columns] = packed
    return factor


class GaussianFit:
    """Learns the Gaussians from batches of embeddings, each seen once.

    Where the images are more than the channels, sums are kept and memory does not grow with N;
    otherwise the N embeddings themselves, which are then the smaller.

    Args:
        n_images: N, known beforehand.
        epsilon: added to the diagonal of every covariance.
        n_here: how many of them this learner gets, the rest coming by ``merge``; None for all.

    Attributes:
        left_out: after ``finish``, the distances of training images to the Gaussians of the others,
            float32 (n, P): of all images, or of every second, third, ... where the embeddings of
            all would take more than ``KEPT_BYTES``. None where N is 2, for one has no covariance.

    Raises:
        ModelError: fewer than 2 images, for which there is no covariance.
    """

    def __init__(self, n_images: int, epsilon: float = 0.01, n_here: int | None = None) -> None:
        if n_images < 2:
            raise ModelError(f"{n_images} training image: a covariance needs at least 2")
        self.n_images = n_images
        self.epsilon = epsilon
        self.count = 0
        self.left_out: torch.Tensor | None = None
        self._n_here = n_images if n_here is None else n_here
        self._stride = 1  # every so many images the embeddings are kept
        self._n_kept = 0
        self._shift: torch.Tensor | None = None  # (P, d): a first mean, so that sums stay exact
        self._sum: torch.Tensor | None = None  # (P, d), of the shifted embeddings
        self._rows: torch.Tensor | None = None  # (P, n, d), shifted embeddings
        self._scatter: torch.Tensor | None = None  # (P, d, d), their x x'; only where N > d

    def update(self, embeddings: torch.Tensor) -> GaussianFit:
        """Take in a batch of embeddings (B, P, d)."""
        if self._rows is None:
            self._prepare(embeddings.mean(dim=0))
        given = embeddings.to(self._rows.device)
        batch, positions, dim = given.shape
        first = -self.count % self._stride  # in the batch, the first whose embedding is kept
        kept = slice(self._n_kept, self._n_kept + len(range(first, batch, self._stride)))

        def add(block: slice) -> None:
            shifted = (given[:, block] - self._shift[block]).transpose(0, 1)  # (p, B, d)
            total = shifted.sum(dim=1)
            if self._scatter is not None:
                self._scatter[block].baddbmm_(shifted.transpose(1, 2), shifted)
            self._rows[block, kept] = shifted[:, first :: self._stride]
            self._sum[block] += total

        in_blocks(add, positions, 8 * batch * dim, given.device)
        self.count += batch
        self._n_kept = kept.stop
        return self

    def merge(self, other: GaussianFit) -> GaussianFit:
        """Take in all that another learner of the same N images has seen.

        The pairwise update of Chan et al., between sums about two points instead of two means: what
        is multiplied is the difference of the points, which is small, so no digits are lost.
        """
        if other.count == 0:
            return self
        if self._rows is None:
            self._prepare(other._shift)
        apart = other._shift.to(self._shift) - self._shift
        their_sum = other._sum.to(self._sum)
        if self._scatter is not None:

            def add(block: slice) -> None:
                cross = their_sum[block, :, None] * apart[block, None, :]
                cross = cross + cross.transpose(1, 2)
                cross.baddbmm_(apart[block, :, None], apart[block, None, :], alpha=other.count)
                self._scatter[block] += cross.add_(other._scatter[block].to(cross))

            in_blocks(add, len(apart), 16 * apart.shape[1] ** 2, apart.device)
        theirs = other._rows[:, : other._n_kept].to(self._rows) + apart[:, None, :]
        self._rows = torch.cat((self._rows[:, : self._n_kept], theirs), dim=1)
        self._sum += their_sum + other.count * apart
        self.count += other.count
        self._n_kept += other._n_kept
        return self

    def finish(self) -> PatchGaussian:
        """Factorise, in place of what was learned from.

        Raises:
            ModelError: fewer images came than were announced, or epsilon is too small for the
                covariances to be inverted.
        """
        if self.count != self.n_images:
            raise ModelError(f"{self.count} training images came, {self.n_images} were announced")
        mean = self._sum.div_(self.count)
        positions, rows, dim = self._rows.shape
        left_out = self._rows.new_empty(positions, rows)
        is_low_rank = self._scatter is None
        factorise = self._low_rank if is_low_rank else self._dense
        size = 4 * rows * rows if is_low_rank else 4 * dim * dim

        def finish(block: slice) -> None:
            left_out[block] = factorise(block, mean[block])

        in_blocks(finish, positions, 4 * (size + 3 * rows * dim), mean.device)
        factor = self._rows if is_low_rank else self._scatter
        self._rows = self._scatter = None
        if self.n_images > 2:
            self.left_out = left_out.T
        return PatchGaussian(mean.add_(self._shift), factor, is_low_rank, self.epsilon)

    def _prepare(self, shift: torch.Tensor) -> None:
        """Make room for all that will be learned, on the device or, where it is full, beside it."""
        positions, dim = shift.shape
        is_low_rank = self.n_images <= dim
        if not is_low_rank:
            whole = self.n_images * shift.numel() * shift.element_size()
            self._stride = -(-whole // KEPT_BYTES)
        n_kept = -(-self._n_here // self._stride)
        try:
            self._rows = shift.new_zeros(positions, n_kept, dim)
            self._scatter = None if is_low_rank else shift.new_zeros(positions, dim, dim)
        except torch.OutOfMemoryError:
            self._rows = None
            self._prepare(shift.cpu())
            return
        self._shift = shift
        self._sum = torch.zeros_like(shift)

    def _dense(self, block: slice, mean: torch.Tensor) -> torch.Tensor:
        """Turn a block's x x' into factors; returns its leave-one-out distances (p, n)."""
        scatter = self._scatter[block]
        degrees = self.count - 1
        covariance = torch.baddbmm(
            scatter,
            mean[:, :, None],
            mean[:, None, :],
            beta=1 / degrees,
            alpha=-self.count / degrees,
        )
        identity = torch.eye(scatter.shape[1], dtype=scatter.dtype, device=scatter.device)
        rows = (self._rows[block] - mean[:, None, :]).div_(math.sqrt(degrees))
        lower = _cholesky(covariance + self._epsilon_without_one * identity)
        whitened = torch.linalg.solve_triangular(lower, rows.transpose(1, 2).to(lower), upper=False)
        leverage = whitened.square_().sum(dim=1)
        left_out = self._left_out(leverage, degrees / self.count - leverage)
        lower = _cholesky(covariance + self.epsilon * identity)
        scatter.copy_(torch.linalg.solve_triangular(lower, identity.to(lower), upper=False))
        return left_out

    def _low_rank(self, block: slice, mean: torch.Tensor) -> torch.Tensor:
        """Turn a block's embeddings into factors; returns its leave-one-out distances (p, N)."""
        rows = (self._rows[block] - mean[:, None, :]).div_(math.sqrt(self.count - 1))
        gram = torch.bmm(rows, rows.transpose(1, 2))
        remainder = self._remainder(gram)
        left_out = self._left_out((self.count - 1) / self.count - remainder, remainder)
        gram.diagonal(dim1=1, dim2=2).add_(self.epsilon)
        lower = _cholesky(gram)
        self._rows[block] = torch.linalg.solve_triangular(lower, rows.to(lower), upper=False)
        return left_out

    def _remainder(self, gram: torch.Tensor) -> torch.Tensor:
        """r_i of every row, (p, N), from their products (p, N, N).

        Centred rows add up to nothing, so Y Y' has an eigenvalue 0 whose share in the diagonal is
        the 1/N to be taken off. Raised to the size of the others, it has next to none.
        """
        epsilon = self._epsilon_without_one
        raised = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
        gram = gram + (raised / self.count)[:, None, None]
        gram.diagonal(dim1=1, dim2=2).add_(epsilon)
        lower = _cholesky(gram)
        identity = torch.eye(self.count, dtype=lower.dtype, device=lower.device)
        inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
        diagonal = inverse.square_().sum(dim=1)
        share = 1 / (self.count * (raised.to(diagonal) + epsilon))
        return (epsilon * (diagonal - share[:, None])).to(gram)

    @property
    def _epsilon_without_one(self) -> float:
        """The epsilon of N rows that becomes epsilon when one of them is taken out."""
        return self.epsilon * (self.count - 2) / (self.count - 1)

    def _left_out(self, leverage: torch.Tensor, remainder: torch.Tensor) -> torch.Tensor:
        n = self.count
        ratio = leverage.clamp(min=0) / remainder.clamp(min=torch.finfo(remainder.dtype).eps)
        return (n * (n - 2) / (n - 1) * ratio).sqrt_().to(self._sum)


def _cholesky(matrices: torch.Tensor) -> torch.Tensor:
    """Lower factors of (p, n, n) matrices: in float64 where float32 cannot tell them definite.

    That happens where a variance is over 10^7 epsilons, as with untrained networks.
    """
    lower, info = torch.linalg.cholesky_ex(matrices)
    if not info.any():
        return lower
    lower, info = torch.linalg.cholesky_ex(matrices.double())
    if info.any():
        raise ModelError("a covariance is not positive definite; give a larger --epsilon")
    return lower
