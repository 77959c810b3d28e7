"""Masks without a defect after preprocessing, and the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from datasets.loading.cache import read_sample
from datasets.loading.video import mask_of_frame
from datasets.masks import read_mask
from datasets.types import AnomalyClass, Sample
from padim.preprocessing import Preprocessing

BLACK, OUTSIDE, LOST = "black", "outside the crop", "lost in resizing"
REMEDIES = {
    BLACK: "mend these masks or take their images out",
    OUTSIDE: "--crop none looks at the whole image",
    LOST: "a larger --resize keeps small defects",
}


def empty_masks(
    item: AnomalyClass, masks: np.ndarray, preprocessing: Preprocessing
) -> tuple[str, ...]:
    """A sentence on the empty masks of a class, with their number by cause; or none.

    Args:
        item: the class.
        masks: of its test images as preprocessed, bool (n, crop, crop).
        preprocessing: of its images.

    Raises:
        DataError: a mask can no longer be read.
    """
    pairs = zip(item.test, masks, strict=True)
    empty = [sample for sample, mask in pairs if sample.mask is not None and not mask.any()]
    empty = [sample for sample in empty if sample.is_defective]
    if not empty:
        return ()
    causes = Counter(_cause(sample, preprocessing) for sample in empty)
    n_masks = sum(sample.mask is not None and sample.is_defective for sample in item.test)
    counts = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    remedies = "; ".join(REMEDIES[cause] for cause, _ in causes.most_common())
    return (
        f"masks that show no defect: {len(empty)} of {n_masks} ({counts}), such as "
        f"{_name(item, empty)}; their pixels count as normal; {remedies}",
    )


def _cause(sample: Sample, preprocessing: Preprocessing) -> str:
    """The reason why a mask is empty: check it without the crop, then at full size."""
    resize = preprocessing.resize
    if read_sample(sample, Preprocessing(resize, resize))[1].any():
        return OUTSIDE
    return LOST if _has_defect(sample) else BLACK


def _has_defect(sample: Sample) -> bool:
    assert sample.mask is not None
    if sample.mask_frame is not None:
        return bool(mask_of_frame(sample.mask, sample.mask_frame).any())
    return any(read_mask(path, sample.path).any() for path in (sample.mask, *sample.more_masks))


def _name(item: AnomalyClass, samples: Sequence[Sample]) -> str:
    mask = samples[0].mask
    assert mask is not None
    return item.file_name(mask)
