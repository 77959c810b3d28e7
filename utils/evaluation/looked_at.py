"""The remark on a class with a region of interest."""

from __future__ import annotations

import numpy as np

from datasets.region_of_interest import ClassRegion
from datasets.types import AnomalyClass


def region_notes(
    item: AnomalyClass, region: ClassRegion | None, masks: np.ndarray
) -> tuple[str, ...]:
    """A sentence on the region and the ground truth outside it; none without a region.

    All metrics use the whole crop, as without a region: a defect outside is missed, and a normal
    pixel outside is never flagged.

    Args:
        item: the class.
        region: where to look; None for everywhere.
        masks: of the test images, bool (n, crop, crop).
    """
    if region is None:
        return ()
    if not item.has_masks:
        return (f"{region.text}; a defect outside is missed",)
    outside = (masks & ~region.mask.numpy()).sum(axis=(1, 2))
    every = masks.sum(axis=(1, 2))
    if not outside.any():
        return (f"{region.text}; no defective pixel lies outside",)
    in_part, entirely = int((outside > 0).sum()), int(((outside == every) & (every > 0)).sum())
    return (
        f"{region.text}; {_percent(outside.sum() / every.sum())} of the defective pixels lie "
        f"outside and count as missed (in {in_part} of {int((every > 0).sum())} masks, {entirely} "
        "of them entirely)",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %"
