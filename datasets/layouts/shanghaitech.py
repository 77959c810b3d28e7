"""ShanghaiTech Campus in its published layout; a scene is a class.

    <root>/training/videos/<scene>_<number>.avi            or extracted frames:
    <root>/training/frames/<scene>_<number>/<frame>.jpg
    <root>/testing/frames/<scene>_<number>/<frame>.jpg
    <root>/testing/test_pixel_mask/<scene>_<number>.npy    (frames, height, width), not 0: abnormal
    <root>/testing/test_frame_mask/<scene>_<number>.npy    (frames,), may be missing

A scene has tens of thousands of frames, so nothing is decoded here and masks stay on the disk. A
scene without test videos, such as the thirteenth, is no class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.layouts.files import check_root, folders_in, list_images, some_of
from datasets.loading.video import count_frames, mask_stack
from datasets.types import GOOD, AnomalyClass, DataError, Sample, checked_class
from padim.reading.folders import Skipped
from padim.reading.image_file import image_size

ABNORMAL = "abnormal"
VIDEO_SUFFIX = ".avi"


def find_classes(root: Path) -> list[str]:
    """The scenes that have both training and test videos.

    Raises:
        DataError: ``root`` does not exist, or holds no such scene.
    """
    check_root(root)
    train = {_scene(path.name) for path in _training_videos(root)}
    test = {_scene(name) for name in folders_in(root / "testing" / "frames")}
    if not train & test:
        raise DataError(
            f"{root} is not in the layout of ShanghaiTech Campus: expected training/videos/*.avi "
            f"(or training/frames/) and testing/frames/<scene>_<number>/, found {some_of(root)}"
        )
    return sorted(train & test)


def read_class(root: Path, name: str) -> AnomalyClass:
    """List the frames of one scene.

    Raises:
        DataError: too few frames, a video that cannot be read, or masks that are missing or do not
            fit the frames.
    """
    skipped: list[Skipped] = []
    train = [
        sample
        for video in _training_videos(root)
        if _scene(video.name) == name
        for sample in _frames_of(video, skipped)
    ]
    folder = root / "testing" / "frames"
    videos = sorted(video for video in folders_in(folder) if _scene(video) == name)
    test = [sample for video in videos for sample in _test_frames(root / "testing", video, skipped)]
    place = f"{folder}/{name}_*"
    return checked_class(name, root, train, test, root / "training", place, skipped)


def _scene(name: str) -> str:
    return name.partition("_")[0]


def _training_videos(root: Path) -> list[Path]:
    """Videos or, where a video's frames are extracted, the folder of these."""
    videos = root / "training" / "videos"
    found = {
        path: root / "training" / "frames" / path
        for path in folders_in(root / "training" / "frames")
    }
    if videos.is_dir():
        for path in videos.iterdir():
            if path.suffix.lower() == VIDEO_SUFFIX and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def _frames_of(video: Path, skipped: list[Skipped]) -> list[Sample]:
    if video.is_dir():
        return [Sample(path) for path in _in_order(_images(video, skipped))]
    return [Sample(video, frame=index) for index in range(count_frames(video))]


def _images(folder: Path, skipped: list[Skipped]) -> list[Path]:
    """The images of a folder; what is not used there is added to ``skipped``."""
    found = list_images(folder)
    skipped += found.skipped
    return found.images


def _test_frames(testing: Path, video: str, skipped: list[Skipped]) -> list[Sample]:
    frames = _in_order(_images(testing / "frames" / video, skipped))
    masks = testing / "test_pixel_mask" / f"{video}.npy"
    if not masks.is_file():
        raise DataError(f"no masks for {testing / 'frames' / video}: expected {masks}")
    if not frames:
        raise DataError(f"no frame in {testing / 'frames' / video}; expected images")
    stack = mask_stack(masks)
    width, height = image_size(frames[0])
    if stack.shape != (len(frames), height, width):
        raise DataError(
            f"masks {masks} have shape {stack.shape}, but the frames in "
            f"{testing / 'frames' / video} need ({len(frames)}, {height}, {width})"
        )
    labels = _labels(testing / "test_frame_mask" / f"{video}.npy", stack, len(frames))
    return [
        Sample(path, ABNORMAL if label else GOOD, masks, mask_frame=index)
        for index, (path, label) in enumerate(zip(frames, labels, strict=True))
    ]


def _in_order(frames: list[Path]) -> list[Path]:
    """By number: 999.jpg before 1000.jpg, for the masks are in this order."""
    return sorted(frames, key=lambda path: (len(path.stem), path.stem))


def _labels(path: Path, stack: np.ndarray, n_frames: int) -> list[bool]:
    """Which frames are abnormal: as the file says or, where there is none, as the masks do."""
    if not path.is_file():
        return [bool(mask.any()) for mask in stack]
    labels = mask_stack(path)
    if labels.shape != (n_frames,):
        raise DataError(f"{path} has shape {labels.shape}, but there are {n_frames} frames")
    return [bool(label) for label in labels]
