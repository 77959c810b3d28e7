"""The folder of a prediction: the names of its files, and how it is emptied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from padim.storage.files import remove, sweep
from utils.errors import OptionError
from utils.prediction.options import PredictOptions
from utils.prediction.submission import FOLDERS
from utils.system.names import FreeNames, shortened

OUTPUTS = (
    *("scores.csv", "failed.csv", "skipped.csv", "regions.csv", "regions.jsonl"),
    *("summary.json", "index.html"),
    *("maps", "overlays", "originals", *FOLDERS),
)
SUFFIXES = (".png", ".npy", ".jpg")  # of the outputs of an image


def output_path(folder: Path, name: str, suffix: str) -> Path:
    """The output file of an image.

    Args:
        folder: where outputs of this kind are.
        name: the image's name, or the one from ``unlike_names``. Its own suffix is kept, so
            ``a.png`` and ``a.jpg`` differ. A part that is too long for a file name is cut, and a
            checksum is added.
        suffix: of the output.
    """
    parts = [shortened(part) for part in name.split("/")]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def unlike_names(names: Sequence[str]) -> dict[str, str]:
    """New names for the images whose outputs would have the path of another output.

    Args:
        names: of all images.

    Returns:
        From names to new names; images that are not in it keep theirs.
    """
    free = FreeNames()
    for folder in dict.fromkeys(parent for name in names for parent in _parents(name)):
        free.reserve(folder)
    given = ((name, free.take(name, *SUFFIXES)) for name in names)
    return {name: other for name, other in given if other != free.cut(name)}


def make_room(options: PredictOptions, is_own: bool) -> None:
    """Remove an earlier prediction from the folder, with ``--overwrite``.

    Args:
        options: of the prediction.
        is_own: whether this program has written to the folder before.

    Raises:
        OptionError: the folder has other files, or a prediction that must not be removed.
    """
    folder = options.save_path
    sweep(folder)
    existing = [folder / name for name in OUTPUTS if os.path.lexists(folder / name)]
    if existing and (not is_own or (folder / "records").exists()):
        raise OptionError(
            f"--save_path {folder} holds {existing[0].name}, which no prediction of this program "
            "wrote: give another folder"
        )
    if existing and not options.overwrite:
        raise OptionError(
            f"--save_path {folder} holds results already ({existing[0].name}): "
            "give --overwrite to replace them, or another folder"
        )
    for path in existing:
        weights = [Path(options.weights)] if options.weights else []
        for used in (*options.input, options.model, *weights):
            if used.resolve().is_relative_to(path.resolve()):
                raise OptionError(f"{used} is in {path}, which --overwrite replaces; move it first")
    for path in existing:
        remove(path)


def _parents(name: str) -> Iterator[str]:
    """The folders that a name is in: of ``a/b/c``, ``a`` and ``a/b``."""
    for at, letter in enumerate(name):
        if letter == "/":
            yield name[:at]
