"""Folders in which images arrive: which files are new, complete, or rewritten.

Folders are polled, so that this works on network storage too. A file is complete if its size and
time of change stay the same for a moment and it decodes. A file that does not decode may be
incomplete: it is tried again when it changes, and given up when it stays the same.
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
LOOKS = 500  # judged files that each poll checks again
AGAIN = 10  # polls after a change at which a folder is read again: times are not exact
SELDOM = 100  # polls after which a folder is always read: some file systems change no time

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
    """A folder as it was last read. It may have many files, so only changes are processed."""

    path: str
    is_input: bool
    left_out: Collection[Path]
    names: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)  # reasons, by name
    folders: dict[str, _Folder] = field(default_factory=dict)
    _modified: int = -1
    _quiet: int = 0  # polls since it changed

    def refresh(self, modified: int) -> tuple[list[str], set[str]]:
        """Read the folder if it may have changed: returns new images and removed names.

        Args:
            modified: time of its last change.
        """
        self._quiet = 0 if modified != self._modified else self._quiet + 1
        self._modified = modified
        if self._quiet != AGAIN and self._quiet % SELDOM:
            return [], set()
        with os.scandir(self.path) as found:
            entries = {entry.name: entry for entry in found}
        if (
            not entries
        ):  # storage that is not mounted looks like this: all is kept until more is seen
            return [], set()
        gone = self.names.difference(entries)
        new = [entry for name, entry in entries.items() if name not in self.names]
        is_result = not self.is_input and are_results(entries.keys())
        self.names = set(entries)
        for name in gone:
            self.skipped.pop(name, None)
        return self._new_images(new, is_result), gone

    def _new_images(self, new: list[os.DirEntry[str]], is_result: bool) -> list[str]:
        images = []
        for entry in sorted(new, key=lambda entry: entry.name):
            if entry.is_dir():
                is_searched = not is_result and reason_not_searched(entry.name) is None
                if is_searched and Path(entry.path).resolve() not in self.left_out:
                    inside = _Folder(entry.path, False, self.left_out)
                    self.folders[entry.name] = inside
                continue
            why = RESULTS if is_result else reason_no_image(entry.name)
            if why is None:
                images.append(entry.path)
            else:
                self.skipped[entry.name] = why
        return images

    def files(self) -> Iterator[str]:
        """The paths of all files in it, at any depth, and some that are not files."""
        yield from (f"{self.path}{os.sep}{name}" for name in self.names)
        for folder in self.folders.values():
            yield from folder.files()


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
        self._inputs = [
            _Folder(str(given.absolute()), True, _resolved(left_out)) for given in inputs
        ]
        names = check_folders(inputs)
        prefixes = [f"{name}/" for name in names] if len(inputs) > 1 else [""]
        starts = [one.path.rstrip(os.sep) + os.sep for one in self._inputs]
        self._prefixes = dict(zip(starts, prefixes, strict=True))
        self._is_known = is_known
        self._waiting: dict[str, _Waiting] = {}
        self._known: dict[str, Stamp] = {}
        self._again: Iterator[str] = iter(())
        self.missing: set[str] = set()

    def poll(self, most: int) -> list[Arrival]:
        """The files that are complete now, at most ``most``, in the order of their arrival."""
        now = time.monotonic()
        self._read_folders(now)
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
                ready.append(Arrival(self._image(path), one.is_tried))
        return ready

    def is_unchanged(self, image: FoundImage) -> bool:
        """Whether a file is still what ``poll`` saw; if not, it arrives again."""
        path = str(image.path)
        return _stamp(path) == self._waiting[path].stamp

    def put_off(self, image: FoundImage) -> None:
        """Note a file that could not be read: it is tried when it changes, or once more later."""
        self._waiting[str(image.path)].is_tried = True

    def settle(self, image: FoundImage) -> None:
        """Note a file that was judged or given up: it arrives again only if it changes."""
        self._known[str(image.path)] = self._waiting.pop(str(image.path)).stamp

    @property
    def images(self) -> list[FoundImage]:
        """All present images."""
        return [self._image(path) for path in (*self._known, *self._waiting)]

    @property
    def skipped(self) -> list[Skipped]:
        """All files that are not images."""
        found, waiting = [], list(self._inputs)
        while waiting:
            folder = waiting.pop()
            found += [Skipped(Path(folder.path, name), why) for name, why in folder.skipped.items()]
            waiting += folder.folders.values()
        return found

    @property
    def n_known(self) -> int:
        """Number of present files that were judged or given up."""
        return len(self._known)

    def _image(self, path: str) -> FoundImage:
        return FoundImage(Path(path), self._name(path))

    def _name(self, path: str) -> str:
        given = next(one for one in self._prefixes if path.startswith(one))
        return self._prefixes[given] + path[len(given) :].replace(os.sep, "/")

    def _read_folders(self, now: float) -> None:
        """Add new files and forget removed ones. Unreadable folders stay as they were."""
        seen: set[tuple[int, int]] = set()
        self.missing = set()
        waiting = self._inputs[::-1]
        while waiting:
            folder = waiting.pop()
            try:
                status = os.stat(folder.path)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in seen:
                    continue  # reached before, through a link
                seen.add((status.st_dev, status.st_ino))
                new, gone = folder.refresh(status.st_mtime_ns)
            except OSError:
                self.missing |= {folder.path} if folder.is_input else set()
                continue
            self._forget(folder, gone)
            for path in new:
                self._note(path, now)
            waiting += list(folder.folders.values())[::-1]

    def _note(self, path: str, now: float) -> None:
        stamp = _stamp(path)
        if stamp is not None and path not in self._known:
            if self._is_known(self._name(path), stamp):
                self._known[path] = stamp
            else:
                self._waiting[path] = _Waiting(stamp, now)

    def _forget(self, folder: _Folder, gone: Collection[str]) -> None:
        """Forget removed files; a new file of the same name is another image."""
        for name in gone:
            inside = folder.folders.pop(name, None)
            paths = (f"{folder.path}{os.sep}{name}",) if inside is None else inside.files()
            for path in paths:
                self._known.pop(path, None)

    def _look_again(self, now: float) -> None:
        """Check whether judged files were rewritten, some at each poll."""
        looked_at = list(islice(self._again, LOOKS))
        if not looked_at:
            self._again = iter(tuple(self._known))
            looked_at = list(islice(self._again, LOOKS))
        for path in looked_at:
            stamp = _stamp(path)
            if stamp is not None and stamp != self._known.get(path, stamp):
                del self._known[path]
                self._waiting[path] = _Waiting(stamp, now)


def check_folders(inputs: Sequence[Path]) -> list[str]:
    """The names of folders that can be watched together.

    Raises:
        DataError: one is no folder, or two have the same name.
    """
    for given in inputs:
        if not given.is_dir():
            raise DataError(f"--input {given} is no folder, which --watch needs")
    names = [given.resolve().name for given in inputs]
    if len(set(names)) < len(inputs):
        raise DataError("--watch needs --input folders of different names")
    return names


def _resolved(paths: Sequence[Path]) -> frozenset[Path]:
    return frozenset(path.resolve() for path in paths)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - making a Path takes longer
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
