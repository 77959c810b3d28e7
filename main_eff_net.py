"""PaDiM-EfficientNet-B5 (arXiv 2011.08785): fit and evaluate on MVTec AD or data in its layout."""

from utils.cli.main import leave, main

if __name__ == "__main__":
    leave(
        main(
            backbone="efficientnet_b5",
            description="PaDiM with EfficientNet-B5 on MVTec AD or data in its layout",
            reduction="none",
            embedding_dim=100,
        )
    )
