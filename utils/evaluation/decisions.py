"""Metrics of the decision rule, whose thresholds are chosen without any defect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from padim.calibration import is_above

Values = dict[str, np.ndarray]  # a metric in each of several draws, nan where it does not exist


def flagged_shares(is_flagged: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Values:
    """The shares of the good and of the defective images that are flagged as defective.

    Args:
        is_flagged: bool (n,).
        labels: bool (n,), True for defective images.
        weights: how often each image is drawn, float64 (B, n).
    """
    flagged = weights * is_flagged
    return {
        name: flagged[:, kind].sum(axis=1) / weights[:, kind].sum(axis=1)
        for name, kind in (("false_alarms", ~labels), ("detections", labels))
    }


@dataclass(frozen=True)
class PixelCounts:
    """Numbers of pixels of every image by the decision rule, int64 (n,)."""

    hits: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray

    @classmethod
    def at(cls, threshold: float, maps: torch.Tensor, masks: np.ndarray) -> PixelCounts:
        """Count the pixels above a map value.

        Args:
            threshold: the map value.
            maps: anomaly maps, float (n, height, width).
            masks: bool (n, height, width).
        """
        counts = []
        for values, mask in zip(maps, masks, strict=True):
            flagged = is_above(values.cpu().numpy(), threshold)
            counts.append(
                [part.sum() for part in (flagged & mask, flagged & ~mask, mask & ~flagged)]
            )
        return cls(*np.array(counts).T)

    def metrics(self, weights: np.ndarray) -> Values:
        """F1 and intersection over union of the pixels of all images together.

        Args:
            weights: how often each image is drawn, float64 (B, n).
        """
        hits = weights @ self.hits
        wrong = weights @ (self.false_alarms + self.misses)
        return {
            "pixel_f1_calibrated": 2 * hits / (2 * hits + wrong),
            "pixel_iou_calibrated": hits / (hits + wrong),
        }
