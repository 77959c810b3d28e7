"""From covariances to the factors of their inverses, and the leave-one-out distances.

Leave-one-out: the distance of a training image to the Gaussian of the other N-1 images, with the
same epsilon, needs no second fit. With e = epsilon (N-2)/(N-1) and the leverage
h_i = y_i' (Y'Y + e I)^-1 y_i, taking x_i out of mean and covariance is a rank-one downdate
(Sherman and Morrison), and

    M_i^2 = N (N-2) / (N-1) * h_i / r_i,        r_i = (N-1)/N - h_i.

In the low-rank form h_i is close to (N-1)/N, and the difference would lose digits. There
r_i = e [(Y Y' + e I)^-1]_ii - 1/N, and the 1/N comes from centring the rows (``_remainder``).

Shapes: p positions, N images, d channels; rows Y are (p, N, d), as ``gaussian.scaled_deviations``
makes them.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from padim.errors import ModelError
from padim.gaussian import regularised

LEAF = 16  # a triangle of at most this many rows is inverted in one step
STRIPS = 4  # per triangle in a product; 4 strips skip 3/8 of the square
PACKED = 64  # positions whose triangles are packed at a time


def dense_factors(covariance: torch.Tensor, epsilon: float) -> torch.Tensor:
    """F = L^-1 (p, d, d) of covariances (p, d, d) without epsilon: Sigma = L L'."""
    return triangular_inverse(cholesky(regularised(covariance, epsilon)))


def dense_leave_one_out(
    rows: torch.Tensor, covariance: torch.Tensor, n_images: int, epsilon: float
) -> torch.Tensor:
    """Leave-one-out distances (p, n) of rows (p, n, d)."""
    whitening = dense_factors(covariance, _epsilon_without_one(epsilon, n_images))
    leverage = torch.bmm(rows.to(whitening), whitening.transpose(1, 2)).square_().sum(dim=2)
    return _leave_one_out(leverage, (n_images - 1) / n_images - leverage, n_images)


def gram(rows: torch.Tensor) -> torch.Tensor:
    """The lower triangles of Y Y' (p, N, N); values above the diagonal are undefined."""
    products = rows.new_zeros(len(rows), rows.shape[1], rows.shape[1])
    for strip in strips(rows.shape[1]):
        part = products[:, strip, : strip.stop]
        part.baddbmm_(rows[:, strip], rows[:, : strip.stop].transpose(1, 2), beta=0)
    return products


def low_rank_factors(rows: torch.Tensor, gram: torch.Tensor, epsilon: float) -> torch.Tensor:
    """F = C^-1 Y (p, N, d) of rows Y and their ``gram``: Y Y' + epsilon I = C C' (Woodbury)."""
    whitening = triangular_inverse(cholesky(regularised(gram, epsilon)))
    rows = rows.to(whitening)
    factor = torch.empty_like(rows)
    for strip in strips(rows.shape[1]):
        factor[:, strip] = torch.bmm(whitening[:, strip, : strip.stop], rows[:, : strip.stop])
    return factor


def low_rank_leave_one_out(gram: torch.Tensor, n_images: int, epsilon: float) -> torch.Tensor:
    """Leave-one-out distances (p, N) of the rows of a ``gram``."""
    remainder = _remainder(gram, n_images, epsilon)
    return _leave_one_out((n_images - 1) / n_images - remainder, remainder, n_images)


def triangular_inverse(lower: torch.Tensor) -> torch.Tensor:
    """The inverses of lower triangles (p, n, n).

    Computed by halves, almost all in products, in a third of the time of a triangular solve. A
    product with an inverse takes half the time of a solve.
    """
    n = lower.shape[1]
    if n <= LEAF:
        identity = torch.eye(n, dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, identity, upper=False)
    half = n // 2
    inverse = torch.zeros_like(lower)
    first = inverse[:, :half, :half] = triangular_inverse(lower[:, :half, :half])
    last = inverse[:, half:, half:] = triangular_inverse(lower[:, half:, half:])
    inverse[:, half:, :half] = torch.bmm(last, torch.bmm(lower[:, half:, :half], first)).neg_()
    return inverse


def cholesky(matrices: torch.Tensor) -> torch.Tensor:
    """Lower Cholesky factors of (p, n, n) matrices, in float64 if float32 does not suffice.

    Float32 fails if a variance exceeds 10^7 epsilon, as with untrained networks.

    Raises:
        ModelError: a matrix is not positive definite in float64 either.
    """
    lower, info = torch.linalg.cholesky_ex(matrices)
    if not info.any():
        return lower
    if matrices.device.type == "mps":  # has no float64
        return cholesky(matrices.cpu()).to(matrices)
    lower, info = torch.linalg.cholesky_ex(matrices.double())
    if info.any():
        raise ModelError("epsilon is too small: a covariance is not positive definite", "epsilon")
    return lower


def strips(n: int) -> list[slice]:
    """Strips of the rows of a triangle; the columns of a strip end at ``strip.stop``."""
    ends = [n * i // STRIPS for i in range(STRIPS + 1)]
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


def pack_triangles(factor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The lower triangles of dense factors (P, d, d), without zeros: (P, d (d+1) / 2).

    The result is on the CPU, since a GPU may lack the memory.
    """
    rows, columns = torch.tril_indices(factor.shape[1], factor.shape[1], device=factor.device)
    packed = torch.empty(len(factor), len(rows), dtype=dtype)
    for block in range(0, len(factor), PACKED):
        part = slice(block, block + PACKED)
        packed[part] = factor[part, rows, columns]
    return packed


def unpack_triangles(packed: torch.Tensor, dim: int) -> torch.Tensor:
    """Dense factors (P, d, d) from ``pack_triangles``."""
    factor = packed.new_zeros(len(packed), dim, dim)
    rows, columns = torch.tril_indices(dim, dim, device=packed.device)
    factor[:, rows, columns] = packed
    return factor


def _remainder(gram: torch.Tensor, n_images: int, epsilon: float) -> torch.Tensor:
    """r_i of every row, (p, N), from the ``gram``.

    Centred rows add up to zero, so Y Y' has an eigenvalue 0, which causes the 1/N to be
    subtracted. It is raised to the mean of the others first, so that little is subtracted.
    """
    epsilon = _epsilon_without_one(epsilon, n_images)
    top = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    lower = cholesky(regularised(gram + (top / n_images)[:, None, None], epsilon))
    diagonal = triangular_inverse(lower).square_().sum(dim=1)
    share = 1 / (n_images * (top.to(diagonal) + epsilon))
    return (epsilon * (diagonal - share[:, None])).to(gram)


def _leave_one_out(leverage: torch.Tensor, remainder: torch.Tensor, n: int) -> torch.Tensor:
    """M_i from h_i and r_i."""
    ratio = leverage.clamp(min=0) / remainder.clamp(min=torch.finfo(remainder.dtype).eps)
    return (n * (n - 2) / (n - 1) * ratio).sqrt_()


def _epsilon_without_one(epsilon: float, n_images: int) -> float:
    """e = epsilon (N-2)/(N-1): it becomes ``epsilon`` when one row is removed."""
    return epsilon * (n_images - 2) / (n_images - 1)
