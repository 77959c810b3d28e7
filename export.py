"""Write a fitted model and its network as one ONNX graph, from image to map and score."""

from utils.cli.main import export
from utils.system.process import exit_now

if __name__ == "__main__":
    exit_now(export())
