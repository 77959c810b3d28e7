"""Write a fitted model and its network as one ONNX graph, from image to map and score."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # with PYTHONSAFEPATH it is not there

from utils.cli.start import start

if __name__ == "__main__":
    start("export")
