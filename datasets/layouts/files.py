"""Image files and folders as they are found on a disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from datasets.types import DataError
from padim.reading.folders import Listing, Skipped, list_folder, reason_not_searched

VALIDATION = "validation image"  # reason: it is neither trained nor tested on


def list_images(folder: Path, left_out: Collection[Path] = ()) -> Listing:
    """The image files below a folder, and the files there that are not used; empty ones are not.

    Args:
        folder: to be searched; it need not exist.
        left_out: folders that are not entered, as if they were not there.
    """
    if not folder.is_dir():
        return Listing()
    found = list_folder(folder, left_out)
    empty = [path for path in found.images if path.stat().st_size == 0]
    if empty:
        found.images = [path for path in found.images if path not in set(empty)]
        found.skipped += [Skipped(path, "empty") for path in empty]
    return found


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, without hidden ones and those of operating systems."""
    if not folder.is_dir():
        return []
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and reason_not_searched(entry.name) is None
    ]


def class_folders(root: Path, title: str, expected: str, *parts: str) -> list[str]:
    """The names of the folders in ``root`` that have all these folders inside.

    Args:
        root: folder of the data set.
        title: of the layout, for the message.
        expected: what the layout has, for the message.
        parts: relative to the folder of a class.

    Raises:
        DataError: there is none, or ``root`` does not exist.
    """
    check_root(root)
    names = sorted(
        name for name in folders_in(root) if all((root / name / part).is_dir() for part in parts)
    )
    if not names:
        raise DataError(
            f"{root} is not in the layout of {title}: expected {expected}, found {some_of(root)}"
        )
    return names


def some_of(folder: Path) -> str:
    """A few of the entries of a folder, for messages."""
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    return (", ".join(entries[:5]) + more) or "an empty folder"


def check_root(root: Path) -> None:
    """Check that the folder of a data set exists.

    Raises:
        DataError: it does not.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data folder {root} {what}; give the folder that holds the classes")


def named_file(root: Path, name: str | None, table: Path) -> Path:
    """A file that a table names, inside the data set.

    Args:
        root: the folder that names are relative to.
        name: what the table has.
        table: the table, for messages.

    Raises:
        DataError: the name leads elsewhere, or there is no such file.
    """
    relative = PurePosixPath(name or "")
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{table} names the file '{name or ''}', which is not in {root}")
    path = root / relative
    if not path.is_file():
        raise DataError(f"{table} names the file {path}, which does not exist")
    return path


def check_mask_size(image: Path, mask: Path) -> None:
    """Check, from their headers, that a mask and its image have the same size.

    Raises:
        DataError: they do not, or one of them is not an image.
    """
    from datasets.masks import fitting_turns
    from padim.reading.image_file import read_header  # slow to import, and --help does without

    image_header, mask_header = read_header(image), read_header(mask)
    if not fitting_turns(mask_header, image_header):
        (image_width, image_height), (width, height) = (
            header.upright_size for header in (image_header, mask_header)
        )
        raise DataError(
            f"mask {mask} is {width}x{height} but its image {image} is "
            f"{image_width}x{image_height}; they must have the same size"
        )
