"""The folder of a prediction: what is in it, under which names, and how it is emptied."""

from __future__ import annotations

import shutil
from hashlib import sha256
from os import fsencode
from pathlib import Path

from utils.errors import OptionError
from utils.prediction.options import PredictOptions

OUTPUTS = ("scores.csv", "failed.csv", "summary.json", "index.html", "maps", "overlays")
MAX_NAME = 200  # bytes of a file or folder name; leaves room for what is put around it


def output_path(folder: Path, name: str, suffix: str) -> Path:
    """The output file of an image.

    Args:
        folder: where outputs of this kind are.
        name: the image's name. Its own suffix is kept, so ``a.png`` and ``a.jpg`` differ. A part
            that is too long for a file name is cut and gets its checksum.
        suffix: of the output.
    """
    parts = [_shortened(part) for part in name.split("/")]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def make_room(options: PredictOptions) -> None:
    """With ``--overwrite`` remove what an earlier prediction left in the folder.

    Raises:
        OptionError: there is an earlier prediction that must not be removed.
    """
    folder = options.save_path
    existing = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if existing and not options.overwrite:
        raise OptionError(
            f"--save_path {folder} holds results already ({existing[0].name}): "
            "give --overwrite to replace them, or another folder"
        )
    for path in existing:
        for used in (*options.input, options.model):
            if used.resolve().is_relative_to(path.resolve()):
                raise OptionError(f"{used} is in {path}, which --overwrite replaces; move it first")
    for path in existing:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _shortened(part: str) -> str:
    encoded = fsencode(part)
    if len(encoded) <= MAX_NAME:
        return part
    start = encoded[: MAX_NAME - 17].decode("utf-8", "ignore")
    return f"{start}~{sha256(encoded).hexdigest()[:16]}"
