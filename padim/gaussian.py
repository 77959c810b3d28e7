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

PRECISION. All in float32. On the real class bottle, ResNet-18, the largest relative error of m^2
against float64 is 4e-6 in the dense form (d = 100), 1e-5 in the low-rank form (N = 209, d = 448):
``benchmarks/precision.py`` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from padim.errors import ModelError

# Work goes through the positions in blocks of about this many bytes: enough to keep batched
# routines busy, little beside the Gaussians themselves.
BLOCK_BYTES = 64 * 2**20


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
            float32 (B, P).
        """
        batch, positions, dim = embeddings.shape
        squared = embeddings.new_empty(positions, batch)
        for block in _blocks(positions, batch * (dim + self.factor.shape[1])):
            delta = (embeddings[:, block] - self.mean[block]).permute(1, 2, 0)  # (p, d, B)
            projected = torch.bmm(self.factor[block], delta).square_().sum(dim=1)
            if self.is_low_rank:
                projected = (delta.square().sum(dim=1) - projected) / self.epsilon
            squared[block] = projected
        return squared.clamp_(min=0).sqrt_().T


class GaussianFit:
    """Learns the Gaussians from batches of embeddings, each seen once.

    Where the images are more than the channels, only sums are kept and memory does not grow with N;
    otherwise the N embeddings themselves, which are then the smaller.

    Args:
        n_images: N, known beforehand.
        epsilon: added to the diagonal of every covariance.

    Raises:
        ModelError: fewer than 2 images, for which there is no covariance.
    """

    def __init__(self, n_images: int, epsilon: float = 0.01) -> None:
        if n_images < 2:
            raise ModelError(f"{n_images} training image: a covariance needs at least 2")
        self.n_images = n_images
        self.epsilon = epsilon
        self.count = 0
        self._shift: torch.Tensor | None = None  # (P, d): a first mean, so that sums stay exact
        self._sum: torch.Tensor | None = None  # (P, d), of the shifted embeddings
        self._store: torch.Tensor | None = None  # (P, N, d) shifted rows, or (P, d, d) their x x'

    def update(self, embeddings: torch.Tensor) -> GaussianFit:
        """Take in a batch of embeddings (B, P, d)."""
        batch, positions, dim = embeddings.shape
        if self._store is None:
            rows = self.n_images if self._is_low_rank(dim) else dim
            self._shift = embeddings.mean(dim=0)
            self._sum = torch.zeros_like(self._shift)
            self._store = embeddings.new_zeros(positions, rows, dim)
        for block in _blocks(positions, batch * dim):
            shifted = (embeddings[:, block] - self._shift[block]).transpose(0, 1)  # (p, B, d)
            self._sum[block] += shifted.sum(dim=1)
            if self._is_low_rank(dim):
                self._store[block, self.count : self.count + batch] = shifted
            else:
                self._store[block].baddbmm_(shifted.transpose(1, 2), shifted)
        self.count += batch
        return self

    def finish(self) -> PatchGaussian:
        """Factorise, in place of the sums.

        Raises:
            ModelError: fewer images came than were announced, or epsilon is too small for the
                covariances to be inverted.
        """
        if self.count != self.n_images:
            raise ModelError(f"{self.count} training images came, {self.n_images} were announced")
        positions, rows, dim = self._store.shape
        mean = self._sum.div_(self.count)
        finish = self._finish_low_rank if self._is_low_rank(dim) else self._finish_dense
        for block in _blocks(positions, 3 * rows * rows + rows * dim):
            finish(self._store[block], mean[block])
        factor, self._store = self._store, None
        return PatchGaussian(mean.add_(self._shift), factor, self._is_low_rank(dim), self.epsilon)

    def _is_low_rank(self, dim: int) -> bool:
        return self.n_images <= dim

    def _finish_dense(self, scatter: torch.Tensor, mean: torch.Tensor) -> None:
        scatter.baddbmm_(mean[:, :, None], mean[:, None, :], alpha=-self.count)
        scatter.div_(self.count - 1)
        identity = torch.eye(scatter.shape[1], dtype=scatter.dtype, device=scatter.device)
        lower = _cholesky(scatter.add_(identity, alpha=self.epsilon))
        scatter.copy_(torch.linalg.solve_triangular(lower, identity.to(lower), upper=False))

    def _finish_low_rank(self, rows: torch.Tensor, mean: torch.Tensor) -> None:
        rows.sub_(mean[:, None, :]).div_(math.sqrt(self.count - 1))
        gram = torch.bmm(rows, rows.transpose(1, 2))
        gram.diagonal(dim1=1, dim2=2).add_(self.epsilon)
        lower = _cholesky(gram)
        rows.copy_(torch.linalg.solve_triangular(lower, rows.to(lower), upper=False))


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


def _blocks(positions: int, floats_per_position: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // (4 * floats_per_position))
    for start in range(0, positions, step):
        yield slice(start, min(start + step, positions))
