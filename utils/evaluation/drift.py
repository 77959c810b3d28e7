"""Drift: whether images score higher than normal images like the training images would.

Two questions are asked. Are too many images flagged? And do the others score too high, compared
with the training images? Images that are rightly flagged do not affect the second answer.

The threshold is the m-th highest of the N leave-one-out scores, m = rate * (N + 1). If n new images
come from the same source, the share of that source above the threshold has the distribution
Beta(m, N + 1 - m), so that the number flagged is beta-binomial. A binomial test would ignore that
the threshold itself was learned, and report large folders that are like the training images.
Likewise, among images not above the threshold, the share above the k-th highest score has the
distribution Beta(k - m, N + 1 - k).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, fsum, lgamma

REPORTED = 0.01  # a p-value below this is reported


@dataclass(frozen=True)
class Drift:
    """How many images score high, and how likely that is without drift.

    Attributes:
        n_flagged: images with a score above the image threshold.
        n_upper: other images, with a score above the median of the training images' scores that are
            not above the threshold.
        n_images: all images.
        rate: false positive rate of the image threshold.
        n_training: leave-one-out scores that the threshold was learned from.
    """

    n_flagged: int
    n_upper: int
    n_images: int
    rate: float
    n_training: int

    @classmethod
    def of(cls, p_values: Mapping[float, int], rate: float, n_training: int) -> Drift:
        """Count some images.

        Args:
            p_values: how many images have each p-value, a multiple of 1 / (n_training + 1).
            rate: false positive rate of the image threshold.
            n_training: leave-one-out scores that the threshold was learned from.
        """
        ranks = [(round(p_value * (n_training + 1)), n) for p_value, n in p_values.items()]
        flagged, upper = _ranks(rate, n_training)
        n_flagged = sum(n for rank, n in ranks if rank <= flagged)
        n_upper = sum(n for rank, n in ranks if flagged < rank <= upper)
        return cls(n_flagged, n_upper, sum(p_values.values()), rate, n_training)

    @property
    def p_value(self) -> float:
        """One-sided: the probability of such counts, or higher ones, if all images are normal.

        Twice the smaller of two exact p-values, since there are two questions (Bonferroni).
        """
        return min(1.0, 2 * min(self.flagged_p_value, self.upper_p_value))

    @property
    def flagged_p_value(self) -> float:
        """The probability that so many or more are flagged."""
        m, _ = _ranks(self.rate, self.n_training)
        return _tail(self.n_flagged, self.n_images, m, self.n_training + 1 - m)

    @property
    def upper_p_value(self) -> float:
        """The probability that so many or more of the others are in the upper half."""
        m, k = _ranks(self.rate, self.n_training)
        if k == m:  # no training image is below the threshold
            return 1.0
        return _tail(self.n_upper, self.n_images - self.n_flagged, k - m, self.n_training + 1 - k)

    def line(self, what: str) -> str | None:
        """The line for users; None if there is nothing to report.

        Args:
            what: the images, such as ``these images``.
        """
        if self.p_value >= REPORTED:
            return None
        if self.flagged_p_value <= self.upper_p_value:
            share = 100 * self.n_flagged / self.n_images
            return (
                f"{share:.0f} % of {what} ({self.n_flagged} of {self.n_images}) are flagged where "
                f"{100 * self.rate:.2g} % were promised"
            )
        n_normal = self.n_images - self.n_flagged
        return (
            f"of {what}, {n_normal} are called normal, and {self.n_upper} of these score above the "
            "median of the training images, where half were expected"
        )


def _ranks(rate: float, n_training: int) -> tuple[int, int]:
    """The highest rank that is flagged, and the highest of the upper half of the others.

    Rank 1 is the highest score; a training image has the rank that its p-value stands for.
    """
    flagged = min(max(1, int(rate * (n_training + 1) + 1e-9)), n_training)
    return flagged, flagged + (n_training + 1 - flagged) // 2


def _tail(count: int, n: int, a: float, b: float) -> float:
    """The beta-binomial probability of ``count`` or more of ``n``."""

    def log_chance(k: int) -> float:
        choices = -lgamma(k + 1) - lgamma(n - k + 1) + lgamma(n + 1)
        return choices + _log_beta(k + a, n - k + b) - _log_beta(a, b)

    return min(1.0, fsum(exp(log_chance(k)) for k in range(count, n + 1)))


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
