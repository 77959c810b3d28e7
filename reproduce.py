"""The tables of the paper, ours beside theirs: all configurations from one pass over the images."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # with PYTHONSAFEPATH it is not there

from utils.cli.start import start

if __name__ == "__main__":
    start("reproduce")
