"""predict.py on 100 and on 1,000 images, 5 of them unreadable: what it judges, reports and takes.

python benchmarks/predict_memory.py --weights FILE

A model is fitted on the demo set's gear, and its images are written again in other sizes, formats
and modes until there are enough. Memory is that of the largest process, its peak.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
COUNTS = (100, 1000)
SUFFIXES = ("png", "jpg", "bmp", "tif")
SIDES = (256, 320, 500, 900)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--num_workers", default="2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit = ["main_resnet.py", "--classes", "gear", "--save_path", str(folder)]
        run([*fit, "--weights", args.weights, "--figures", "none"])
        model = next(folder.glob("*/models/gear.safetensors"))
        sources = sorted(folder.glob("demo_data/gear/*/*/*.png"))
        sources = [path for path in sources if "ground_truth" not in path.parts]
        print("images  judged  reported  exit status  peak memory  seconds")
        for count in COUNTS:
            draw_folder(folder / f"images{count}", sources, count)
            out = folder / f"out{count}"
            judge = ["predict.py", "--model", str(model), "--num_workers", args.num_workers]
            where = ["--input", str(folder / f"images{count}"), "--save_path", str(out)]
            status, kilobytes, seconds = run([*judge, *where])
            judged, failed = (n_rows(out / name) for name in ("scores.csv", "failed.csv"))
            memory = f"{kilobytes / 1024:.0f} MiB"
            print(f"{count:6}  {judged:6}  {failed:8}  {status:11}  {memory:>11}  {seconds:7.1f}")
        print("reported:")
        print((out / "failed.csv").read_text().replace(str(folder), ""), end="")


def run(argv: list[str]) -> tuple[int, int, float]:
    """Exit status, peak memory in kilobytes and seconds of a script."""
    start = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *argv], cwd=ROOT, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss, time.perf_counter() - start


def draw_folder(folder: Path, sources: list[Path], count: int) -> None:
    """So many images, the last 5 of them unreadable, in folders of 100."""
    for i in range(count - 5):
        image = Image.open(sources[i % len(sources)])
        side = SIDES[i % len(SIDES)]
        image = image.resize((side, side * 3 // 4 if i % 10 == 0 else side))
        if i % 50 == 1:
            image = image.convert("L")
        elif i % 100 == 3:
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif i % 50 == 4:
            image = image.convert("RGBA")
        path = folder / f"{i // 100}" / f"{i:04d}.{SUFFIXES[i % len(SUFFIXES)]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    whole = sources[0].read_bytes()
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    Image.fromarray(np.full((320, 320), 1e6, np.float32)).save(folder / "float.tif")


def n_rows(path: Path) -> int:
    with path.open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


if __name__ == "__main__":
    main()
