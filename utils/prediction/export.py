"""A model file written as ONNX, whole or not at all."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import torch

from padim.onnx_graph import check_packages, write_onnx
from utils.errors import OptionError
from utils.prediction.load_model import load_fitted
from utils.prediction.options import ExportOptions
from utils.system.console import UNTRAINED, warn


def export(args: ExportOptions) -> None:
    """Export as the options say.

    Raises:
        ModelError, OptionError: something given cannot be used, or a package is missing.
    """
    check_packages()  # before a model of some gigabytes is read
    output = args.output
    if output.suffix != ".onnx":
        raise OptionError(f"--output {output} does not end in .onnx")
    model, is_untrained = load_fitted(args.model, args.weights, torch.device("cpu"))
    warn([UNTRAINED] * is_untrained)
    _quieten()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as folder:
        written = write_onnx(model, Path(folder), output.name, args.input_type == "normalised")
        for path in written:  # the graph last: where it is, its data is
            path.replace(output.with_name(path.name))
    if len(written) == 1:
        output.with_name(f"{output.name}.data").unlink(missing_ok=True)  # of a larger one before
    side = model.config.crop
    names = " and ".join(str(output.with_name(path.name)) for path in reversed(written))
    print(f"{names}: {args.input_type} image (B, 3, {side}, {side}) to anomaly_map and image_score")


def _quieten() -> None:
    """The exporter speaks of its own workings."""
    warnings.simplefilter("ignore")
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
