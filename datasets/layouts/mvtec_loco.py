"""MVTec LOCO AD in its published layout, which is that of MVTec AD and more.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/validation/good/<name>.png                   not used
    <root>/<class>/test/good/<name>.png
    <root>/<class>/test/<kind>/<name>.png                       logical_ or structural_anomalies
    <root>/<class>/ground_truth/<kind>/<name>/000.png, 001.png  a file for each defect
    <root>/<class>/defects_config.json                          what the values in these files mean

The layout is what two public readers of it agree on: the evaluation code that MVTec publishes with
the data set, and anomalib (``data/datasets/image/mvtec_loco.py`` and ``metrics/spro.py``).
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets.layouts import mvtec
from datasets.layouts.files import VALIDATION
from datasets.types import AnomalyClass, DataError, Saturation
from padim.reading.folders import Skipped

CONFIG = "defects_config.json"
MAX_LABEL = 255

find_classes = mvtec.find_classes


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the files of one class.

    Raises:
        DataError: as of MVTec AD, or ``defects_config.json`` cannot be understood.
    """
    item = mvtec.read_class(root, name)
    path = root / name / CONFIG
    validation = root / name / "validation"
    skipped = tuple(
        Skipped(one.path, VALIDATION)
        if one.reason == mvtec.OUTSIDE and one.path.is_relative_to(validation)
        else one
        for one in item.skipped
    )
    if path.is_file():
        return replace(item, skipped=skipped, saturations=_saturations(path))
    missing = f"no {CONFIG}: no saturated per-region overlap (spro)"
    return replace(item, skipped=skipped, remarks=(*item.remarks, missing))


def _saturations(path: Path) -> tuple[Saturation, ...]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file ({error}); replace it") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} holds no list of defects; replace it")
    found = [_saturation(path, entry) for entry in entries]
    labels = [one.label for one in found]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise DataError(f"{path} has pixel_value {twice[0]} twice; each kind of defect has its own")
    return tuple(found)


def _saturation(path: Path, entry: Any) -> Saturation:
    match entry:
        case {
            "pixel_value": int(label),
            "saturation_threshold": int(threshold) | float(threshold),
            "relative_saturation": bool(is_relative),
        } if (
            bool not in (type(label), type(threshold))
            and 1 <= label <= MAX_LABEL
            and 0 < threshold <= (1 if is_relative else math.inf)
        ):
            return Saturation(label, threshold, is_relative)
    raise DataError(
        f"{path} has the entry {json.dumps(entry)}; expected pixel_value 1 to {MAX_LABEL}, "
        "relative_saturation true or false, and saturation_threshold above 0, at most 1 if relative"
    )
