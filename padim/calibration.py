"""Thresholds and p-values, learned from the training images alone.

Each training image is scored by the Gaussians of the other images (leave-one-out, see ``linalg``).
Its score is close to that of an unseen normal image; without leaving it out, it is far too low. So
a threshold for a chosen false positive rate needs neither defects nor a validation set.

The decision rule: an image is defective if its score > the image threshold. A pixel is defective if
its map value > the pixel threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import overload

import numpy as np
import torch
from torch import nn

from padim.anomaly_map import image_scores
from padim.errors import ModelError

MAX_PIXELS = 1_000_000  # approximate number of pixels of the training images that are used
# Quantiles of their map values are kept at these rates: 100 per power of ten from 1e-6 to 1.
LOWEST_EXPONENT = -6
RATES_PER_DECADE = 100
N_PIXEL_RATES = -LOWEST_EXPONENT * RATES_PER_DECADE + 1
PIXEL_RATES = 10.0 ** torch.linspace(LOWEST_EXPONENT, 0, N_PIXEL_RATES, dtype=torch.float64)


class Calibration(nn.Module):
    """Leave-one-out scores of the training images, which stand for unseen normal images.

    Args:
        scores: float32 (n,), leave-one-out image scores.
        pixel_levels: float32 (601,), the map values exceeded by fractions ``PIXEL_RATES`` of
            their pixels.

    Attributes:
        scores_in_order: the scores in the order of the training images; None in a loaded model.
            n is less than N if the learner could not keep the embeddings of all images.

    Example:
        >>> calibration = Calibration.from_maps([torch.arange(19.0).view(19, 1, 1)])
        >>> calibration.image_threshold(0.05), calibration.finest_rate
        (18.0, 0.05)
    """

    image_scores: torch.Tensor
    pixel_levels: torch.Tensor

    def __init__(self, scores: torch.Tensor, pixel_levels: torch.Tensor) -> None:
        super().__init__()
        self.scores_in_order: tuple[float, ...] | None = None
        self.register_buffer("image_scores", scores.sort().values)
        self.register_buffer("pixel_levels", pixel_levels)

    @classmethod
    def from_maps(cls, maps: Iterable[torch.Tensor], n_pixels: int = 0) -> Calibration:
        """Calibrate with leave-one-out maps.

        Args:
            maps: batches (B, crop, crop), or (B, 1, n) of the pixels that count.
            n_pixels: number in all maps; more than ``MAX_PIXELS`` are sampled. 0 to use all.
        """
        scores, pixels = [], []
        for batch in maps:
            scores.append(image_scores(batch))
            pixels.append(batch.flatten()[:: sampling_step(n_pixels, batch.shape[-1])])
        levels = torch.cat(pixels).sort(descending=True).values
        exceeded = (PIXEL_RATES * len(levels)).ceil().long() - 1
        found = cls(torch.cat(scores), levels[exceeded.clamp(min=0).to(levels.device)])
        found.scores_in_order = tuple(torch.cat(scores).tolist())
        return found

    @property
    def finest_rate(self) -> float:
        """The lowest false positive rate that n images can promise, 1 / (n + 1)."""
        return 1 / (len(self.image_scores) + 1)

    def p_values(self, scores: torch.Tensor) -> torch.Tensor:
        """Conformal p-values of image scores, float64 (Vovk et al., 2005): low if not normal.

        Of the n normal images and the new one, the fraction that score at least as high as the new
        one. For a normal image, the probability of a p-value of at most p is about p or less. It
        may be less because leave-one-out scores use one image fewer than scores of new images.
        """
        n = len(self.image_scores)
        lower = torch.searchsorted(self.image_scores, scores.to(self.image_scores))
        return (1 + n - lower).double() / (n + 1)

    def image_threshold(self, false_positive_rate: float) -> float:
        """The image score above which an image is defective.

        Args:
            false_positive_rate: of normal images, above 0 and at most 1. Lower rates than
                ``finest_rate`` give the threshold of ``finest_rate``.

        Raises:
            ModelError: the rate is out of range.
        """
        check_rate(false_positive_rate)
        n = len(self.image_scores)
        flagged = max(1, int(false_positive_rate * (n + 1) + 1e-9))
        return float(self.image_scores[n - min(flagged, n)])

    def pixel_threshold(self, false_positive_rate: float) -> float:
        """The map value above which a pixel is defective; the rate is that of normal pixels.

        Raises:
            ModelError: the rate is out of range.
        """
        check_rate(false_positive_rate)
        wanted = torch.log10(torch.tensor(false_positive_rate, dtype=torch.float64))
        index = int(((wanted - LOWEST_EXPONENT) * RATES_PER_DECADE).round())
        return float(self.pixel_levels[max(0, min(index, N_PIXEL_RATES - 1))])

    def pixel_p_values(self, values: torch.Tensor) -> torch.Tensor:
        """P-values of map values, float64: low if such a pixel is unlikely in a normal image.

        The fraction of the pixels of normal images that are at least as high. It is rounded up to
        the next of ``PIXEL_RATES``, by at most 2.4 %, and is at least 1e-6.
        """
        lower = torch.searchsorted(
            self.pixel_levels.flip(0).contiguous(), values.to(self.pixel_levels), right=True
        )
        return PIXEL_RATES[(N_PIXEL_RATES - lower).clamp(max=N_PIXEL_RATES - 1).cpu()]


@overload
def is_above(scores: float, threshold: float) -> bool: ...
@overload
def is_above(scores: np.ndarray, threshold: float) -> np.ndarray: ...
def is_above(scores: float | np.ndarray, threshold: float) -> bool | np.ndarray:
    """Whether a score is above the threshold. A score equal to the threshold is not.

    Args:
        scores: image scores or map values, one number or an array of any shape.
        threshold: of the same unit.

    Returns:
        bool, of the shape of ``scores``.
    """
    return scores > threshold


def sampling_step(n_pixels: int, side: int) -> int:
    """The stride at which pixels are sampled, so that every column and row of a map is seen.

    Args:
        n_pixels: number in all maps.
        side: of a map; the step shares no factor with it.
    """
    step = max(1, n_pixels // MAX_PIXELS) | 1
    while math.gcd(step, side) > 1:
        step += 2
    return step


def check_rate(rate: float) -> None:
    """Check a false positive rate.

    Raises:
        ModelError: it is not a number above 0 and at most 1.
    """
    if not isinstance(rate, Real) or not 0 < rate <= 1:
        raise ModelError(
            f"false_positive_rate {rate!r}: expected a number above 0 and at most 1",
            "false_positive_rate",
        )
