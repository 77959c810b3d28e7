"""Ground truth: mask files to binary masks, turned as their images are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from padim.errors import ImageError
from padim.reading.image_file import Convert, decode, read_header
from padim.reading.image_metadata import INVERSE, UPRIGHT, Header, turned, turned_size

MIDDLE = 127  # of grey: what is brighter in a lossy mask is defective
_NOISE = 16  # a lossy mask that is black may be so bright


def read_mask(path: Path, image: Path | None = None) -> np.ndarray:
    """A mask file as bool (height, width), upright: true wherever it is not black.

    Labels 1, 2, ... are all defects. A lossy file has noise around its edges: there it is true
    above the middle grey. Where colours show no shape, the alpha channel does.

    Args:
        path: the mask file.
        image: the file of its image, which may have to be turned; None if it need not.

    Raises:
        ImageError: the file cannot be read, or its levels cannot be understood.
    """
    planes, header = decode(path, _not_black(path), has_alpha=True)
    mask = planes if planes.ndim == 2 else _shape(planes[:, :, 0], planes[:, :, 1])
    if image is None or not (turns := fitting_turns(header, read_header(image))):
        return mask
    own = header.orientation
    if turns[0] == own:
        return mask
    return turned(turned(mask, INVERSE.get(own, own)), turns[0])


def fitting_turns(mask: Header, image: Header) -> list[int]:
    """The orientations in which a mask as stored has the size of its image upright.

    The mask's own tag decides if it has one that fits. Without one the mask may be upright, or lie
    as its image is stored; where both fit, the first is taken.

    Returns:
        None, one or two of them, the likeliest first.
    """
    fitting = [
        turn
        for turn in dict.fromkeys((mask.orientation, UPRIGHT, image.orientation))
        if turned_size(mask.size, turn) == image.upright_size
    ]
    is_tagged = mask.orientation != UPRIGHT and mask.orientation in fitting
    return fitting[:1] if is_tagged else fitting


def _not_black(path: Path) -> Convert:
    """From levels to bool (rows, width), or (rows, width, 2) with what is not transparent."""

    def convert(levels: np.ndarray, header: Header) -> np.ndarray:
        if levels.dtype.kind == "f" and not np.isfinite(levels).all():
            raise ImageError(f"mask {path} holds values that are no numbers; expected 0 and 255")
        if levels.min() < 0:
            raise ImageError(f"mask {path} holds the value {levels.min()}; expected 0 and 255")
        level = MIDDLE if header.is_lossy else 0
        if levels.ndim == 2:
            colours, alpha = levels, None
        else:
            has_alpha = levels.shape[2] in (2, 4)
            colours = levels[:, :, : levels.shape[2] - has_alpha].max(axis=2)
            alpha = levels[:, :, -1] if has_alpha else None
        if header.is_lossy and _NOISE < colours.max() <= MIDDLE:
            raise ImageError(
                f"mask {path} is stored with losses and is {colours.max()} at its brightest, but "
                f"defects are above {MIDDLE} there; save it as PNG with 0 and 255"
            )
        return colours > level if alpha is None else np.dstack([colours > level, alpha > level])

    return convert


def _shape(is_coloured: np.ndarray, is_opaque: np.ndarray) -> np.ndarray:
    """What a mask with an alpha channel shows."""
    is_visible = is_coloured & is_opaque
    if is_visible.any():
        return is_visible
    has_shape = is_coloured.any() and not is_coloured.all()
    return is_coloured if has_shape or is_opaque.all() else is_opaque
