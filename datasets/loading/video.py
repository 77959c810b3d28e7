"""Frames of videos, and the masks of frames that lie in one array.

PyAV reads the videos; it is imported here alone, and only when there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.types import DataError
from padim.reading.pillow_image import MAX_PIXELS


class _Reader:
    """A video open at some frame: the next ones are had without going back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        self.next = 0
        self._container = _opened(path)
        stream = self._container.streams.video[0]
        stream.thread_type = "NONE"  # a worker process is a thread enough
        self._frames = self._container.decode(stream)

    def read(self, index: int) -> np.ndarray:
        for frame in self._frames:
            self.next += 1
            if self.next == index + 1:
                return frame.to_ndarray(format="rgb24")
        raise DataError(
            f"video {self.path} ends after {self.next} frames, before its frame {index}; "
            "replace it, or extract its frames into training/frames"
        )

    def close(self) -> None:
        self._container.close()


_reader: _Reader | None = None  # of this process: frames are asked for one after another
_inherited: list[_Reader] = []  # of the process this one was forked from, with threads it has not


def count_frames(path: Path) -> int:
    """How many frames a video has: as its header says or, where it does not, by counting.

    Raises:
        DataError: the file is no video, or PyAV is not installed.
    """
    with _readable(path), _opened(path) as container:
        stream = container.streams.video[0]
        return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))


def read_frame(path: Path, index: int) -> np.ndarray:
    """Frame ``index``, counted from 0, as uint8 RGB (height, width, 3).

    Frames before it are decoded on the way, for only so is a frame's number sure; backwards means
    from the start again.

    Raises:
        DataError: as ``count_frames``, or the video is damaged or shorter.
    """
    global _reader
    if _reader is not None and _reader.process != os.getpid():
        _inherited.append(_reader)  # even to close it would be to wait for its threads
        _reader = None
    with _readable(path):
        if _reader is None or _reader.path != path or index < _reader.next:
            if _reader is not None:
                _reader.close()
            _reader = _Reader(path)
        return _reader.read(index)


def mask_of_frame(path: Path, index: int) -> np.ndarray:
    """One mask of a ``.npy`` file of many, bool (height, width).

    Raises:
        DataError: the file cannot be read.
    """
    return np.asarray(mask_stack(path)[index]) > 0


@lru_cache(maxsize=4)
def mask_stack(path: Path) -> np.ndarray:
    """An array on the disk, of which only what is looked at is read.

    Raises:
        DataError: the file holds no array.
    """
    try:
        stack = np.lib.format.open_memmap(path, mode="r")  # np.load would open archives too
        if stack.dtype.kind not in "buif":
            raise ValueError(f"it holds {stack.dtype}, not numbers")
        return stack
    except Exception as error:  # on a damaged header NumPy raises almost any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"masks {path} cannot be read ({reason}); replace the file") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # FFmpeg's errors are many
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"video {path} cannot be read ({reason}); replace it") from error


def _opened(path: Path) -> Any:
    """A video as AVI and nothing else: other formats name further files, or hosts, to be read."""
    container = _av().open(str(path), format="avi", options={"protocol_whitelist": "file"})
    context = container.streams.video[0].codec_context
    if context.width * context.height > MAX_PIXELS:
        container.close()
        raise ValueError(
            f"{context.width} x {context.height} pixels; at most {MAX_PIXELS} are read"
        )
    return container


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise DataError(
            "to read videos PyAV is needed: python -m pip install -r requirements-video.txt "
            "(or extract the frames into training/frames)"
        ) from error
    return av
