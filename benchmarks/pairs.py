"""Two or three programs in turn, by the processor time of whole processes and its ratios.

python benchmarks/pairs.py run      --baseline CHECKOUT [--data_path .../MVTec --weights FILE]
python benchmarks/pairs.py channels [--baseline CHECKOUT] [--weights FILE]
python benchmarks/pairs.py outputs  [--baseline CHECKOUT] [--data_path .../MVTec --weights FILE]

run:       main_resnet.py on the class bottle, with and without imagecodecs
channels:  800 drawn training images with all 448 channels, and with the paper's 100
outputs:   predict.py on all images of bottle with all outputs, without, and bare_loop.py

A checkout of another version takes part where --baseline names one. Wall time says little on a
machine that others use, processor time much more: user and system, with all child processes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from common import ROOT, Cost, draw_class, machine, markdown, measure

N_CHANNELS_TRAIN, CHANNELS_SIDE = 800, 256
WITHOUT = "import sys; sys.modules['imagecodecs'] = None; sys.argv = sys.argv[1:]; import runpy; "
Commands = dict[str, list]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("run", "channels", "outputs"))
    parser.add_argument("--data_path", type=Path, help="left out: images are drawn")
    parser.add_argument("--save_path", type=Path, default=Path("benchmark_result"))
    parser.add_argument("--weights", default="random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="of another version")
    parser.add_argument("--n_train", type=int, default=N_CHANNELS_TRAIN, help="of channels")
    args = parser.parse_args()
    args.save_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.save_path) as scratch:
        cases = {"run": run_commands, "channels": channel_commands, "outputs": output_commands}
        commands = cases[args.case](args, Path(scratch))
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for number in range(args.rounds):
            for name, command in commands.items():
                costs[name].append(measure(command))
                seconds = costs[name][-1].cpu_seconds
                print(f"round {number + 1}  {name:34} {seconds:7.1f} processor s", flush=True)
    text = f"{args.case}, {args.rounds} rounds; {machine()}\n\n{table(costs)}\n"
    print(f"\n{text}")
    (args.save_path / f"pairs_{args.case}.md").write_text(text, encoding="utf-8")


def table(costs: dict[str, list[Cost]]) -> str:
    """Medians, and the median of the ratios to the first program in the same round."""
    first = next(iter(costs.values()))
    rows = []
    for name, values in costs.items():
        ratios = [a.cpu_seconds / b.cpu_seconds for a, b in zip(values, first, strict=True)]
        cpu, seconds, peak = (
            statistics.median(getattr(value, field) for value in values)
            for field in ("cpu_seconds", "seconds", "peak_mib")
        )
        ratio = statistics.median(ratios)
        rows.append((name, f"{cpu:.1f}", f"{ratio:.2f}", f"{seconds:.1f}", f"{peak:.0f}"))
    return markdown(("", "processor s", "of the first", "seconds", "peak MiB"), rows)


def checkouts(args: argparse.Namespace) -> dict[str, Path]:
    """The versions by what is written behind a program's name."""
    others = {" of the baseline": args.baseline.resolve()} if args.baseline else {}
    return {"": ROOT, **others}


def run_commands(args: argparse.Namespace, scratch: Path) -> Commands:
    data = args.data_path or draw_class(args.save_path / "drawn_images")
    options = ["--data_path", data, "--weights", args.weights, "--classes", "bottle"]
    options += ["--overwrite", "--save_path", scratch / "run"]
    commands: Commands = {
        f"main_resnet.py{name}": [sys.executable, root / "main_resnet.py", *options]
        for name, root in checkouts(args).items()
    }
    script = ROOT / "main_resnet.py"
    alone = f"{WITHOUT}sys.path.insert(0, {str(ROOT)!r}); "
    alone += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    commands["main_resnet.py without imagecodecs"] = [
        *(sys.executable, "-c", alone, script, *options)
    ]
    return commands


def channel_commands(args: argparse.Namespace, scratch: Path) -> Commands:
    data = draw_class(args.save_path / f"drawn_{args.n_train}", args.n_train, CHANNELS_SIDE)
    options = ["--data_path", data, "--weights", args.weights, "--classes", "bottle"]
    options += ["--figures", "none", "--overwrite", "--save_path", scratch / "run"]
    return {
        f"{label}{name}": [sys.executable, root / "main_resnet.py", *options, "--reduction", kind]
        for name, root in checkouts(args).items()
        for label, kind in (("100 channels", "random"), ("448 channels", "none"))
    }


def output_commands(args: argparse.Namespace, scratch: Path) -> Commands:
    data = args.data_path or draw_class(args.save_path / "drawn_images")
    weights = ["--weights", args.weights]
    fit = [sys.executable, ROOT / "main_resnet.py", "--data_path", data, "--classes", "bottle"]
    measure([*fit, *weights, "--figures", "none", "--save_path", scratch / "fit"])
    model = next((scratch / "fit").glob("*/models/bottle.safetensors"))
    images = ["--input", data / "bottle" / "train", data / "bottle" / "test"]
    judge = [*images, *weights, "--model", model, "--overwrite", "--save_path", scratch / "judged"]
    commands: Commands = {}
    for name, root in checkouts(args).items():
        command = [sys.executable, root / "predict.py", *judge]
        commands[f"without outputs{name}"] = [*command, "--maps", "none", "--figures", "none"]
        commands[f"all outputs{name}"] = [*command, "--figures", "all"]
    loop = [sys.executable, Path(__file__).parent / "bare_loop.py", *images, *weights]
    commands["bare loop"] = [*loop, "--save_path", scratch / "bare"]
    return commands


if __name__ == "__main__":
    main()
