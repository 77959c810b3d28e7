"""How long after its arrival an image is judged by predict.py --watch.

python benchmarks/watch.py --model .../bottle.safetensors --input .../MVTec/bottle/test

Images appear one after the other in a watched folder, renamed into place. An image counts as judged
when its line is printed: its map, its overlay and its rows in the tables are on the disk then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, like the scripts

from benchmarks.common import ROOT, machine
from datasets.loading.unlabelled import find_images

PAUSE = 0.5  # seconds between a judgement and the next arrival, and a part of a poll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("others", nargs="*", help="options of predict.py, behind --")
    args = parser.parse_args()
    paths = [image.path for image in find_images([args.input])][: args.count]
    with tempfile.TemporaryDirectory() as folder:
        seconds, cpu = measure(paths, Path(folder), args.model, args.others)
    low, middle, high = np.quantile(seconds, (0, 0.5, 0.95))
    print(f"{len(seconds)} images; {machine()}; load {os.getloadavg()[0]:.1f}")
    print(f"judged after {middle:.2f} s (fastest {low:.2f}, 95 % within {high:.2f})")
    print(f"processor time {1000 * cpu:.0f} ms an image")


def measure(
    paths: list[Path], folder: Path, model: Path, others: list[str]
) -> tuple[list[float], float]:
    """The seconds to each judgement, and the processor time of one."""
    (folder / "in").mkdir()
    command = [sys.executable, str(ROOT / "predict.py"), "--model", str(model), "--watch"]
    command += ["--input", str(folder / "in"), "--save_path", str(folder / "out"), *others]
    seconds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # that it watches
        time.sleep(1)
        before = processor_seconds(process.pid)
        for number, path in enumerate(paths):
            shutil.copy(path, folder / "arriving")
            start = time.perf_counter()
            (folder / "arriving").rename(folder / "in" / f"{number}{path.suffix}")
            process.stdout.readline()
            seconds.append(time.perf_counter() - start)
            time.sleep(PAUSE + number / 1000)
        used = processor_seconds(process.pid) - before
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    return seconds, used / len(paths)


def processor_seconds(pid: int) -> float:
    """Of a process so far, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
