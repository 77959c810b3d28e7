"""Frames of videos, and their masks, which are in one array.

PyAV reads the videos. Only this module imports it, and only if there is a video.
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
    """A video open at a frame, from which the next ones are read without seeking."""

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
    """Number of frames of a video, from its header or, without an entry, by counting.

    Raises:
        DataError: the file is not a video, or PyAV is not installed.
    """
    with _readable(path), _opened(path) as container:
        stream = container.streams.video[0]
        return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))


def read_frame(path: Path, index: int) -> np.ndarray:
    """Frame ``index``, counted from 0, as uint8 RGB (height, width, 3).

    Frames before it are decoded too, since only then its number is certain. Going back starts at
    the first frame.

    Raises:
        DataError: as ``count_frames``, or the video is damaged or shorter.
    """
    global _reader
    if _reader is not None and _reader.process != os.getpid():
        _inherited.append(_reader)  # closing it would wait for its threads
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
    """An array on the disk, read where it is indexed.

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
    """Open a video as AVI only: other formats can refer to further files or hosts."""
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
