"""Folders into which images arrive: which files are new, complete, or written anew.

Folders are polled, so that this works on network storage too. A file is complete if its size and
time of change stay the same for a moment and it decodes. A file that does not decode may be half
written by someone slow: it is tried again when it changes, and given up if it no longer does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from datasets.loading.unlabelled import FoundImage
from datasets.types import DataError
from padim.reading.folders import (
    RESULTS,
    Skipped,
    are_results,
    reason_no_image,
    reason_not_searched,
)

STABLE = 0.1  # seconds that a file must stay the same before it is read
PATIENCE = 10.0  # seconds that a file which cannot be read must stay the same to be given up
LOOKS = 500  # judged files that a poll looks at again
FRESH = 3  # polls that read a folder after it changed: its time of change is not exact
SELDOM = 100  # of all other polls one in so many reads it: some file systems change no time

Stamp = tuple[int, int]  # of a file: the time of its last change in ns, and its size
IsKnown = Callable[[str, Stamp], bool]


@dataclass(frozen=True)
class Arrival:
    """A file to read now.

    Attributes:
        image: the file.
        is_last: whether it is given up if it cannot be read.
    """

    image: FoundImage
    is_last: bool


@dataclass
class _Waiting:
    stamp: Stamp
    since: float
    is_tried: bool = False


@dataclass
class _Folder:
    """A folder as it was read last."""

    path: Path
    is_input: bool
    left_out: Collection[Path]
    images: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    _modified: int = -1
    _quiet: int = 0  # polls since it changed

    def refresh(self) -> bool:
        """Read the folder if it may have changed, and say whether it was read."""
        modified = self.path.stat().st_mtime_ns
        self._quiet = 0 if modified != self._modified else self._quiet + 1
        self._modified = modified
        if self._quiet >= FRESH and self._quiet % SELDOM:
            return False
        with os.scandir(self.path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        is_result = not self.is_input and are_results([entry.name for entry in entries])
        self.images, self.skipped, self.folders = [], [], []
        for entry in entries:
            path = self.path / entry.name
            if entry.is_dir():
                is_searched = not is_result and reason_not_searched(entry.name) is None
                if is_searched and path.resolve() not in self.left_out:
                    self.folders.append(path)
                continue
            why = RESULTS if is_result else reason_no_image(entry.name)
            if why is None:
                self.images.append(path)
            else:
                self.skipped.append(Skipped(path, why))
        return True


class FolderWatch:
    """The images that arrive in folders, at any depth.

    Args:
        inputs: the folders. With several, names begin with the folder's own.
        left_out: folders inside them that are not searched.
        is_known: whether a file with this name and stamp, seen for the first time, was judged.

    Raises:
        DataError: an input is no folder, or two have the same name.
    """

    def __init__(self, inputs: Sequence[Path], left_out: Sequence[Path], is_known: IsKnown) -> None:
        self._prefixes: dict[Path, str] = {}
        for given in inputs:
            if not given.is_dir():
                raise DataError(f"--input {given} is no folder, which --watch needs")
            self._prefixes[given] = f"{given.resolve().name}/" if len(inputs) > 1 else ""
        if len(set(self._prefixes.values())) < len(inputs):
            raise DataError("--watch needs --input folders of different names")
        self._left_out = {path.resolve() for path in left_out}
        self._is_known = is_known
        self._folders: dict[Path, _Folder] = {}
        self._waiting: dict[Path, _Waiting] = {}
        self._known: dict[Path, Stamp] = {}
        self._again: Iterator[Path] = iter(())
        self.missing: set[Path] = set()

    def poll(self, most: int) -> list[Arrival]:
        """The files that are complete now, at most ``most``, in the order of their arrival."""
        now = time.monotonic()
        if self._read_folders():
            self._note_arrivals(now)
        self._look_again(now)
        ready: list[Arrival] = []
        for path, one in list(self._waiting.items()):
            if len(ready) >= most:
                break
            stamp = _stamp(path)
            if stamp is None and not one.is_tried:  # renamed or removed
                del self._waiting[path]
            elif stamp is not None and stamp != one.stamp:
                self._waiting[path] = _Waiting(stamp, now)
            elif stamp is None or now - one.since >= (PATIENCE if one.is_tried else STABLE):
                ready.append(Arrival(FoundImage(path, self._name(path)), one.is_tried))
        return ready

    def is_unchanged(self, image: FoundImage) -> bool:
        """Whether a file is still what ``poll`` saw; if not, it arrives again."""
        return _stamp(image.path) == self._waiting[image.path].stamp

    def put_off(self, image: FoundImage) -> None:
        """A file could not be read: try again when it changes, or for the last time later."""
        self._waiting[image.path].is_tried = True

    def settle(self, image: FoundImage) -> None:
        """A file was judged or given up: it arrives again only if it changes."""
        self._known[image.path] = self._waiting.pop(image.path).stamp

    @property
    def images(self) -> list[FoundImage]:
        """All images that are there."""
        folders = self._folders.values()
        return [FoundImage(path, self._name(path)) for one in folders for path in one.images]

    @property
    def skipped(self) -> list[Skipped]:
        """All files that are no images."""
        return [file for one in self._folders.values() for file in one.skipped]

    @property
    def n_known(self) -> int:
        """How many files that are there were judged or given up."""
        return len(self._known)

    def _name(self, path: Path) -> str:
        for given, prefix in self._prefixes.items():
            if path.is_relative_to(given):
                return prefix + path.relative_to(given).as_posix()
        raise AssertionError(path)

    def _read_folders(self) -> bool:
        """Read what changed, and say whether anything did. What cannot be read stays as it was."""
        has_changed, before, found = False, self._folders, {}
        seen: set[tuple[int, int]] = set()
        self.missing = set()
        waiting = list(self._prefixes)[::-1]
        while waiting:
            path = waiting.pop()
            folder = before.get(path) or _Folder(path, path in self._prefixes, self._left_out)
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue  # reached before, through a link
                seen.add((status.st_dev, status.st_ino))
                has_changed |= folder.refresh()
            except OSError:
                self.missing |= {path} & self._prefixes.keys()
            found[path] = folder
            waiting += reversed(folder.folders)
        self._folders = found
        return has_changed

    def _note_arrivals(self, now: float) -> None:
        present = {path: None for folder in self._folders.values() for path in folder.images}
        for path in present:
            if path in self._known or path in self._waiting:
                continue
            stamp = _stamp(path)
            if stamp is None:
                continue
            if self._is_known(self._name(path), stamp):
                self._known[path] = stamp
            else:
                self._waiting[path] = _Waiting(stamp, now)
        # Names are forgotten with their files. But where no known file is left, the folder itself
        # may be gone: storage that is not mounted looks like an empty folder.
        if not self._known.keys().isdisjoint(present):
            self._known = {path: stamp for path, stamp in self._known.items() if path in present}

    def _look_again(self, now: float) -> None:
        """Whether judged files were written anew, some at each poll."""
        looked_at = list(islice(self._again, LOOKS))
        if not looked_at:
            self._again = iter(tuple(self._known))
            looked_at = list(islice(self._again, LOOKS))
        for path in looked_at:
            stamp = _stamp(path)
            if stamp is not None and stamp != self._known.get(path, stamp):
                del self._known[path]
                self._waiting[path] = _Waiting(stamp, now)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
