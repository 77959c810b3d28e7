"""Where the time of a class goes: each phase alone, in one process, after its imports.

python benchmarks/phases.py [--data_path .../MVTec --weights FILE] [--backbone wide_resnet50_2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.system.process import tune_process

with tune_process():
    import torch
from common import draw_class, machine, markdown
from torch.utils.flop_counter import FlopCounterMode

from datasets.layouts.mvtec import read_class
from datasets.loading.labelled import Batch, ImageStream
from padim.anomaly_map import image_scores
from padim.backbones import Backbone
from padim.config import PaDiMConfig
from padim.fitting import GaussianLearner
from padim.model import PaDiM
from padim.paper_backbones import BACKBONES
from padim.preprocessing import Preprocessing
from utils.evaluation.bootstrap import ScoredSet
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.decisions import PixelCounts
from utils.evaluation.measure import measure_class
from utils.evaluation.pixel_table import PixelTables
from utils.report.class_figures import draw_class_figures
from utils.system.device import choose_device

SQUARE = 2048  # rows and columns of the matrices multiplied
DIMS = {"resnet18": 100, "wide_resnet50_2": 550, "efficientnet_b5": 344}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, help="left out: images are drawn")
    parser.add_argument("--save_path", type=Path, default=Path("benchmark_result"))
    parser.add_argument("--weights", default="random")
    parser.add_argument("--backbone", choices=BACKBONES, default="resnet18")
    parser.add_argument("--reduction", default="random")
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    data = args.data_path or draw_class(args.save_path / "drawn_images")
    rows = [
        (name, f"{n}", f"{seconds:.2f}", f"{1000 * seconds / n:.1f}", f"{cpu_seconds:.2f}")
        for name, n, seconds, cpu_seconds in phases(args, data, device)
    ]
    print(f"{args.backbone}, {args.reduction}, {device}, {args.threads} threads; {machine()}\n")
    print(markdown(("phase", "images", "seconds", "ms an image", "processor s"), rows))
    network, product = rates(args.backbone, args.crop)
    print(
        f"\nA core: {args.backbone} {network:.0f} GFLOP/s, a matrix product {product:.0f} GFLOP/s"
    )


@torch.inference_mode()
def phases(args: argparse.Namespace, data: Path, device: torch.device) -> list[tuple]:
    """(phase, images, seconds, processor seconds of this process) of each."""
    item = read_class(data, "bottle")
    preprocessing = Preprocessing(args.resize, args.crop)
    n_train, n_test = len(item.train), len(item.test)
    found = []

    def timed(name: str, n: int, work: Callable, repeats: int = args.repeats) -> object:
        seconds, cpu_seconds = [], []
        for _ in range(repeats):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        found.append((name, n, statistics.median(seconds), statistics.median(cpu_seconds)))
        return result

    def decode() -> list[Batch]:
        stream = ImageStream([item], preprocessing, args.batch_size, num_workers=1)
        return [batch for n in (n_train, n_test) for batch in stream.take(n)]

    batches = timed("decode, one worker", n_train + n_test, decode, 1)
    images = torch.cat([batch.images for batch in batches])
    masks = torch.cat([batch.masks for batch in batches])[n_train:]
    backbone = Backbone(args.backbone, args.weights).to(device)
    config = PaDiMConfig(args.reduction, DIMS[args.backbone], resize=args.resize, crop=args.crop)
    model = PaDiM(backbone, config)
    train, test = images[:n_train].split(args.batch_size), images[n_train:].split(args.batch_size)
    model.features(train[0])  # the first call sets a device up
    timed("backbone", n_train, lambda: [model.features(batch) and None for batch in train])
    timed(
        "fit, backbone and leaving one out included",
        n_train,
        lambda: model.fit_crops(train, n_train),
    )
    embeddings = [model.embedding(model.features(batch)).flatten(1, 2) for batch in train]
    learner = timed("fit: embeddings gathered", n_train, lambda: learn(embeddings, n_train))
    timed("fit: factors, and leaving one out", n_train, learner.finish, 1)
    learner = embeddings = None
    for size in (1, 32):
        batches = images[n_train:].split(size)
        timed(
            f"score, backbone included, batch {size}",
            n_test,
            lambda batches=batches: [model(batch) for batch in batches],
        )
    ready = [model.embedding(model.features(batch)).flatten(1, 2) for batch in test]
    timed("score: distances", n_test, lambda: [model.gaussian(batch) for batch in ready])
    distances = [model.gaussian(batch) for batch in ready]
    maps = torch.cat(
        timed("score: maps", n_test, lambda: [model.anomaly_map(d) for d in distances])
    )
    shown = images[n_train:].permute(0, 2, 3, 1).contiguous().numpy()
    scored = ClassScores(shown, masks.numpy(), maps, image_scores(maps).cpu().numpy())
    is_good, threshold = ~masks.flatten(1).any(dim=1), float(maps.quantile(0.99))

    def resample() -> None:
        tables = PixelTables.of_maps(maps.cpu(), masks, is_good)
        counts = PixelCounts.at(threshold, maps, masks.numpy())
        flags = scored.scores > threshold
        ScoredSet("bottle", ~is_good.numpy(), scored.scores, flags, tables, counts).drawn()

    timed("bootstrap of all metrics, 2,000 draws", n_test, resample)
    record = timed(
        "metrics, intervals and curves",
        n_test,
        lambda: measure_class(item, scored, model.calibration, 0.01),
    )

    def draw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "figures").mkdir()
            draw_class_figures(record, item, scored, None, Path(folder))

    timed("figures", n_test, draw)
    return found


@torch.inference_mode()
def rates(name: str, crop: int) -> tuple[float, float]:
    """GFLOP/s of a core: of the network, and of a matrix product, which is near what there is."""
    torch.set_num_threads(1)
    backbone = Backbone(name, "random").to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, crop, crop).contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        backbone(images)
    square = torch.randn(SQUARE, SQUARE)
    return (
        counter.get_total_flops() / shortest(lambda: backbone(images)) / 1e9,
        2 * SQUARE**3 / shortest(lambda: square @ square) / 1e9,
    )


def shortest(work: Callable[[], object], repeats: int = 10) -> float:
    """Seconds of the quickest of some calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def learn(embeddings: list[torch.Tensor], n_images: int) -> GaussianLearner:
    learner = GaussianLearner(n_images)
    for batch in embeddings:
        learner.update(batch)
    return learner


if __name__ == "__main__":
    main()
