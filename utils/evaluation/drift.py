"""Drift: whether more images are called defective than normal ones like the training images would.

The threshold is the m-th highest of the N leave-one-out scores, m = rate * (N + 1). If n new images
come from the same source, the share of that source above the threshold has the distribution
Beta(m, N + 1 - m), so that the number flagged is beta-binomial. A plain binomial test would forget
that the threshold itself was learned, and report large folders that are like the training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, lgamma

REPORTED = 0.01  # a p-value below this is reported


@dataclass(frozen=True)
class Drift:
    """How many of some images are flagged, and how likely that is without drift.

    Attributes:
        n_flagged: images with a score above the image threshold.
        n_images: all images.
        rate: false positive rate of the image threshold.
        n_training: leave-one-out scores that the threshold was learned from.
    """

    n_flagged: int
    n_images: int
    rate: float
    n_training: int

    @property
    def p_value(self) -> float:
        """One-sided and exact: how likely so many or more are flagged, if all are normal."""
        m = min(max(1, int(self.rate * (self.n_training + 1) + 1e-9)), self.n_training)
        n, rest = self.n_images, self.n_training + 1 - m

        def log_chance(k: int) -> float:
            choices = -lgamma(k + 1) - lgamma(n - k + 1) + lgamma(n + 1)
            return choices + _log_beta(k + m, n - k + rest) - _log_beta(m, rest)

        return min(1.0, fsum(exp(log_chance(k)) for k in range(self.n_flagged, n + 1)))

    def line(self, what: str) -> str | None:
        """What is said of it to users; None if nothing has to be said.

        Args:
            what: the images, such as ``these images``.
        """
        if self.p_value >= REPORTED:
            return None
        share = 100 * self.n_flagged / self.n_images
        return (
            f"{share:.0f} % of {what} ({self.n_flagged} of {self.n_images}) are flagged where "
            f"{100 * self.rate:.2g} % were promised"
        )


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
