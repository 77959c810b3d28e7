"""Run a model on batches, so that the score of an image does not depend on its neighbours.

Libraries choose an algorithm by the shape of their operands and by the number of threads, and each
algorithm rounds differently. So on a CPU every step has one batch size, and one thread per batch:
the network 1 or ``PAIR`` images, equation 2 ``gaussian.TILE`` images, other steps 1 image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from padim.anomaly_map import AnomalyMap
from padim.backbones import Backbone
from padim.embedding import PatchEmbedding
from padim.parallel import for_each_block

BATCH = 8  # images per batch; larger ones take more memory, and are not faster on a CPU
# Images per pass through a network on a CPU, if ``Backbone.is_place_free``. One image takes a sixth
# more time than each of a pair; four are not faster.
PAIR = 2
EMBEDDING_BYTES = 16 * 2**20  # larger buffers get new memory pages each time, which is slower
BYTES_PER_PIXEL = 80  # memory of the feature maps in a network, per pixel of an image

FeatureMaps = Sequence[torch.Tensor]


def even_batches(batches: Iterable[torch.Tensor], size: int = BATCH) -> Iterator[torch.Tensor]:
    """The same images (B, ...), ``size`` at a time; the last batch may be smaller."""
    rest: torch.Tensor | None = None
    for batch in batches:
        rest = batch if rest is None else torch.cat((rest, batch))
        end = len(rest) - len(rest) % size
        yield from rest[:end].split(size) if end else ()
        rest = rest[end:] if end < len(rest) else None
    if rest is not None:
        yield rest


def feature_maps_of(backbone: Backbone, crops: torch.Tensor) -> list[torch.Tensor]:
    """The feature maps of crops, uint8 (B, 3, crop, crop), on the device of the backbone."""
    if not len(crops):
        blank = crops.new_zeros(1, *crops.shape[1:])
        return [feature_map[:0] for feature_map in feature_maps_of(backbone, blank)]
    crops = crops.to(backbone.device, non_blocking=True)
    size = PAIR if backbone.is_place_free else 1
    parts: dict[int, list[torch.Tensor]] = {}

    def see(block: slice) -> None:
        images = crops[block]
        if crops.device.type == "cpu" and len(images) < size:
            images = images.expand(size, -1, -1, -1)
        feature_maps = backbone(backbone.normalise(images))
        parts[block.start] = [part[: block.stop - block.start] for part in feature_maps]

    bytes_each = BYTES_PER_PIXEL * crops[0, 0].numel()
    for_each_block(see, len(crops), bytes_each, crops.device, size)
    if len(parts) == 1:
        return parts[0]
    in_order = [parts[start] for start in sorted(parts)]
    return [torch.cat(feature_maps) for feature_maps in zip(*in_order, strict=True)]


def small_parts(feature_maps: FeatureMaps, dim: int) -> Iterator[list[torch.Tensor]]:
    """The feature maps of a batch in parts whose embeddings take at most ``EMBEDDING_BYTES``."""
    positions = max(feature_map.shape[-2:].numel() for feature_map in feature_maps)
    size = max(1, EMBEDDING_BYTES // (4 * positions * dim))
    split = (feature_map.split(size) for feature_map in feature_maps)
    return map(list, zip(*split, strict=True))


def embeddings_of(embedding: PatchEmbedding, feature_maps: FeatureMaps) -> torch.Tensor:
    """Patch embeddings (B, P, d) of a batch of feature maps."""

    def embed(block: slice) -> torch.Tensor:
        return embedding.patches([part[block] for part in feature_maps])

    positions = embedding.n_positions(feature_maps)
    shape = (len(feature_maps[0]), positions, embedding.dim)
    return _one_by_one(embed, feature_maps[0], shape, 12 * positions * embedding.dim)


def maps_of(anomaly_map: AnomalyMap, distances: torch.Tensor) -> torch.Tensor:
    """Anomaly maps (B, crop, crop) of distances (B, P)."""

    def draw(block: slice) -> torch.Tensor:
        return anomaly_map(distances[block])

    crop = anomaly_map.rows.shape[0]
    return _one_by_one(draw, distances, (len(distances), crop, crop), 12 * crop**2)


def _one_by_one(
    work: Callable[[slice], torch.Tensor], like: torch.Tensor, shape: Sequence[int], n_bytes: int
) -> torch.Tensor:
    """Collect the results of ``work`` for a batch; on a CPU, one image at a time."""
    results = like.new_empty(shape)

    def write(block: slice) -> None:
        results[block] = work(block)

    for_each_block(write, len(results), n_bytes, like.device, cpu_size=1)
    return results
