"""What a decoding process does with memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

DECODE_REPEATEDLY = """
import resource, sys
from pathlib import Path
from padim.preprocessing import Preprocessing
from utils.system.process import tune_worker

if sys.argv[1] == "as a worker":
    tune_worker()
for _ in range(10):  # what is counted is the last time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    Preprocessing().image(Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc's memory is managed")
def test_a_worker_is_not_given_the_same_memory_again_for_every_image(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"  # which Pillow decodes
    Image.linear_gradient("L").resize((900, 900)).convert("RGB").save(file)
    pages = 900 * 900 * 3 // 4096

    def fresh_pages(how: str) -> int:
        command = [sys.executable, "-c", DECODE_REPEATEDLY, how, str(file)]
        return int(subprocess.check_output(command, cwd=ROOT, text=True, timeout=60))

    assert fresh_pages("plainly") > pages > 10 * fresh_pages("as a worker")
