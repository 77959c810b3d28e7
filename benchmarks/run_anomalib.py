"""anomalib's PaDiM on the class bottle: train and test, with both AUROCs and AUPRO."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args()

    from anomalib.data import MVTecAD
    from anomalib.engine import Engine
    from anomalib.metrics import AUPRO, AUROC, Evaluator
    from anomalib.models import Padim
    from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

    transform = Compose(
        [
            Resize((256, 256), antialias=True),
            CenterCrop(224),
            Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    pixels = {"fields": ["anomaly_map", "gt_mask"], "prefix": "pixel_"}
    evaluator = Evaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            AUROC(**pixels),
            AUPRO(**pixels),
        ]
    )
    model = Padim(
        backbone=args.backbone,
        pre_trained=False,  # the weights' values take no time, their download would
        pre_processor=Padim.configure_pre_processor(image_size=(256, 256)),
        evaluator=evaluator,
        visualizer=False,
    )
    model.pre_processor.transform = transform
    data = MVTecAD(
        root=args.data_path,
        category="bottle",
        num_workers=args.num_workers,
        train_batch_size=32,
        eval_batch_size=32,
    )
    engine = Engine(default_root_dir=args.save_path, accelerator="auto", devices=1, logger=False)
    engine.fit(model, datamodule=data)
    engine.test(model, datamodule=data)


if __name__ == "__main__":
    sys.exit(main())
