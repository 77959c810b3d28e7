"""What a reader of a class's numbers should know of its images, said before they are read."""

from __future__ import annotations

from datasets.masks import fitting_turns
from datasets.types import AnomalyClass, Sample
from padim.config import MIN_BITS
from padim.errors import ImageError
from padim.reading.image_file import decode, read_header

_LOOKED_AT = 8  # training images of a class, for the values of deep ones


def doubts_of(item: AnomalyClass, bits: int) -> list[str]:
    """One line for each kind of doubt about a class.

    Args:
        item: the class.
        bits: that are taken to hold the values of its 16-bit images.
    """
    doubts = []
    ambiguous = [sample for sample in item.test if _is_ambiguous(sample)]
    if ambiguous:
        doubts.append(
            f"class {item.name}: of {len(ambiguous)} images with an orientation tag, such as "
            f"{ambiguous[0].path}, the masks fit upright and as stored; they are taken as upright"
        )
    highest, most_bits = _highest_value(item, bits)
    needed = max(MIN_BITS, highest.bit_length())
    if highest and needed <= most_bits - 2:
        doubts.append(
            f"class {item.name}: the values of its 16-bit images end at {highest} of "
            f"{2**most_bits - 1}, so that they are nearly black; give --bits {needed}"
        )
    return doubts


def _is_ambiguous(sample: Sample) -> bool:
    if sample.mask is None or sample.mask_frame is not None:
        return False
    return len(fitting_turns(read_header(sample.mask), read_header(sample.path))) > 1


def _highest_value(item: AnomalyClass, bits: int) -> tuple[int, int]:
    """Of some deep training images, and the bits taken to hold it; 0 if there is no such image."""
    highest, most_bits = 0, bits
    files = [sample.path for sample in item.train if sample.frame is None]
    for path in files[:: max(1, len(files) // _LOOKED_AT)]:
        try:
            header = read_header(path)
            if header.bits > MIN_BITS:
                values, _ = decode(path, lambda levels, _: levels)
                highest = max(highest, int(values.max()))
                most_bits = min(bits, header.bits)
        except (ImageError, ValueError, OverflowError):  # whoever reads the image says it
            continue
    return highest, most_bits
