"""PaDiM (arXiv 2011.08785) with any network of timm: fit and evaluate on MVTec AD or alike."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # with PYTHONSAFEPATH it is not there

from utils.cli.start import start

if __name__ == "__main__":
    start("main_timm")
