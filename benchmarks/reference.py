"""The algorithm as the widespread scripts have it, to measure against: loops, and copies of all.

Written here from its description: images in one thread; hooks whose outputs are gathered; all
embeddings at once, put together by unfolding; means and covariances pickled; a covariance, an
inverse and a distance a position in loops; scikit-learn's curves; a matplotlib figure an image. It
is a yardstick for time and memory, not for accuracy.
"""

from __future__ import annotations

import argparse
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from skimage import morphology
from skimage.segmentation import mark_boundaries
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve
from torch.nn.functional import fold, interpolate, unfold
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

plt.switch_backend("Agg")
DIMS = {"resnet18": (448, 100), "wide_resnet50_2": (1792, 550)}
CROP = 224


class Images(Dataset):
    """Image, label and mask of a split of the class bottle."""

    def __init__(self, root: Path, split: str) -> None:
        folder = root / "bottle"
        self.items = []
        for path in sorted((folder / split).glob("*/*.png")):
            defect = path.parent.name
            mask = folder / "ground_truth" / defect / f"{path.stem}_mask.png"
            self.items.append((path, None if defect == "good" else mask))
        self.image = transforms.Compose(
            [
                transforms.Resize((256, 256), transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(CROP),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
        self.mask = transforms.Compose(
            [
                transforms.Resize((256, 256), transforms.InterpolationMode.NEAREST),
                transforms.CenterCrop(CROP),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, torch.Tensor]:
        path, mask = self.items[index]
        image = self.image(Image.open(path).convert("RGB"))
        if mask is None:
            return image, 0, torch.zeros(1, CROP, CROP)
        return image, 1, self.mask(Image.open(mask))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--backbone", choices=DIMS, default="resnet18")
    parser.add_argument("--weights", default="random")
    args = parser.parse_args()
    model = getattr(models, args.backbone)(weights=None)
    if args.weights != "random":
        model.load_state_dict(torch.load(args.weights, weights_only=True), strict=False)
    model.eval()
    gathered: list[torch.Tensor] = []
    for layer in (model.layer1, model.layer2, model.layer3):
        layer[-1].register_forward_hook(lambda _m, _i, output: gathered.append(output))
    total, dim = DIMS[args.backbone]
    random.seed(1024)
    ids = torch.tensor(random.sample(range(total), dim))

    train = embed(model, gathered, Images(args.data_path, "train"))[0]
    vectors = train.index_select(1, ids)
    count, dim, height, width = vectors.shape
    vectors = vectors.view(count, dim, height * width)
    mean = vectors.mean(dim=0).numpy()
    covariance = np.zeros((dim, dim, height * width), np.float32)
    for i in range(height * width):
        position = vectors[:, :, i].numpy()
        covariance[:, :, i] = np.cov(position, rowvar=False) + 0.01 * np.identity(dim)

    args.save_path.mkdir(parents=True, exist_ok=True)
    with (args.save_path / "train.pkl").open("wb") as file:
        pickle.dump([mean, covariance], file)

    test, images, labels, masks = embed(model, gathered, Images(args.data_path, "test"))
    vectors = test.index_select(1, ids)
    vectors = vectors.view(len(vectors), dim, height * width).numpy()
    distances = []
    for i in range(height * width):
        inverse = np.linalg.inv(covariance[:, :, i])
        distances.append([mahalanobis(one[:, i], mean[:, i], inverse) for one in vectors])
    grid = torch.tensor(np.array(distances).T.reshape(len(vectors), 1, height, width))
    maps = interpolate(grid, size=CROP, mode="bilinear", align_corners=False).squeeze(1).numpy()
    maps = np.stack([gaussian_filter(one, sigma=4) for one in maps])
    scores = (maps - maps.min()) / (maps.max() - maps.min())
    report(scores, labels, masks, images, args.save_path)


@torch.no_grad()
def embed(model: torch.nn.Module, gathered: list, dataset: Images) -> tuple:
    layers: list[list[torch.Tensor]] = [[], [], []]
    images, labels, masks = [], [], []
    for image, label, mask in DataLoader(dataset, batch_size=32):
        model(image)
        for layer, output in zip(layers, gathered, strict=True):
            layer.append(output)
        gathered.clear()
        images.append(image.numpy())
        labels.extend(label.tolist())
        masks.append(mask.numpy())
    whole = [torch.cat(layer) for layer in layers]
    embedding = whole[0]
    for deeper in whole[1:]:
        embedding = concatenate(embedding, deeper)
    return embedding, np.concatenate(images), np.array(labels), np.concatenate(masks)[:, 0] > 0.5


def concatenate(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Channels of both, the coarse ones repeated, by way of unfolded patches."""
    count, channels, height, width = fine.shape
    scale = height // coarse.shape[2]
    patches = unfold(fine, kernel_size=scale, stride=scale)
    patches = patches.view(count, channels, -1, coarse.shape[2], coarse.shape[3])
    joined = torch.zeros(count, channels + coarse.shape[1], *patches.shape[2:])
    for i in range(patches.shape[2]):
        joined[:, :, i] = torch.cat((patches[:, :, i], coarse), dim=1)
    joined = joined.view(count, -1, coarse.shape[2] * coarse.shape[3])
    return fold(joined, (height, width), kernel_size=scale, stride=scale)


def report(
    scores: np.ndarray, labels: np.ndarray, masks: np.ndarray, images: np.ndarray, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image_scores = scores.reshape(len(scores), -1).max(axis=1)
    roc_curve(labels, image_scores)
    precision, recall, thresholds = precision_recall_curve(masks.ravel(), scores.ravel())
    f1 = np.divide(
        2 * precision * recall,
        precision + recall,
        out=np.zeros_like(precision),
        where=precision + recall > 0,
    )
    threshold = thresholds[np.argmax(f1[:-1])]
    rates, hits, _ = roc_curve(masks.ravel(), scores.ravel())
    pixel_auroc = roc_auc_score(masks.ravel(), scores.ravel())
    print(f"image AUROC {roc_auc_score(labels, image_scores):.3f}, pixel {pixel_auroc:.3f}")
    plt.plot(rates, hits)
    plt.savefig(folder / "roc_curve.png", dpi=100)
    plt.close()
    for i, (image, score, truth) in enumerate(zip(images, scores, masks, strict=True)):
        draw(folder / f"{i}.png", image, score, truth, threshold, scores.max() * 255)


def draw(
    path: Path,
    image: np.ndarray,
    score: np.ndarray,
    truth: np.ndarray,
    threshold: float,
    top: float,
) -> None:
    image = image.transpose(1, 2, 0) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)
    image = (image * 255).clip(0, 255).astype(np.uint8)
    called = morphology.opening(score > threshold, morphology.disk(4))
    figure, axes = plt.subplots(1, 5, figsize=(12, 3))
    for axis in axes:
        axis.axis("off")
    axes[0].imshow(image)
    axes[1].imshow(truth, cmap="gray")
    heat = axes[2].imshow(score * 255, cmap="jet", vmin=0, vmax=top)
    axes[2].imshow(image, cmap="gray", alpha=0.5, interpolation="none")
    axes[3].imshow(called, cmap="gray")
    axes[4].imshow(mark_boundaries(image, called, color=(1, 0, 0), mode="thick"))
    figure.colorbar(heat, cax=figure.add_axes((0.92, 0.15, 0.015, 0.7)))
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
