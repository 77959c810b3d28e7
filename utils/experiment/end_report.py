"""The lines at the end of a run, and the tables over its seeds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from utils.evaluation.training_images import odd_line
from utils.experiment.options import RunOptions
from utils.experiment.run_folder import RunFolder
from utils.experiment.stored_class import MODEL
from utils.report.seeds import write_seed_tables
from utils.report.tables import image_checksums, terminal_table
from utils.system.console import one_line
from utils.system.names import shortened


def print_end(folders: Sequence[RunFolder], n_kept: int, own: Sequence[str]) -> None:
    """Print the tables of a run and where its results are.

    Args:
        folders: one for each seed.
        n_kept: number of classes that were finished before.
        own: all classes of this run.
    """
    for folder in folders:  # one at least
        if len(folders) > 1:
            print(f"\nseed {folder.info.settings['seed']}")
        records = folder.records()
        print(terminal_table(records, folder.info.options.metrics))
        others = [record.class_name for record in records if record.class_name not in own]
        if others:
            names = ", ".join(record.class_name for record in records)
            print(one_line(f"the means are over all classes of this folder: {names}"))
        print(one_line(image_checksums(records)))
        for record in records:
            for note in record.notes:
                print(one_line(f"{record.class_name}: {note}"))
            if line := odd_line(record.training):
                print(one_line(f"{record.class_name}: {line}"))
        if n_kept:
            print(f"classes that were there already: {n_kept} (--overwrite does them again)")
        print(f"\nTables, curves, figures and models: {folder.path}")
        print(f"To look through: {folder.path / 'index.html'}")
    model = folder.path / MODEL.format(records[0].class_name)
    command = ("python", "predict.py", "--model", str(model), "--input", "DIR")
    print(one_line(f"To judge your own images: {shlex.join(command)} --save_path judged"))


def print_seeds(folders: Sequence[RunFolder], options: RunOptions) -> None:
    """Write the tables over all seeds, and print them."""
    first, seeds = folders[0], options.seeds or ()
    name = first.name.removesuffix(f"_seed{seeds[0]}")
    path = options.save_path / shortened("_".join((f"{name}_seeds", *map(str, seeds))))
    path.mkdir(exist_ok=True)
    table = write_seed_tables(
        path,
        f"{name}, {len(seeds)} seeds",
        first.info.run_name,
        {seed: folder.rows() for seed, folder in zip(seeds, folders, strict=True)},
        first.info.conditions.warnings(),
        first.info.reason_not_comparable,
        first.info.command,
        {seed: folder.name for seed, folder in zip(seeds, folders, strict=True)},
        options.metrics,
    )
    print(f"\nmean \u00b1 standard deviation over the seeds {', '.join(map(str, seeds))}")
    print(table)
    print(f"The same, and beside the published numbers: {path}")
