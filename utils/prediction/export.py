"""A model file and its network written as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.layouts import check_outside_classes
from padim.onnx_graph import GraphOptions, check_packages, write_onnx
from padim.storage.files import naming, sweep, temporary_folder
from padim.storage.model_file import load_model
from utils.errors import OptionError
from utils.prediction.judge import Judge
from utils.prediction.options import ExportOptions
from utils.prediction.parity import find_verified, verify
from utils.system.console import UNTRAINED, warn

GRAPH_BYTES = 2**26  # a graph with its tensors in a separate file is smaller


def export(options: ExportOptions) -> None:
    """Write the graph completely or not at all.

    Raises:
        ModelError, OptionError: an input cannot be used, or a package is missing.
    """
    check_packages(bool(options.verify))  # before a model of several gigabytes is read
    output = options.output
    _check_output(options)
    verified = find_verified(options.verify)
    model = load_model(options.model, weights=options.weights)
    assert model.embedding is not None
    judge = Judge(model.calibration, options.false_alarm_rate, model.embedding.dim)
    warn([UNTRAINED] * model.backbone.is_untrained + judge.doubts())
    output.parent.mkdir(parents=True, exist_ok=True)
    sweep(output.parent)
    form = GraphOptions(options.input_type, options.false_alarm_rate, options.float16)
    had_data = _has_data(output)
    with naming(output), temporary_folder(output.parent) as folder:
        with _quiet_exporter():
            properties = {"class": options.model.stem}
            written = write_onnx(model, folder, output.name, form, properties)
        report = verify(model, folder / output.name, form, verified)
        for path in written:
            _check_free(output.with_name(path.name), options.overwrite)
        for path in written:  # the graph last: if it exists, its data does
            path.replace(output.with_name(path.name))
    if len(written) == 1 and had_data:  # an earlier, larger model left its data here
        _data(output).unlink(missing_ok=True)
    size = sum(output.with_name(path.name).stat().st_size for path in written)
    names = " and ".join(str(output.with_name(path.name)) for path in reversed(written))
    print(f"{names}: {size / 2**20:.0f} MiB, {_takes(form, model.config.crop)} to {_gives(judge)}")
    print(report, end="")


def _takes(form: GraphOptions, side: int) -> str:
    if form.input_type == "image":
        return "uint8 images (B, h, w, 3) of any size"
    return f"{form.input_type} crops (B, 3, {side}, {side})"


def _gives(judge: Judge) -> str:
    if judge.thresholds is None:
        return "anomaly_map and image_score"
    rate = f"at a false alarm rate of {judge.thresholds.rate:.3g}"
    return f"anomaly_map, image_score, p_value and is_defective {rate}"


def _check_output(options: ExportOptions) -> None:
    """Check that the export replaces no input and no folder.

    Raises:
        OptionError: it would.
    """
    output = options.output
    if output.suffix != ".onnx":
        raise OptionError(f"--output {output} does not end in .onnx")
    check_outside_classes(output.parent, "--output")
    weights = [Path(options.weights)] if options.weights else []
    for path in (output, _data(output)):
        if path.is_dir():
            raise OptionError(f"--output {path} is a folder; give the name of a file")
        for used in (options.model, *weights):
            if path.exists() and used.exists() and path.samefile(used):
                raise OptionError(f"--output {path} is {used}, which is read; give another file")
    _check_free(output, options.overwrite)


def _check_free(path: Path, is_replaced: bool) -> None:
    if path.exists() and not is_replaced:
        raise OptionError(
            f"--output {path} exists already: give --overwrite to replace it, or another file"
        )


def _has_data(output: Path) -> bool:
    """Whether a graph exists that names a data file next to it."""
    is_small = output.is_file() and output.stat().st_size < GRAPH_BYTES
    return is_small and _data(output).name.encode() in output.read_bytes()


def _data(output: Path) -> Path:
    """The data file of a graph beyond 2 GiB."""
    return output.with_name(f"{output.name}.data")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's reports on its internals."""
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
