"""What every entry script does: options in, exit status out.

The imports inside the functions take PyTorch along. They come after the options are known to be
good, so ``--help`` and a mistake answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from padim.config import PaDiMConfig
from utils.cli.compare_options import parse_compare_options
from utils.cli.errors import SOME_FAILED, guard
from utils.cli.export_options import parse_export_options
from utils.cli.predict_options import parse_predict_options
from utils.cli.reproduce_options import parse_reproduce_options
from utils.cli.run_options import parse_run_options, parse_timm_options
from utils.experiment.options import RunOptions
from utils.system.process import tune_process
from utils.system.stop import is_first_process


def main(backbone: str, argv: Sequence[str] | None = None) -> int:
    """Run a script that fits a backbone and evaluates it.

    Args:
        backbone: a key of ``padim.backbones.BACKBONES``.
        argv: arguments; None for the command line's.

    Returns:
        The exit status: 0, or as ``guard`` has it.
    """
    options = parse_run_options(backbone, argv)
    return guard(lambda: _run(backbone, options), "finished classes are kept", "run again to go on")


def main_timm(argv: Sequence[str] | None = None) -> int:
    """Run ``main_timm.py``.

    Args:
        argv: arguments; None for the command line's.

    Returns:
        The exit status: 0, or as ``guard`` has it.
    """

    def work() -> int:
        return _run(*parse_timm_options(_network_config, argv))

    return guard(work, "finished classes are kept", "run again to go on")


def _run(backbone: str, options: RunOptions) -> int:
    with tune_process():
        from utils.experiment.run import run
    run(backbone, options)
    return 0


def _network_config(backbone: str, layers: Sequence[str] | None) -> PaDiMConfig:
    """The default configuration of a network, which only the network itself can tell."""
    with tune_process():
        from padim.backbones import find_spec
    return find_spec(backbone).config(layers)


def predict(argv: Sequence[str] | None = None) -> int:
    """Run ``predict.py``.

    Returns:
        The exit status: 0; 1 if an image could not be judged; or as ``guard`` has it.
    """
    options = parse_predict_options(argv)

    def work() -> int:
        # A watch holds few sizes of blocks, and a single image feels what giving them back takes.
        with tune_process(is_memory_flat=not options.watch):
            from utils.prediction.judging import predict
            from utils.prediction.watch import watch
        return SOME_FAILED if (watch if options.watch else predict)(options) else 0

    if options.watch:
        return guard(work, "what was judged is kept", "start again to go on")
    return guard(work, "maps written so far are kept", "--overwrite starts afresh")


def export(argv: Sequence[str] | None = None) -> int:
    """Run ``export.py``.

    Returns:
        The exit status: 0, or as ``guard`` has it.
    """
    options = parse_export_options(argv)

    def work() -> int:
        if not is_first_process():
            return 0  # one of them writes the file
        with tune_process():
            from utils.prediction.export import export
        export(options)
        return 0

    return guard(work, "nothing is written", "run again")


def compare(argv: Sequence[str] | None = None) -> int:
    """Run ``compare.py``.

    Returns:
        The exit status: 0, or as ``guard`` has it.
    """
    options = parse_compare_options(argv)

    def work() -> int:
        from utils.experiment.run_comparison import compare_runs

        print(compare_runs(options))
        return 0

    return guard(work, "nothing is written", "run again")


def reproduce(argv: Sequence[str] | None = None) -> int:
    """Run ``reproduce.py``.

    Returns:
        The exit status: 0, or as ``guard`` has it.
    """
    options = parse_reproduce_options(argv)

    def work() -> int:
        if not is_first_process():
            return 0  # one of them does it
        with tune_process():
            from utils.reproduction.run import reproduce
        reproduce(options)
        return 0

    return guard(work, "what was run is kept", "run again to go on")
