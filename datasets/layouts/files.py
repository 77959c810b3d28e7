"""Image files and folders as they are found on a disk."""

from __future__ import annotations

from pathlib import Path

from datasets.types import DataError
from padim.config import IMAGE_SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name; hidden files are not images."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, without the hidden ones."""
    if not folder.is_dir():
        return []
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    ]


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


def check_mask_size(image: Path, mask: Path) -> None:
    """Check, from their headers, that a mask and its image have the same size.

    Raises:
        DataError: they do not, or one of them is not an image.
    """
    from datasets.masks import fitting_turns
    from padim.image_file import read_header  # slow to import, and --help does without

    image_header, mask_header = read_header(image), read_header(mask)
    if not fitting_turns(mask_header, image_header):
        (image_width, image_height), (width, height) = (
            header.upright_size for header in (image_header, mask_header)
        )
        raise DataError(
            f"mask {mask} is {width}x{height} but its image {image} is "
            f"{image_width}x{image_height}; they must have the same size"
        )
