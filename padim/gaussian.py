"""A Gaussian at every position of the grid, and the Mahalanobis distance to it (section III-B, C).

At each position, the N training embeddings x_k of d channels give

    mean        mu    = 1/N sum_k x_k
    covariance  Sigma = 1/(N-1) sum_k (x_k - mu)(x_k - mu)' + epsilon I               (equation 1)
    distance    M(x)  = sqrt((x - mu)' Sigma^-1 (x - mu))                             (equation 2)

``covariance`` and ``mahalanobis`` are these equations. The learner (``fitting``) adds epsilon when
it factorises. For many images it computes Sigma from running sums (``scatter``). Sigma^-1 is never
computed: a factor F is kept instead, in the smaller of two exact forms (``linalg``):

- dense, d x d, if N > d: with Sigma = L L', F = L^-1 and M^2 = |F (x - mu)|^2, which cannot be
  negative.
- low-rank, N x d, if N <= d: with Y the rows (x_k - mu) / sqrt(N-1) and Y Y' + epsilon I = C C'
  (N x N), Woodbury's identity gives F = C^-1 Y and M^2 = (|x - mu|^2 - |F (x - mu)|^2) / epsilon.

Precision: all values are float32. The low-rank form loses digits if |x - mu|^2 / epsilon is much
larger than M^2; with ImageNet features they are few. On the real class bottle with
ResNet-18, the largest relative error of M^2 against float64 is 4e-6 in the dense form (d = 100) and
1e-5 in the low-rank form (N = 209, d = 448); ``benchmarks/precision.py`` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from padim.parallel import for_each_block, grouped

# Images per product. Smaller tiles read the factors more often; larger ones are not faster.
TILE = 32


def covariance(embeddings: torch.Tensor, mean: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Implements equation (1): the covariance of the embeddings at every position.

    Args:
        embeddings: (P, N, d), the training embeddings of each position.
        mean: (P, d), their means.
        epsilon: added to the diagonal; 0 for none.

    Returns:
        (P, d, d).
    """
    rows = scaled_deviations(embeddings, mean, embeddings.shape[1])
    return regularised(torch.bmm(rows.transpose(1, 2), rows), epsilon)


def mahalanobis(
    embeddings: torch.Tensor,
    mean: torch.Tensor,
    factor: torch.Tensor,
    epsilon: float | None = None,
) -> torch.Tensor:
    """Implements equation (2): the Mahalanobis distance (not squared) at every position.

    Args:
        embeddings: (B, P, d).
        mean: (P, d).
        factor: F of each position, (P, d, d) in the dense form, (P, N, d) in the low-rank form.
        epsilon: that of equation (1) in the low-rank form; None in the dense form.

    Returns:
        (B, P).
    """
    delta = (embeddings - mean).permute(1, 2, 0)  # (P, d, B): one matrix per position
    squared = torch.bmm(factor, delta).square().sum(dim=1)
    if epsilon is not None:
        squared = ((delta.square().sum(dim=1) - squared) / epsilon).clamp(min=0)
    return squared.sqrt().T


def scaled_deviations(embeddings: torch.Tensor, mean: torch.Tensor, n_images: int) -> torch.Tensor:
    """The rows y_k = (x_k - mu) / sqrt(N-1), (P, n, d). If n = N, Sigma = Y'Y + epsilon I."""
    return (embeddings - mean[:, None]).div_(math.sqrt(n_images - 1))


def regularised(matrices: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Add ``epsilon`` to the diagonals of matrices (P, n, n)."""
    matrices = matrices.clone()
    matrices.diagonal(dim1=1, dim2=2).add_(epsilon)
    return matrices


class PatchGaussian(nn.Module):
    """The Gaussians of all P positions, as learned by ``fitting.GaussianLearner``.

    Args:
        mean: float32 (P, d).
        factor: float32 (P, d, d) in the dense form, (P, N, d) in the low-rank form.
        is_low_rank: which form it is.
        epsilon: that of equation (1), contained in ``factor``.

    Example:
        >>> from padim.fitting import GaussianLearner
        >>> learner = GaussianLearner(n_images=8)
        >>> gaussian = learner.update(torch.randn(8, 4, 3)).finish()
        >>> gaussian(torch.zeros(2, 4, 3)).shape
        torch.Size([2, 4])
    """

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(
        self, mean: torch.Tensor, factor: torch.Tensor, is_low_rank: bool, epsilon: float
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.is_low_rank = is_low_rank
        self.epsilon = epsilon

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Mahalanobis distances (not squared), one block of positions at a time.

        Every product has ``TILE`` images, padded with zeros. Libraries choose an algorithm by the
        shape, so otherwise the last digits would depend on the batch size.

        Args:
            embeddings: (B, P, d).

        Returns:
            float32 (B, P), on the device of the embeddings.
        """
        here = embeddings.to(self.factor.device)  # the CPU, if the factor does not fit on the GPU
        n_images, positions, dim = here.shape
        distances = here.new_empty(n_images, positions)
        epsilon = self.epsilon if self.is_low_rank else None

        def measure(block: slice) -> None:
            mean, factor = self.mean[block], self.factor[block]
            for start in range(0, n_images, TILE):
                images = slice(start, min(start + TILE, n_images))
                missing = start + TILE - images.stop
                tile = nn.functional.pad(here[images, block], (0, 0, 0, 0, 0, missing))
                distances[images, block] = mahalanobis(tile, mean, factor, epsilon)[
                    : TILE - missing
                ]

        bytes_each = 4 * TILE * (2 * dim + self.factor.shape[1])
        for_each_block(measure, positions, bytes_each, here.device)
        return distances.to(embeddings.device)

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the distances of each batch of embeddings.

        On a CPU, small batches are scored together: reading the factors takes most of the time.
        """
        if self.factor.device.type != "cpu":
            yield from map(self, batches)
            return
        for group in grouped(batches, TILE):
            embeddings = group[0] if len(group) == 1 else torch.cat(group)
            yield from self(embeddings).split([len(batch) for batch in group])

    def gathered(self) -> PatchGaussian:
        """Return self, which holds all positions; a ``ShardedGaussian`` holds a shard."""
        return self

    def get_extra_state(self) -> bool:
        """The form of the factors, which ``state_dict`` stores with the tensors."""
        return self.is_low_rank

    def set_extra_state(self, state: bool) -> None:
        """Take the form of the factors from a ``state_dict``."""
        self.is_low_rank = bool(state)
