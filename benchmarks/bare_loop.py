"""The least that judging can take: decode, run the backbone, write the same files, and no more.

Of every image a 16-bit map, an overlay and the original as JPEG are written, of its size and by the
program's own functions. What is in them is no judgement: a feature map, and the image itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.system.process import exit_now, tune_process

BATCH = 8  # as predict.py's network takes them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, nargs="+", required=True)
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="random")
    args = parser.parse_args()
    with tune_process(is_memory_flat=True):
        import numpy as np
        import torch
        from PIL import Image
    from padim.backbones import Backbone
    from padim.model import PaDiM
    from padim.reading.image_file import read_image
    from utils.prediction.png import encode_png

    torch.set_grad_enabled(False)
    args.save_path.mkdir(parents=True, exist_ok=True)
    model = PaDiM(Backbone(args.backbone, args.weights))
    images = [path for folder in args.input for path in sorted(folder.rglob("*.png"))]
    for first in range(0, len(images), BATCH):
        batch = [read_image(path) for path in images[first : first + BATCH]]
        crops = torch.stack([model.preprocessing.crop_of(pixels) for pixels in batch])
        feature_maps = model.features(crops)[0][:, 0].numpy()
        for number, (pixels, found) in enumerate(zip(batch, feature_maps, strict=True), first):
            height, width = pixels.shape[:2]
            levels = Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR)
            scaled = np.asarray(levels) * (8000 / max(1e-6, float(found.max())))
            map_file = args.save_path / f"{number}_map.png"
            map_file.write_bytes(encode_png(scaled.clip(0, 65535).astype(np.uint16)))
            (args.save_path / f"{number}_overlay.png").write_bytes(encode_png(pixels))
            Image.fromarray(pixels).save(args.save_path / f"{number}.jpg", quality=90)
    exit_now(0)


if __name__ == "__main__":
    main()
