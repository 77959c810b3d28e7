"""Counts of each image's pixels at a few thousand thresholds, for resampling whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from utils.evaluation.levels import CHUNK
from utils.evaluation.metric_names import PIMO_RATES
from utils.evaluation.regions import region_weights

N_QUANTILES = 200  # thresholds at even shares of the defective pixels
N_RATES = 80  # at false positive rates in even steps, and as many in even ratios
N_TOP = 200  # at pixels of good images, for the low rates of AUPIMO
N_SAMPLED = 200_000  # pixels that the thresholds of all but the top are chosen from


@dataclass(frozen=True)
class PixelTable:
    """Counts of pixels at or above G thresholds, the highest first.

    Attributes:
        hits: defective pixels, float64 (n, G).
        false: normal pixels, float64 (n, G).
        found: found shares of the regions of an image, added up, float64 (n, G).
    """

    hits: np.ndarray
    false: np.ndarray
    found: np.ndarray

    @classmethod
    def count(cls, maps: torch.Tensor, masks: torch.Tensor, thresholds: torch.Tensor) -> PixelTable:
        """Count the pixels of maps (n, height, width); masks are bool, on the CPU."""
        size = max(1, CHUNK // maps[0].numel())
        chunks = zip(maps.split(size), masks.split(size), strict=True)
        parts = [_count(part, mask, thresholds.flip(0)) for part, mask in chunks]
        return cls(*(np.concatenate(same) for same in zip(*parts, strict=True)))

    def at(self, chosen: np.ndarray) -> PixelTable:
        """The columns of the chosen thresholds, bool (G,)."""
        return PixelTable(self.hits[:, chosen], self.false[:, chosen], self.found[:, chosen])


@dataclass(frozen=True)
class PixelTables:
    """The two tables of a class.

    Attributes:
        curves: at thresholds where recall or the false positive rate changes, down to all pixels.
        top: at the thresholds that AUPIMO needs; none without good images.
        is_step: whether all pixels that a threshold of ``curves`` adds have one score, bool (G,).
        thresholds: of ``curves``, the highest first (G,).
    """

    curves: PixelTable
    top: PixelTable
    is_step: np.ndarray
    thresholds: torch.Tensor

    @classmethod
    def of_maps(cls, maps: torch.Tensor, masks: torch.Tensor, is_good: torch.Tensor) -> PixelTables:
        """Count the pixels of a class; the arguments are those of ``measure_pixels``."""
        if maps.device.type == "mps":  # MPS has no float64
            maps = maps.cpu()
        curves = _thresholds(maps, masks)
        top = curves[:0]
        if is_good.any():
            top = _top_thresholds(maps[is_good.to(maps.device)])
        every = _sorted(torch.cat((curves, top)).unique())
        table = PixelTable.count(maps, masks, every)
        chosen, chosen_top = (torch.isin(every, part).cpu().numpy() for part in (curves, top))
        is_step = (curves[:-1] == _just_above(curves[1:])).cpu().numpy()
        return cls(table.at(chosen), table.at(chosen_top), np.append(False, is_step), curves)


def _thresholds(maps: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The thresholds of the curves, highest first: evenly spread over rates, and the ends.

    Each threshold at a defective pixel appears twice, just above and at it, to keep steps sharp.
    """
    defective = maps[masks.to(maps.device)]
    ends, lowest = torch.stack((maps.max(), maps.min())), defective.min().view(1)
    is_normal = ~masks.flatten()[:: _step(masks)]
    sampled = maps.flatten()[:: _step(masks)][is_normal.to(maps.device)]
    normal = torch.cat((sampled, ends))  # never empty
    defective, normal = (_sorted(scores) for scores in (defective[:: _step(defective)], normal))
    chosen = (
        _twice(torch.cat((defective[_even(len(defective), N_QUANTILES)], lowest))),
        normal[_even(len(normal), N_RATES)],
        normal[_ratios(len(normal), N_RATES)],
    )
    return _sorted(torch.cat(chosen).unique())


def _top_thresholds(maps: torch.Tensor) -> torch.Tensor:
    """The thresholds of AUPIMO, highest first, from the maps of the good images.

    For any draw of images, the shared false positive rate is within AUPIMO's bounds only above the
    lowest score at which a single image reaches the upper bound.
    """
    flat = maps.flatten(1)
    n_each = min(int(PIMO_RATES[1] * flat.shape[1]) + 2, flat.shape[1])
    lowest = min(float(image.topk(n_each).values[-1]) for image in flat)
    top = _sorted(flat[flat >= lowest])
    return _sorted(_twice(top[_ratios(len(top), N_TOP)]).unique())


def _twice(scores: torch.Tensor) -> torch.Tensor:
    return torch.cat((scores, _just_above(scores)))


def _just_above(scores: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(scores, torch.full_like(scores, torch.inf))


def _step(scores: torch.Tensor) -> int:
    return scores.numel() // N_SAMPLED + 1


def _sorted(scores: torch.Tensor) -> torch.Tensor:
    return scores.sort(descending=True).values


def _even(n: int, count: int) -> torch.Tensor:
    """Up to ``count`` positions of n in even steps."""
    return torch.linspace(0, n - 1, count, dtype=torch.float64).long().unique()


def _ratios(n: int, count: int) -> torch.Tensor:
    """Up to ``count`` positions of n, the first ones all, then in even ratios to the last."""
    ranks = torch.logspace(0, float(np.log10(n)), count, dtype=torch.float64).round().long()
    return torch.cat((torch.arange(min(n, count // 2)), ranks.clamp(max=n) - 1)).unique()


def _count(
    maps: torch.Tensor, masks: torch.Tensor, rising: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, false alarms and found shares of some images at every threshold."""
    n, width = len(maps), len(rising) + 1
    reached = torch.searchsorted(rising, maps.flatten(), right=True, out_int32=True)
    reached = reached.view(n, -1) + torch.arange(n, device=maps.device)[:, None] * width
    defective = reached[masks.view(n, -1).to(maps.device)]

    def at_or_above(bins: torch.Tensor, weights: torch.Tensor | None = None) -> np.ndarray:
        counts = torch.bincount(bins, weights, minlength=n * width).view(n, width)[:, 1:]
        return counts.flip(1).cumsum(1).double().cpu().numpy()

    hits = at_or_above(defective)
    if not masks.any():
        return hits, at_or_above(reached.flatten()), hits
    weights = torch.from_numpy(region_weights(masks.numpy())[0]).to(maps.device)
    return hits, at_or_above(reached.flatten()) - hits, at_or_above(defective, weights)
