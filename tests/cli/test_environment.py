"""Scripts under the variables, outputs, limits and signals of other places than a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import draw_class
from scripts import ROOT, SMALL, heed_interrupts, run, start, tables

from utils.system import environment

# Of notebooks, other tools, containers and cron.
STRANGE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MATPLOTLIBRC": "/nowhere/matplotlibrc",
    "PYTHONWARNINGS": "error",
    "OMP_NUM_THREADS": "0",
    "MKL_NUM_THREADS": "many",
    "LOCAL_WORLD_SIZE": "x",
    "PYTORCH_CUDA_ALLOC_CONF": "nonsense",
    "LC_ALL": "C",
    "LANG": "tlh_QO",
    "COLUMNS": "-3",
    "LINES": "x",
    "NO_COLOR": "1",
    "TERM": "unknown",
    "CUDA_VISIBLE_DEVICES": "",
}


FOLDER = "resnet18_rd100_untrained"


def options(root: Path, save: Path) -> tuple[object, ...]:
    return ("--data_path", root, "--save_path", save, "--weights=random", *SMALL)


def test_variables_limits_and_outputs_of_other_places_change_nothing(
    data_root: Path, tmp_path: Path
) -> None:
    usual = run("main_resnet.py", *options(data_root, tmp_path / "usual"))
    assert usual[0] == 0, usual[2]
    heard = start("main_resnet.py", *options(data_root, tmp_path / "heard"))
    heard.stdout.close()  # as `| head -1` does
    heard.stderr.close()
    assert heard.wait(120) == 0
    environ = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER")}
    limited = 'ulimit -n 40; exec "$@" >&- 2>"$ERRORS"'  # no standard output at all
    given = map(str, options(data_root, tmp_path / "out"))
    command = ["bash", "-c", limited, "bash", sys.executable, str(ROOT / "main_resnet.py"), *given]
    errors = tmp_path / "errors"
    environ |= STRANGE | {"ERRORS": str(errors)}
    done = subprocess.run(command, env=environ, check=False, timeout=120)
    assert done.returncode == 0, errors.read_text()
    assert all(line.startswith("!!!") for line in errors.read_text().splitlines())
    found, *others = (tables(tmp_path / name / FOLDER) for name in ("usual", "heard", "out"))
    assert [found, found] == others


@pytest.mark.parametrize("script", ["predict.py", "export.py", "reproduce.py", "compare.py"])
def test_help_needs_no_environment(script: str) -> None:
    status, out, err = run(script, "--help", env=STRANGE)
    assert (status, err) == (0, "")
    assert "--" in out


@pytest.mark.parametrize(
    ("name", "value", "is_kept"),
    [
        ("OMP_NUM_THREADS", "4", True),
        ("OMP_NUM_THREADS", "4,2", True),
        ("OMP_NUM_THREADS", " 2 ", True),
        ("OMP_NUM_THREADS", "-1", False),
        ("OMP_NUM_THREADS", "", False),
        ("OMP_NUM_THREADS", "1e9", False),
        ("MKL_NUM_THREADS", "2.0", False),
        ("LOCAL_RANK", "0", True),
        ("LOCAL_RANK", "first", False),
        ("PYTORCH_ALLOC_CONF", "expandable_segments:True", True),
        ("PYTORCH_ALLOC_CONF", "expandable_segments", False),
    ],
)
def test_a_variable_is_kept_if_it_can_be_used(
    name: str, value: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {name: value})
    monkeypatch.setattr(environment, "_open_outputs", lambda: None)
    monkeypatch.setattr(environment.logging, "lastResort", None)
    monkeypatch.setattr(environment.warnings, "simplefilter", lambda how: None)
    environment.tidy_environment()
    assert (os.environ.get(name) == value) == is_kept


@pytest.mark.parametrize(("after", "sent"), [(0.0, "TERM"), (0.6, "INT"), (None, "TERM")])
def test_a_signal_to_the_whole_group_is_one_line(
    after: float | None, sent: str, tmp_path: Path
) -> None:
    """During imports, and once a class is there; a second signal hurries."""
    for name in ("a", "b", "c"):
        draw_class(tmp_path / "data", name)
    save = tmp_path / "out"
    process = start("main_resnet.py", *options(tmp_path / "data", save), start_new_session=True)
    if after is None:
        until = time.monotonic() + 60
        while not list(save.glob("*/records/a.json")) and time.monotonic() < until:
            time.sleep(0.01)
    else:
        wait_for_handlers(process)
        time.sleep(after)
    number = getattr(signal, f"SIG{sent}")
    os.killpg(process.pid, number)
    time.sleep(0.7)
    if process.poll() is None:
        os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert [line for line in err.splitlines() if not line.startswith("!!!")] in (
        ["stopped; finished classes are kept, run again to go on"],
        ["stopped"],
    )


def wait_for_handlers(process: subprocess.Popen) -> None:
    """Until the process catches SIGTERM; before that nothing of ours has run."""
    status, until = Path(f"/proc/{process.pid}/status"), time.monotonic() + 30
    while time.monotonic() < until:
        caught = next(line for line in status.read_text().splitlines() if line[:6] == "SigCgt")
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)


def test_a_run_that_was_killed_can_be_started_again_at_once(
    data_root: Path, tmp_path: Path
) -> None:
    given = options(data_root, tmp_path / "out")
    process = start("main_resnet.py", *given, preexec_fn=heed_interrupts)
    until = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*/.lock")) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    status, _, err = run("main_resnet.py", *given)
    assert status == 0, err


@pytest.mark.parametrize("limit", [16])
def test_too_few_descriptors_are_one_line(limit: int, data_root: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    status, _, err = run(
        "main_resnet.py",
        *options(data_root, tmp_path / "out"),
        "--num_workers=8",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    lines = [line for line in err.splitlines() if not line.startswith("!!!")]
    if status != 0:
        assert (status, len(lines)) == (2, 1), err
        assert "oo many open files" in lines[0]
