"""PaDiM-WR50-Rd550 (arXiv 2011.08785): fit and evaluate on MVTec AD or data in its layout."""

from utils.cli.main import leave, main

if __name__ == "__main__":
    leave(
        main(
            backbone="wide_resnet50_2",
            description="PaDiM with Wide ResNet-50-2 on MVTec AD or data in its layout",
            reduction="random",
            embedding_dim=550,
        )
    )
