"""The least a run can take: import, decode and run the backbone as the program does, then stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.system.process import exit_now, tune_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args()
    with tune_process():
        import torch

        import utils.experiment.run  # noqa: F401  all that the program imports
    from datasets.layouts.mvtec import read_class
    from datasets.loading.labelled import ImageStream
    from padim.backbones import Backbone
    from padim.config import PaDiMConfig
    from padim.model import PaDiM
    from padim.preprocessing import Preprocessing

    torch.set_grad_enabled(False)
    item = read_class(args.data_path, "bottle")
    stream = ImageStream([item], Preprocessing(), num_workers=args.num_workers).start()
    model = PaDiM(Backbone(args.backbone, args.weights), PaDiMConfig())
    for split in (item.train, item.test):
        for batch in stream.take(len(split)):
            model.taps(batch.images)
    stream.close()
    exit_now(0)


if __name__ == "__main__":
    main()
