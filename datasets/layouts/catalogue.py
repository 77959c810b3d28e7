"""The data sets that can be read, by the name of ``--dataset``. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RD_VERSIONS = 5  # random versions of Rd-MVTec AD, as many as the paper's means are over


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before it is read.

    Attributes:
        title: its name as the literature writes it.
        crop: the default of ``--crop``; None for none: the paper's crop only where the paper
            crops, elsewhere the whole image.
    """

    title: str
    crop: int | None = None


CATALOGUE: Mapping[str, Facts] = {
    "mvtec": Facts("MVTec AD", 224),
    "rd_mvtec": Facts("Rd-MVTec AD", 224),
    "shanghaitech": Facts("ShanghaiTech Campus"),
    "visa": Facts("VisA"),
    "btad": Facts("BTAD"),
    "mpdd": Facts("MPDD"),
}
