"""main_resnet.py that waits three seconds for the other processes: test_processes.py runs it."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from padim.parallel import process_group
from utils.cli import main as cli

if __name__ == "__main__":
    process_group.START_TIMEOUT = timedelta(seconds=3)
    sys.exit(cli.main("resnet18"))
