"""Which files of a folder are images, and why the others are not used. Imports no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from padim.config import IMAGE_SUFFIXES

# Files and folders that operating systems and network storage create, in lower case.
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information")
HIDDEN = ("hidden", "system file", "in a hidden folder", "in a system folder")  # reasons
RESULTS = "results of this program"  # reason
# Entries of a finished run or prediction, and, together with the lock, of an unfinished one.
FINISHED = ({"scores.csv", "summary.json"}, {"results.json", "records"})
LOCK = ".lock"
UNFINISHED = {"records", "maps", "overlays", "originals", "anomaly_images"}
NO_FILE = "no file that can be read"  # a broken link, a pipe, a device


@dataclass(frozen=True)
class Skipped:
    """A file that is not used.

    Attributes:
        path: the file; or a folder that cannot be read.
        reason: why, in a few words; the same for all files of a kind.
    """

    path: Path
    reason: str


@dataclass
class Listing:
    """The files of a folder, in order.

    Attributes:
        images: the image files.
        skipped: all others.
    """

    images: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def reason_no_image(name: str) -> str | None:
    """Why a file of this name is not read as an image; None if it is."""
    if name.startswith("."):
        return HIDDEN[0]
    if name.lower() in SYSTEM_FILES:
        return HIDDEN[1]
    if name.lower().endswith(IMAGE_SUFFIXES):
        return None
    suffix = PurePath(name).suffix.lower()
    return f"ending {suffix}" if suffix else "no ending"


def reason_not_searched(name: str) -> str | None:
    """Why a folder of this name is not searched for images; None if it is."""
    if name.startswith("."):
        return HIDDEN[2]
    return HIDDEN[3] if name.lower() in SYSTEM_FOLDERS else None


def are_results(names: Collection[str]) -> bool:
    """Whether a folder with entries of these names holds the results of a run or a prediction.

    Killed ones count too: their lock remains.
    """
    is_finished = any(own.issubset(names) for own in FINISHED)
    return is_finished or (LOCK in names and not UNFINISHED.isdisjoint(names))


def has_results(folder: Path) -> bool:
    """Whether a folder holds the results of a run or a prediction."""
    return are_results([path.name for path in folder.iterdir()])


def list_folder(folder: Path, left_out: Collection[Path] = ()) -> Listing:
    """All files below a folder: of each folder first its files by name, then its folders by name.

    A folder that is reached twice, through a symbolic link, is searched once.

    Args:
        folder: the folder to search.
        left_out: folders to ignore.

    Raises:
        OSError: the folder itself cannot be read.
    """
    found = Listing()
    _search(folder, left_out, None, found, set())
    return found


def _search(
    folder: Path,
    left_out: Collection[Path],
    reason: str | None,
    found: Listing,
    seen: set[tuple[int, int]],
) -> None:
    """Add the files of a folder; ``reason`` says why none of them is used, if none is."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        in_order = sorted(entries, key=lambda entry: entry.name)
    if len(seen) > 1 and are_results([entry.name for entry in in_order]):
        reason = reason or RESULTS
    folders = []
    for entry in in_order:
        path = folder / entry.name
        if _is(entry, "dir"):
            folders.append(path)
            continue
        why = reason or reason_no_image(entry.name) or (None if _is(entry, "file") else NO_FILE)
        if why is None:
            found.images.append(path)
        else:
            found.skipped.append(Skipped(path, why))
    for path in folders:
        if path in left_out:
            continue
        try:
            _search(path, left_out, reason or reason_not_searched(path.name), found, seen)
        except OSError as error:
            found.skipped.append(Skipped(path, f"folder that cannot be read ({error.strerror})"))


def _is(entry: os.DirEntry, kind: str) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a link that leads in a circle
        return False
