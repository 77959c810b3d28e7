"""What unseen normal images score, learned from the training images alone.

Each training image is scored by the Gaussians of the others (``factors``), which is
how an unseen normal image is scored, so thresholds at a chosen rate of false alarms need neither
defects nor images set aside. The scores by the Gaussians the images were fitted with would not do:
they are far too low.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from padim.anomaly_map import image_scores

# Of all pixels' scores only the levels that these shares of them exceed are kept.
MAX_PIXELS = 1_000_000
PIXEL_RATES = 10.0 ** torch.linspace(-6, 0, 601, dtype=torch.float64)


class Calibration(nn.Module):
    """The scores of normal images that the model has not seen.

    Args:
        image_scores: float32 (n,), of the training images, each left out of its model.
        pixel_levels: float32 (601,), the map values that the shares ``PIXEL_RATES`` of their
            pixels exceed.
    """

    def __init__(self, image_scores: torch.Tensor, pixel_levels: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("image_scores", image_scores.sort().values)
        self.register_buffer("pixel_levels", pixel_levels)

    @classmethod
    def of_maps(cls, maps: Iterable[torch.Tensor], n_pixels: int) -> Calibration:
        """From the maps of the images left out.

        Args:
            maps: batches (B, crop, crop).
            n_pixels: in all of them; where they are more than ``MAX_PIXELS``, a part is looked at.
        """
        step = max(1, n_pixels // MAX_PIXELS) | 1  # odd, so that it takes turns in the columns
        scores, pixels = [], []
        for batch in maps:
            scores.append(image_scores(batch))
            pixels.append(batch.flatten()[::step])
        levels = torch.cat(pixels).sort(descending=True).values
        exceeded = (PIXEL_RATES * len(levels)).ceil().long() - 1
        return cls(torch.cat(scores), levels[exceeded.clamp(min=0).to(levels.device)])

    @property
    def finest_rate(self) -> float:
        """The lowest rate of false alarms that so many images can promise, 1 / (n + 1)."""
        return 1 / (len(self.image_scores) + 1)

    def p_values(self, scores: torch.Tensor) -> torch.Tensor:
        """Conformal p-values of image scores, float64: low where a normal image is unlikely.

        The share of the normal images, the new one among them, that score as high. A normal image
        has a p-value of at most p with a probability of at most p.
        """
        n = len(self.image_scores)
        lower = torch.searchsorted(self.image_scores, scores.to(self.image_scores))
        return (1 + n - lower).double() / (n + 1)

    def image_threshold(self, rate: float) -> float:
        """The image score above which an image is called defective.

        Args:
            rate: of false alarms, 0 to 1; below ``finest_rate`` that is taken.
        """
        n = len(self.image_scores)
        called = max(1, int(rate * (n + 1) + 1e-9))
        return float(self.image_scores[n - min(called, n)])

    def pixel_threshold(self, rate: float) -> float:
        """The map value above which a pixel is called defective; ``rate`` is of normal pixels."""
        wanted = torch.log10(torch.tensor(max(rate, 1e-6), dtype=torch.float64))
        index = int(((wanted + 6) * 100).round().clamp(0, 600))
        return float(self.pixel_levels[index])
