"""PaDiM-R18-Rd100 (arXiv 2011.08785): fit and evaluate on MVTec AD or data in its layout."""

from utils.cli.main import leave, main

if __name__ == "__main__":
    leave(
        main(
            backbone="resnet18",
            description="PaDiM with ResNet-18 on MVTec AD or data in its layout",
            reduction="random",
            embedding_dim=100,
        )
    )
