"""Judge new images with a fitted model: scores, decisions, anomaly maps, overlays and a page."""

import sys

from utils.cli import predict

if __name__ == "__main__":
    sys.exit(predict())
