"""Compare an exported graph with its model on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.loading.unlabelled import FoundImage, find_images
from padim.errors import ModelError
from padim.model import PaDiM
from padim.onnx_graph import GraphOptions
from padim.reading.image_file import read_image

MAX_SCORE_DIFFERENCE = 1e-3  # relative; larger ones are not due to rounding
MAX_MAP_DIFFERENCE = 1e-2  # of the highest value of the map; a pixel may lie at a steep place


def find_verified(given: Sequence[Path]) -> list[FoundImage]:
    """The images that ``--verify`` gives."""
    return find_images(given, option="--verify") if given else []


def verify(model: PaDiM, graph: Path, form: GraphOptions, images: Sequence[FoundImage]) -> str:
    """Run the graph and the model on images; the graph on one image at a time.

    Returns:
        A line about the largest differences; nothing without images.

    Raises:
        ModelError: they are too large.
        ImageError: an image cannot be read.
    """
    if not images:
        return ""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    rows = []
    paths = [image.path for image in images]
    for path, expected in zip(paths, model.predict(paths, form.false_positive_rate), strict=True):
        pixels = read_image(path, model.config.bits)
        maps, scores, *decided = session.run(None, {"image": _input(model, pixels, form)})
        p_value, is_defective = [float(one[0]) for one in decided] or (None, None)
        values = expected.anomaly_map.cpu().numpy()
        rows.append(
            (
                abs(maps[0] - values).max() / values.max(),
                abs(float(scores[0]) - expected.score) / expected.score,
                0.0 if p_value is None else abs(p_value - (expected.p_value or 0.0)),
                is_defective != expected.is_defective,
            )
        )
    of_map, of_score, of_p_value = np.max([row[:3] for row in rows], axis=0)
    line = (
        f"largest differences from the model on {len(images)} images: score {of_score:.1e} of it, "
        f"map {of_map:.1e} of its highest value, p-value {of_p_value:.1e}; "
        f"{sum(row[3] for row in rows)} decisions differ"
    )
    if not (of_score <= MAX_SCORE_DIFFERENCE and of_map <= MAX_MAP_DIFFERENCE):
        raise ModelError(f"the graph is not written, for it is unlike the model: {line}")
    return f"{line}\n"


def _input(model: PaDiM, pixels: np.ndarray, form: GraphOptions) -> np.ndarray:
    """A batch of one image, as the graph takes it."""
    if form.input_type == "image":
        return pixels[None]
    crops = model.preprocessing.crop_of(pixels)[None]
    if form.input_type == "normalised":
        crops = model.backbone.normalise(crops)
    return crops.numpy()
