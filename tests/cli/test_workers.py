"""What a decoding process does with memory, and says when stopped while it hands a tensor over."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BROKEN_CONNECTION = """
import os, socket, sys, time
from multiprocessing import resource_sharer
from datasets.loading import workers

if sys.argv[1] == "as a worker":
    workers.initialiser(None)(0)
address, _key = resource_sharer.DupFd(0)._id  # what a tensor is handed over through
with socket.socket(socket.AF_UNIX) as client:
    client.connect(address)
    time.sleep(0.3)  # its challenge has come, and goes unread
time.sleep(0.3)
sys.excepthook(ValueError, ValueError("an error of its own"), None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how tensors are shared on Linux")
@pytest.mark.parametrize(("how", "tracebacks"), [("as a worker", 0), ("plainly", 1)])
def test_a_broken_handover_is_no_error_of_the_worker(how: str, tracebacks: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_CONNECTION, how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.count("Traceback") == tracebacks, done.stderr
    assert "an error of its own" in done.stderr


DECODE_REPEATEDLY = """
import resource, sys
from pathlib import Path
from datasets.loading import workers
from padim.preprocessing import Preprocessing
from utils.system.process import tune_worker

if sys.argv[1] == "as a worker":
    workers.initialiser(tune_worker)(0)
for _ in range(10):  # what is counted is the last time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    Preprocessing().image(Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc's memory is managed")
def test_a_worker_is_not_given_the_same_memory_again_for_every_image(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.linear_gradient("L").resize((900, 900)).convert("RGB").save(file)
    pages = 900 * 900 * 3 // 4096

    def fresh_pages(how: str) -> int:
        command = [sys.executable, "-c", DECODE_REPEATEDLY, how, str(file)]
        return int(subprocess.check_output(command, cwd=ROOT, text=True, timeout=60))

    assert fresh_pages("plainly") > pages > 10 * fresh_pages("as a worker")
