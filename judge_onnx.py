"""Judge images with a graph of export.py. Needs onnxruntime, numpy and Pillow alone.

Writes scores.csv and failed.csv as predict.py does. Unlike it, this takes the high bytes of 16-bit
colours, and reads no damaged metadata, no TIFF that Pillow lacks and no links to folders.
"""

import argparse
import csv
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path: Path, bits: int) -> np.ndarray:
    """An image file as uint8 (h, w, 3), upright, without alpha; 16-bit grey is scaled."""
    with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP")) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F":
        raise ValueError("it holds floating-point values; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    levels, top = np.asarray(image).astype(np.int64), 2**bits - 1
    if levels.min() < 0 or levels.max() > top:
        raise ValueError(f"it holds values from {levels.min()} to {levels.max()}, not 0 to {top}")
    return np.repeat(((levels * 255 + top // 2) // top).astype(np.uint8)[:, :, None], 3, axis=2)


def find_images(given: Path) -> list[tuple[Path, str]]:
    """Image files and their names: paths in the folder, in order. Nothing hidden is used."""
    if given.is_file():
        return [(given, given.name)]
    found = [path for path in sorted(given.rglob("*")) if path.name.lower().endswith(SUFFIXES)]
    named = [(path, path.relative_to(given)) for path in found if path.is_file()]
    return [(path, n.as_posix()) for path, n in named if not any(p[0] == "." for p in n.parts)]


def judge(session: onnxruntime.InferenceSession, path: Path, bits: int) -> tuple:
    """Score, p-value and decision of an image; the last two are empty without thresholds."""
    names = [output.name for output in session.get_outputs()][1:]
    values = session.run(names, {"image": read_image(path, bits)[None]})
    score, p_value, is_defective = (*(value[0].item() for value in values), "", None)[:3]
    if not np.isfinite(score):
        raise ValueError(f"its score is {score}")
    return score, p_value, {True: "defective", False: "normal", None: ""}[is_defective]


def write(path: Path, *rows: tuple) -> None:
    """Write a table completely or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in ("model", "graph of export.py"), ("input", "images"), ("save_path", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier scores.csv")
    args, scores, failed = parser.parse_args(), [], []
    scores_path, failed_path = (args.save_path / name for name in ("scores.csv", "failed.csv"))
    if not args.overwrite and (scores_path.exists() or failed_path.exists()):
        raise ValueError(f"--save_path {args.save_path} holds results: give --overwrite")
    if missing := [path for path in (args.model, args.input) if not path.exists()]:
        raise ValueError(f"{missing[0]} does not exist")
    if not (images := find_images(args.input)):
        raise ValueError(f"no image in --input {args.input} ({', '.join(SUFFIXES)})")
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    if (facts := session.get_modelmeta().custom_metadata_map).get("input_type") != "image":
        raise ValueError(f"--model {args.model} is no graph of export.py that takes images")
    for path, name in images:
        try:
            scores.append((name, *judge(session, path, int(facts["bits"]))))
        except Exception as error:  # on a damaged file Pillow raises almost any exception
            failed.append((name, " ".join(str(error).split())))
            print(f"failed: {ascii(name)[1:-1]}: {failed[-1][1]}", file=sys.stderr)
    args.save_path.mkdir(parents=True, exist_ok=True)
    write(failed_path, ("path", "reason"), *failed)
    write(scores_path, ("path", "score", "p_value", "decision"), *scores)
    n_defective, rate = sum(row[3] == "defective" for row in scores), facts.get("false_alarm_rate")
    print(f"{len(scores)} images judged, {n_defective} defective at a false alarm rate of {rate}")
    return 1 if failed else 0


if __name__ == "__main__":
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        sys.exit(main())
    except (KeyboardInterrupt, Exception) as error:
        print("error:", *(str(error) or "stopped").split(), file=sys.stderr)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2)
