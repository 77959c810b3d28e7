"""Write a fitted model and its network as one ONNX graph, from image to map and score."""

from utils.cli.main import export, leave

if __name__ == "__main__":
    leave(export())
