"""Which mask belongs to which image, and which files of the ground truth belong to none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from datasets.layouts.files import check_mask_size, list_images
from datasets.types import GOOD, DataError, Sample
from padim.reading.folders import HIDDEN, Skipped

EXPECTED = "<kind>/<image>_mask.png, <kind>/<image>.png or <kind>/<image>/*.png"


@dataclass(frozen=True)
class MaskedSamples:
    """Test images with their masks.

    Attributes:
        samples: all test images; the defective ones have masks, if any mask is used.
        skipped: the files of the ground truth that are not used.
        remarks: a sentence if there are such files.
    """

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()


def find_masks(
    folder: Path,
    samples: Sequence[Sample],
    is_required: bool = False,
    test: str = "test",
    truth: str = "ground_truth",
) -> MaskedSamples:
    """Find the masks of the defective images of a class.

    The mask of ``test/<kind>/<image>.png`` is ``ground_truth/<kind>/<image>_mask.png``, or a file
    or a folder of files called like the image (BTAD, VisA as its own script prepares it, MVTec
    LOCO), with any image ending. What one file of a folder shows is defective.

    Args:
        folder: of the class.
        samples: the test images, below ``folder / test``.
        is_required: whether each defective image must have a mask. If not, they may all be without.
        test, truth: the folders of the test images and of the masks.

    Raises:
        DataError: some images have masks and one has none, or a mask is of another size.
    """
    masks, images = folder / truth, folder / test
    found = list_images(masks)
    files = {_key(path, masks): path for path in found.images}
    folders: dict[str, list[Path]] = {}
    for path in found.images:
        folders.setdefault(path.parent.relative_to(masks).as_posix(), []).append(path)

    def masks_of(sample: Sample) -> list[Path]:
        key = _key(sample.path, images)
        one = files.get(f"{key}_mask") or files.get(key)
        return [one] if one else folders.get(key, [])

    chosen = {sample: masks_of(sample) for sample in samples if sample.is_defective}
    used = {path for paths in chosen.values() for path in paths}
    if used or is_required:
        _check(chosen, images, masks)
    masked = [_with(sample, chosen.get(sample, [])) for sample in samples]
    skipped = [*(_orphan(path, masks) for path in found.images if path not in used), *found.skipped]
    return MaskedSamples(tuple(masked), tuple(skipped), _remarks(masks, skipped, len(used)))


def _key(path: Path, folder: Path) -> str:
    """The path of a file in a folder, without its ending."""
    return path.relative_to(folder).with_suffix("").as_posix()


def _with(sample: Sample, masks: Sequence[Path]) -> Sample:
    return replace(sample, mask=masks[0], more_masks=tuple(masks[1:])) if masks else sample


def _check(chosen: dict[Sample, list[Path]], images: Path, truth: Path) -> None:
    for sample, masks in chosen.items():
        if not masks:
            key = _key(sample.path, images)
            raise DataError(
                f"no mask for {sample.path}: expected {truth / key}_mask.png "
                "(to run without masks, take the whole ground_truth folder away)"
            )
        for mask in masks:
            check_mask_size(sample.path, mask)


def _orphan(path: Path, truth: Path) -> Skipped:
    kind = path.relative_to(truth).parts[0]
    return Skipped(path, "mask of a good image" if kind == GOOD else "mask without an image")


def _remarks(truth: Path, skipped: Sequence[Skipped], n_used: int) -> tuple[str, ...]:
    """What is said of files that look like masks and are not used."""
    reasons = ("mask of a good image", *HIDDEN)
    unused = [one for one in skipped if one.reason not in reasons]
    if not unused:
        return ()
    example = PurePosixPath("ground_truth", unused[0].path.relative_to(truth).as_posix())
    n_files = len(unused) + n_used
    count = f"{len(unused)} of them not used" if n_used else "none is used"
    return (
        f"ground_truth holds {n_files} file{'s' * (n_files != 1)}, {count}, such as {example} "
        f"({unused[0].reason}); expected {EXPECTED}",
    )
