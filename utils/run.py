"""The run: for every class fit, score, measure, draw and write, then the tables and the page."""

from __future__ import annotations

import hashlib
import shlex
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from datasets.demo import draw_demo_set
from datasets.images import Preprocessing
from datasets.mvtec import AnomalyClass, choose_classes, find_classes, read_class
from datasets.stream import ImageStream
from padim.backbones import BACKBONES, Backbone
from padim.config import PaDiMConfig
from padim.errors import ModelError
from padim.model import PaDiM
from utils.environment import choose_device, describe
from utils.evaluation import list_images, measure_class, score_class
from utils.files import check_writable
from utils.gallery import draw_class_figures
from utils.notices import DEMO, UNTRAINED, warn
from utils.progress import progress
from utils.results import ResultsFolder
from utils.tables import scores_csv, terminal_table


def run(backbone_name: str, args: Namespace) -> None:
    """Run a backbone over the classes of a data set, as the options say.

    Raises:
        DataError, ModelError, OptionError: something given cannot be used.
    """
    device = choose_device(args.device)
    check_writable(args.save_path)
    is_demo = args.data_path is None
    root = draw_demo_set(args.save_path / "demo_data") if is_demo else args.data_path
    names = choose_classes(root, args.classes)
    classes = [read_class(root, name) for name in names]
    stream = _read(classes, args, device).start()  # while the network is loaded
    backbone, is_untrained = _load_backbone(backbone_name, args, is_demo)
    config = PaDiMConfig(
        args.reduction,
        args.embedding_dim,
        args.seed,
        args.resize,
        args.crop,
        args.epsilon,
        args.sigma,
    )
    blank = PaDiM(backbone, config)  # finds impossible dimensions before anything is written
    warnings = [UNTRAINED] * is_untrained + [DEMO] * is_demo
    results = ResultsFolder(
        args.save_path,
        run_name(backbone, config, is_untrained, is_demo),
        _settings(blank, is_untrained, args),
        {"options": _printable(args), "versions": describe(device)},
        warnings,
        _obstacle(config, is_untrained, is_demo),
    )
    results.check(find_classes(root), replaced=names if args.overwrite else ())
    todo = [
        item for item in classes if args.overwrite or not results.finished(item.name, item.digest())
    ]
    backbone.to(device)
    warn(warnings)
    if todo != classes:
        stream.close()
        stream = _read(todo, args, device)
    try:
        for item in todo:
            record = _run_class(item, PaDiM(backbone, config), stream, results, args)
            results.finish(record)
            results.write_tables()
    finally:  # also when stopped, or at a file that cannot be read: what is done can be looked at
        if results.records():
            results.write_tables()
            results.write_overview()
    stream.close()
    _print_end(results, len(classes) - len(todo))
    warn(warnings)


def _read(classes: Sequence[AnomalyClass], args: Namespace, device: torch.device) -> ImageStream:
    return ImageStream(
        classes,
        Preprocessing(args.resize, args.crop),
        args.batch_size,
        args.num_workers,
        pin_memory=device.type == "cuda",
        cache=args.image_cache,
    )


def run_name(
    backbone: Backbone, config: PaDiMConfig, is_untrained: bool = False, is_demo: bool = False
) -> str:
    """The name of a configuration, as the published numbers have it, such as resnet18_rd100.

    What must not be taken for a result, or get into its tables, says so in its name.
    """
    parts = [backbone.name]
    has_own_layers = backbone.layers != BACKBONES[backbone.name].taps
    if has_own_layers:
        parts += backbone.layers
    if config.reduction != "none":
        short = {"random": "rd", "semi_orthogonal": "so", "pca": "pca"}[config.reduction]
        parts.append(f"{short}{config.embedding_dim}")
    elif not has_own_layers and backbone.name != "efficientnet_b5":
        parts.append("all_channels")  # said where the paper's own configuration is a reduced one
    return "_".join(parts + ["untrained"] * is_untrained + ["demo"] * is_demo)


def _obstacle(config: PaDiMConfig, is_untrained: bool, is_demo: bool) -> str | None:
    """Why the numbers of a run may not be set beside published ones; None where they may."""
    if is_demo:
        return "the images are drawn"
    if is_untrained:
        return "the weights are untrained"
    paper = PaDiMConfig()
    other = [
        f"--{name} {getattr(config, name):g}"
        for name in ("resize", "crop", "epsilon", "sigma")
        if getattr(config, name) != getattr(paper, name)
    ]
    return f"they are of another protocol than the paper's ({', '.join(other)})" if other else None


def _run_class(
    item: AnomalyClass,
    model: PaDiM,
    stream: ImageStream,
    results: ResultsFolder,
    args: Namespace,
) -> dict:
    """Do all of one class; returns its record."""
    start = time.perf_counter()
    n_train, n_test = len(item.train), len(item.test)
    train = progress(stream.take(n_train), n_train, item.name, "fit")
    model.fit((batch.images for batch in train), n_train)
    test = progress(stream.take(n_test), n_test, item.name, "score")
    scored = score_class(model, test)
    with results.staged(item.name) as stage:
        is_half = args.model_precision == "float16"
        model.save(stage / "models" / f"{item.name}.pt", is_half)
        calibration, rate = model.calibration, args.false_alarm_rate
        del model  # as large as all that measuring needs
        images = list_images(item, scored, calibration)
        record = measure_class(item, scored, images, calibration, rate)
        draw_class_figures(item, scored, images, record["threshold"], args.figures, stage)
        scores = stage / "scores" / f"{item.name}.csv"
        scores.write_text(scores_csv(record), encoding="utf-8", errors="backslashreplace")
    record["totals"]["seconds"] = round(time.perf_counter() - start, 2)
    return record


def _load_backbone(name: str, args: Namespace, is_demo: bool) -> tuple[Backbone, bool]:
    """The backbone, and whether its weights are untrained.

    The demo goes on with untrained weights where the trained ones cannot be had, for it is there to
    show the program; a run on real data does not, for its numbers would be taken for PaDiM's.
    """
    try:
        return Backbone(name, args.weights, args.layers, args.seed), args.weights == "random"
    except ModelError as error:
        if not is_demo or args.weights != "imagenet":
            raise
        warn([str(error)])
        return Backbone(name, "random", args.layers, args.seed), True


def _settings(model: PaDiM, is_untrained: bool, args: Namespace) -> dict[str, object]:
    """All that decides the numbers, by the option's name where there is one."""
    kept = None
    if model.reduction is not None:
        kept = hashlib.sha256(model.reduction.checksum_source().tobytes()).hexdigest()[:16]
    return {
        "backbone": model.backbone.name,
        "weights": "random" if is_untrained else "trained",
        "weights_checksum": model.backbone.checksum(),
        "layers": list(model.backbone.layers),
        "channels": list(model.backbone.channels),
        "channel_ids_checksum": kept,
        **asdict(model.config),
        "false_alarm_rate": args.false_alarm_rate,
    }


def _printable(args: Namespace) -> Mapping[str, object]:
    return {
        name: value if isinstance(value, (int, float, list, type(None))) else str(value)
        for name, value in vars(args).items()
    }


def _print_end(results: ResultsFolder, n_kept: int) -> None:
    records = results.records()
    print(terminal_table(records))
    if n_kept:
        print(f"classes that were there already: {n_kept} (--overwrite does them again)")
    print(f"\nTables, curves, figures and models: {results.path}")
    print(f"To look through: {results.path / 'index.html'}")
    model = results.path / "models" / f"{records[0]['class']}.pt"
    command = ("python", "predict.py", "--model", str(model), "--input", "DIR")
    print(f"To judge your own images: {shlex.join(command)} --save_path judged")
