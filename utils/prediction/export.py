"""A model file and its network written as an ONNX graph."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from padim.model_file import load_model
from padim.onnx_graph import check_packages, write_onnx
from utils.errors import OptionError
from utils.prediction.options import ExportOptions
from utils.system.console import UNTRAINED, warn


def export(options: ExportOptions) -> None:
    """Write the graph completely or not at all.

    Raises:
        ModelError, OptionError: something given cannot be used, or a package is missing.
    """
    check_packages()  # before a model of several gigabytes is read
    output = options.output
    if output.suffix != ".onnx":
        raise OptionError(f"--output {output} does not end in .onnx")
    model = load_model(options.model, weights=options.weights)
    warn([UNTRAINED] * model.backbone.is_untrained)
    output.parent.mkdir(parents=True, exist_ok=True)
    is_normalised = options.input_type == "normalised"
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as folder:
        with _quiet_exporter():
            written = write_onnx(model, Path(folder), output.name, is_normalised)
        for path in written:  # the graph last: if it exists, its data does
            path.replace(output.with_name(path.name))
    if len(written) == 1:  # an earlier, larger model left its data here
        output.with_name(f"{output.name}.data").unlink(missing_ok=True)
    side = model.config.crop
    names = " and ".join(str(output.with_name(path.name)) for path in reversed(written))
    image = f"{options.input_type} image (B, 3, {side}, {side})"
    print(f"{names}: {image} to anomaly_map and image_score")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter, which reports on its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
