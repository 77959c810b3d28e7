"""Judge new images with a fitted model: scores, decisions, anomaly maps, overlays and a page."""

from utils.cli.main import leave, predict

if __name__ == "__main__":
    leave(predict())
