"""PaDiM-EfficientNet-B5 (arXiv 2011.08785): fit and evaluate on MVTec AD or data in its layout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # with PYTHONSAFEPATH it is not there

from utils.cli.start import start

if __name__ == "__main__":
    start("main", backbone="efficientnet_b5")
