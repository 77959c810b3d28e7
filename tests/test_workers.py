"""What a decoding process says when the run is stopped while it hands a tensor over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BROKEN_CONNECTION = """
import os, socket, sys, time
from multiprocessing import resource_sharer
from datasets import workers

if sys.argv[1] == "as a worker":
    workers.begin(0)
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
