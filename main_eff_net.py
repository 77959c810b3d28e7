"""PaDiM-EfficientNet-B5 (arXiv 2011.08785): fit and evaluate on MVTec AD or data in its layout."""

from utils.cli.main import main
from utils.system.process import exit_now

if __name__ == "__main__":
    exit_now(main(backbone="efficientnet_b5"))
