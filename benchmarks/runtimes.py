"""Time an image takes in PyTorch, ONNX Runtime and OpenVINO, and how far their results differ.

python benchmarks/runtimes.py --model .../bottle.safetensors --onnx bottle.onnx --input FOLDER

From pixels to map, score, p-value and decision; reading the file is left out. The rounds go through
the runtimes in turn, so that a change in the machine's mood meets all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, like the scripts

from benchmarks.common import machine, markdown
from datasets.loading.unlabelled import find_images
from padim import PaDiM
from padim.reading.image_file import read_image

BATCHES = (1, 16)
Scores = list[float]
Run = Callable[[np.ndarray], Scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--input", type=Path, nargs="+", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    paths = [image.path for image in find_images(args.input)]
    runs = open_runtimes(args.model, args.onnx, args.weights)
    scores = {name: np.concatenate([run(read_image(p)[None]) for p in paths]) for name, run in runs}
    rows = []
    images = np.stack([read_image(path) for path in paths[: max(BATCHES)]])
    times = {(name, size): [] for name, _ in runs for size in BATCHES}
    for _ in range(args.rounds):
        for size in BATCHES:
            for name, run in runs:
                times[name, size].append(measured(run, images[:size]))
    exact = scores["PyTorch"]
    for name, _ in runs:
        cells = []
        for size in BATCHES:
            for part in zip(*times[name, size], strict=True):
                cells.append(f"{1000 * statistics.median(part) / size:.0f}")
        rows.append((name, *cells, f"{np.max(np.abs(scores[name] / exact - 1)):.0e}"))
    header = [
        f"{kind}, batch of {size}" for size in BATCHES for kind in ("wall ms", "processor ms")
    ]
    print(f"{len(paths)} images, {images.shape[2]} x {images.shape[1]}; {machine()}\n")
    print(markdown(("an image", *header, "largest difference of a score"), rows))


def open_runtimes(model_file: Path, graph: Path, weights: str | None) -> list[tuple[str, Run]]:
    """Each runtime's name, and what gives it the scores of images (B, h, w, 3)."""
    import onnxruntime

    model = PaDiM.load(model_file, weights=weights)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    runs: list[tuple[str, Run]] = [
        ("PyTorch", lambda images: [one.score for one in model.predict(list(images))]),
        ("ONNX Runtime", lambda images: session.run(None, {"image": images})[1].tolist()),
    ]
    try:
        import openvino
    except ImportError:
        return runs
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runs.append(("OpenVINO", lambda images: compiled({"image": images})["image_score"].tolist()))
    return runs


def measured(run: Run, images: np.ndarray) -> tuple[float, float]:
    """Wall and processor seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    run(images)
    return time.perf_counter() - start, time.process_time() - cpu


if __name__ == "__main__":
    main()
