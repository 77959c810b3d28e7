"""Judge new images with a fitted model: scores, decisions, anomaly maps, overlays and a page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # with PYTHONSAFEPATH it is not there

from utils.cli.start import start

if __name__ == "__main__":
    start("predict")
