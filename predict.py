"""Judge new images with a fitted model: scores, decisions, anomaly maps, overlays and a page."""

from utils.cli.main import predict
from utils.system.process import exit_now

if __name__ == "__main__":
    exit_now(predict())
