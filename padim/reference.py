"""The paper on one page: NumPy float64, plain loops, one function per equation.

Slow and simple on purpose. The tests compare the library with it. Feature maps and embeddings of an
image have the channels last: (H, W, C). Defard et al., arXiv 2011.08785.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def patch_embeddings(feature_maps: Sequence[Array], channel_ids: Sequence[int]) -> Array:
    """Section III-A: concatenate the feature maps (H_l, W_l, C_l) of one image at each position.

    Coarser maps are repeated up to the grid of the largest one. Section III-B keeps a random
    subset of the channels, ``channel_ids``. Returns (H, W, d).
    """
    height, width = max(feature_map.shape[:2] for feature_map in feature_maps)
    embeddings = np.empty((height, width, len(channel_ids)))
    for i in range(height):
        for j in range(width):
            vectors = []
            for feature_map in feature_maps:
                rows, columns, _ = feature_map.shape
                vectors.append(feature_map[i * rows // height, j * columns // width])
            embeddings[i, j] = np.concatenate(vectors)[list(channel_ids)]
    return embeddings


def mean(x: Array) -> Array:
    """Section III-B: mu, the mean of the embeddings x (N, d) of one position."""
    total = np.zeros(x.shape[1])
    for x_k in x:
        total += x_k
    return total / len(x)


def covariance(x: Array, epsilon: float = 0.01) -> Array:
    """Equation (1): Sigma = 1/(N-1) sum_k (x_k - mu)(x_k - mu)' + epsilon I, (d, d)."""
    mu = mean(x)
    total = np.zeros((x.shape[1], x.shape[1]))
    for x_k in x:
        total += np.outer(x_k - mu, x_k - mu)
    return total / (len(x) - 1) + epsilon * np.eye(x.shape[1])


def mahalanobis(x: Array, mu: Array, sigma: Array) -> float:
    """Equation (2): M(x) = sqrt((x - mu)' Sigma^-1 (x - mu)) of one embedding (d,)."""
    return float(np.sqrt((x - mu) @ np.linalg.solve(sigma, x - mu)))


def distances(train: Array, test: Array, epsilon: float = 0.01) -> Array:
    """Distances (H, W) of one image (H, W, d) to the Gaussians of ``train`` (N, H, W, d)."""
    height, width, _ = test.shape
    found = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            x = train[:, i, j]
            found[i, j] = mahalanobis(test[i, j], mean(x), covariance(x, epsilon))
    return found


def leave_one_out(x: Array, epsilon: float = 0.01) -> Array:
    """At one position, the distance (N,) of each embedding to the Gaussian of the others."""
    found = np.empty(len(x))
    for k in range(len(x)):
        others = np.delete(x, k, axis=0)
        found[k] = mahalanobis(x[k], mean(others), covariance(others, epsilon))
    return found


def image_score(anomaly_map: Array) -> float:
    """Section III-C: the score of an image is the maximum of its anomaly map."""
    return float(anomaly_map.max())


def threshold(scores: Array, false_positive_rate: float) -> float:
    """The score exceeded by at most a fraction ``false_positive_rate`` of normal images.

    Args:
        scores: leave-one-out image scores of the N training images.
        false_positive_rate: at least 1 / (N + 1), since the new image is counted too
            (conformal prediction: Vovk, Gammerman and Shafer, 2005).
    """
    allowed = min(max(1, int(false_positive_rate * (len(scores) + 1) + 1e-9)), len(scores))
    return float(np.sort(scores)[::-1][allowed - 1])
