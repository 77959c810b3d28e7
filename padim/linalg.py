"""From what was learned at some positions to the factors of their Gaussians, and what they would
say of each training image had they been fitted without it.

LEAVE ONE OUT. How far a training image is from the Gaussian of the other N-1, with the same
epsilon, needs no second fit. With e = epsilon (N-2)/(N-1) and h_i = y_i' (Y'Y + e I)^-1 y_i, its
leverage, taking x_i out of mean and covariance is a rank-one downdate, and

    m_i^2 = N (N-2) / (N-1) * h_i / r_i,        r_i = (N-1)/N - h_i.

In the low-rank form h_i is nearly (N-1)/N, so r_i is had without the difference, from
Y Y' (Y Y' + e I)^-1: it is e times the i-th diagonal of the inverse, less the 1/N in it that is due
to the rows having been centred.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from padim.errors import ModelError

LEAF = 16  # a triangle of so many rows is inverted in one step
STRIPS = 4  # that a triangle is multiplied in; what is left out is 3/8 of the square


def covariances(
    rows: torch.Tensor, scatter: torch.Tensor | None, mean: torch.Tensor, n_images: int
) -> torch.Tensor:
    """(p, d, d), without epsilon: of all rows or, where they are not all, of the sums of x x'."""
    if scatter is None:
        return torch.bmm(rows.transpose(1, 2), rows)
    outer = torch.bmm(mean[:, :, None], mean[:, None, :])
    return (scatter - n_images * outer).div_(n_images - 1)


def dense_factors(covariance: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Factors (p, d, d) of covariances (p, d, d)."""
    return _inverse(_cholesky(_raised(covariance, epsilon)))


def dense_left_out(
    rows: torch.Tensor, covariance: torch.Tensor, n_images: int, epsilon: float
) -> torch.Tensor:
    """Leave-one-out distances (p, n) of rows y (p, n, d)."""
    whitening = dense_factors(covariance, _epsilon_without_one(epsilon, n_images))
    leverage = torch.bmm(rows.to(whitening), whitening.transpose(1, 2)).square_().sum(dim=2)
    return _left_out(leverage, (n_images - 1) / n_images - leverage, n_images)


def products(rows: torch.Tensor) -> torch.Tensor:
    """Of rows y (p, N, d) the lower triangles of Y Y' (p, N, N); not all above is filled in."""
    found = rows.new_zeros(len(rows), rows.shape[1], rows.shape[1])
    for strip in _strips(rows.shape[1]):
        part = found[:, strip, : strip.stop]
        part.baddbmm_(rows[:, strip], rows[:, : strip.stop].transpose(1, 2), beta=0)
    return found


def low_rank_factors(rows: torch.Tensor, gram: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Factors (p, N, d) of rows y (p, N, d) whose ``products`` are ``gram``."""
    whitening = _inverse(_cholesky(_raised(gram, epsilon)))
    rows = rows.to(whitening)
    factor = torch.empty_like(rows)
    for strip in _strips(rows.shape[1]):
        factor[:, strip] = torch.bmm(whitening[:, strip, : strip.stop], rows[:, : strip.stop])
    return factor


def low_rank_left_out(gram: torch.Tensor, n_images: int, epsilon: float) -> torch.Tensor:
    """Leave-one-out distances (p, N) of rows whose ``products`` are ``gram``."""
    remainder = _remainder(gram, n_images, epsilon)
    return _left_out((n_images - 1) / n_images - remainder, remainder, n_images)


def _remainder(gram: torch.Tensor, n_images: int, epsilon: float) -> torch.Tensor:
    """r_i of every row, (p, N), from their ``products`` (p, N, N).

    Centred rows add up to nothing, so Y Y' has an eigenvalue 0 whose share in the diagonal of the
    inverse is the 1/N to be taken off. Raised to the size of the others, it has next to none.
    """
    epsilon = _epsilon_without_one(epsilon, n_images)
    top = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    lower = _cholesky(_raised(gram + (top / n_images)[:, None, None], epsilon))
    diagonal = _inverse(lower).square_().sum(dim=1)
    share = 1 / (n_images * (top.to(diagonal) + epsilon))
    return (epsilon * (diagonal - share[:, None])).to(gram)


def _left_out(leverage: torch.Tensor, remainder: torch.Tensor, n: int) -> torch.Tensor:
    """m_i from h_i and r_i."""
    ratio = leverage.clamp(min=0) / remainder.clamp(min=torch.finfo(remainder.dtype).eps)
    return (n * (n - 2) / (n - 1) * ratio).sqrt_()


def _strips(n: int) -> list[slice]:
    """Of the rows of a triangle; those of a strip are nowhere longer than its end."""
    ends = [n * i // STRIPS for i in range(STRIPS + 1)]
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


def _raised(matrices: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The matrices (p, n, n) with ``epsilon`` added to their diagonals."""
    matrices = matrices.clone()
    matrices.diagonal(dim1=1, dim2=2).add_(epsilon)
    return matrices


def _epsilon_without_one(epsilon: float, n_images: int) -> float:
    """The epsilon of N rows that becomes ``epsilon`` when one of them is taken out."""
    return epsilon * (n_images - 2) / (n_images - 1)


def _inverse(lower: torch.Tensor) -> torch.Tensor:
    """The inverses of lower triangles (p, n, n); applied with a product they save half the time.

    By halves, so that nearly all of it is products: a third of the time of a triangular solve.
    """
    n = lower.shape[1]
    if n <= LEAF:
        identity = torch.eye(n, dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, identity, upper=False)
    half = n // 2
    inverse = torch.zeros_like(lower)
    first = inverse[:, :half, :half] = _inverse(lower[:, :half, :half])
    last = inverse[:, half:, half:] = _inverse(lower[:, half:, half:])
    inverse[:, half:, :half] = torch.bmm(last, torch.bmm(lower[:, half:, :half], first)).neg_()
    return inverse


def _cholesky(matrices: torch.Tensor) -> torch.Tensor:
    """Lower factors of (p, n, n) matrices: in float64 where float32 cannot tell them definite.

    That happens where a variance is over 10^7 epsilons, as with untrained networks.
    """
    lower, info = torch.linalg.cholesky_ex(matrices)
    if not info.any():
        return lower
    if matrices.device.type == "mps":  # which has no float64
        return _cholesky(matrices.cpu()).to(matrices)
    lower, info = torch.linalg.cholesky_ex(matrices.double())
    if info.any():
        raise ModelError("a covariance is not positive definite; give a larger --epsilon")
    return lower
