"""Write a fitted model and its network as one ONNX graph, from image to map and score."""

import sys

from utils.cli import export

if __name__ == "__main__":
    sys.exit(export())
