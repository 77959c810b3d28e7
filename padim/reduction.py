"""The reduction of the channels from C to d (paper, section III-B): ids, projection, or PCA.

Every reduction is linear in the channels: it keeps some of them (``ids``) or projects all of them
(``projection``). To add one, add its name to ``config.REDUCTIONS`` and a case to
``draw_reduction``. PCA is learned from the training images instead, by ``learn_components``: its
name is in ``config.LEARNED``, and ``PaDiMConfig.is_learned`` is true.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from padim.config import REDUCTIONS, PaDiMConfig
from padim.errors import ModelError, unknown_name

if TYPE_CHECKING:
    from padim.parallel.process_group import ProcessGroup


@dataclass(frozen=True)
class Reduction:
    """Which channels are kept, or how all of them are projected. One of the two is None.

    Attributes:
        ids: channel ids, int64 (d,), sorted: indices into the concatenated channels.
        projection: float32 (C, d).
    """

    ids: torch.Tensor | None = None
    projection: torch.Tensor | None = None


def draw_reduction(config: PaDiMConfig, n_channels: int) -> Reduction | None:
    """Draw the reduction of a model once, from ``config.seed``.

    ``random`` picks d channels (the paper's Rd), ``semi_orthogonal`` projects on the Q of a
    Gaussian C x d matrix (Kim et al., arXiv 2105.14737), ``none`` keeps all C.

    Returns:
        The reduction; None for one that is learned from the training images.

    Raises:
        ModelError: ``embedding_dim`` exceeds C, or the reduction is unknown.
    """
    if config.reduction == "none":
        return Reduction(ids=torch.arange(n_channels))
    dim = config.embedding_dim
    if dim is None or dim > n_channels:
        raise ModelError(
            f"embedding_dim {dim}: the chosen layers have {n_channels} channels; "
            f"expected 1 to {n_channels}",
            "embedding_dim",
        )
    if config.is_learned:
        return None
    # NumPy never changes the streams of RandomState, unlike those of other generators: a seed gives
    # the same channels with every version.
    generator = np.random.RandomState(config.seed)
    if config.reduction == "random":
        ids = np.sort(generator.permutation(n_channels)[:dim])
        return Reduction(ids=torch.from_numpy(ids))
    if config.reduction == "semi_orthogonal":
        q, r = np.linalg.qr(generator.standard_normal((n_channels, dim)))
        q *= np.sign(np.diag(r))  # makes the factorisation, and so the projection, unique
        return Reduction(projection=torch.from_numpy(q).to(torch.float32))
    raise unknown_name("reduction", config.reduction, REDUCTIONS)


def learn_components(
    embeddings: Iterable[torch.Tensor],
    dim: int,
    n_channels: int,
    group: ProcessGroup | None = None,
) -> torch.Tensor:
    """Compute the first ``dim`` principal components of all patch embeddings.

    The components are those of the pooled covariance over images and positions. The mean is not
    subtracted: a shift common to all embeddings changes no Mahalanobis distance.

    Args:
        embeddings: batches (B, P, C) of the training images, all channels; a process of a group
            may have none.
        dim: d, the number of components.
        n_channels: C.
        group: the processes that fit together; None for one.

    Returns:
        The projection, float32 (C, d), on the device of the embeddings.
    """
    count, shift = 0, torch.zeros(n_channels, dtype=torch.float32)
    total = torch.zeros(n_channels, dtype=torch.float64)
    scatter = torch.zeros(n_channels, n_channels, dtype=torch.float64)
    for batch in embeddings:
        rows = batch.reshape(-1, n_channels)
        if not len(rows):
            continue
        if not count:
            shift = rows.mean(dim=0)  # close to the mean, so that float32 products are accurate
        rows = rows - shift
        count += len(rows)
        total = total + rows.sum(dim=0).cpu().double()
        scatter = scatter + (rows.T @ rows).cpu().double()
    if group is not None and group.world_size > 1:
        count, total, scatter = _sums_of_all(count, total, scatter, shift, group)
    covariance = scatter / count - torch.outer(total, total) / count**2
    components = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :dim]
    components = components.to(shift.device, torch.float32).contiguous()
    # The sign of an eigenvector is arbitrary, so all processes use those of rank 0.
    return components if group is None else group.broadcast(components)


def _sums_of_all(
    count: int,
    total: torch.Tensor,
    scatter: torch.Tensor,
    shift: torch.Tensor,
    group: ProcessGroup,
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Add up the sums of all processes, moved to shift 0, since the shifts differ."""
    shift = shift.cpu().double()
    cross = torch.outer(total, shift)
    scatter = scatter + cross + cross.T + count * torch.outer(shift, shift)
    total = total + count * shift
    counts, total, scatter = group.all_reduce((torch.tensor([count]), total, scatter))
    return int(counts), total.cpu(), scatter.cpu()
