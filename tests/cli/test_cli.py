"""What the scripts do around their work: process tuning, and errors as lines and statuses."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from scripts import ROOT

from padim.errors import ModelError
from utils.cli.errors import explain, guard
from utils.errors import OptionError
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import light_torchvision, tune_process


def test_the_collector_rests_while_modules_are_imported() -> None:
    with tune_process():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_the_collector_goes_on_after_a_failed_import() -> None:
    with pytest.raises(ImportError), tune_process():
        import utils.there_is_no_such_module  # noqa: F401
    assert gc.isenabled()


def test_the_stand_in_for_the_compiler_leaves_nothing_behind() -> None:
    code = """
import sys
from utils.errors import OptionError
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import light_torchvision
with light_torchvision():
    import torchvision.models
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
answer = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
import torch._dynamo.utils
assert torch._dynamo.utils.__file__
assert answer == torch._dynamo.utils.is_compile_supported("cpu")
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert process.returncode == 0


def test_a_compiler_that_is_there_stays() -> None:
    name = "torch._dynamo.utils"
    before = sys.modules.get(name)
    with light_torchvision():
        assert name in sys.modules
    assert sys.modules.get(name) is before


@pytest.mark.parametrize(("wish", "is_cleaned"), [("0", False), ("1", True)])
def test_a_clean_exit_can_be_asked_for(wish: str, is_cleaned: bool) -> None:
    code = """
import atexit
from utils.errors import OptionError
from utils.system.files import check_writable
from utils.system.lock import locked
from utils.system.process import exit_now
atexit.register(print, "cleaned")
exit_now(3)
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PADIM_CLEAN_EXIT": wish},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, "cleaned" in process.stdout) == (3, is_cleaned)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "--batch_size"),
        (RuntimeError("[enforce] . DefaultCPUAllocator: can't allocate memory: 9 b"), "--crop"),
        (torch.OutOfMemoryError("CUDA out of memory"), "--device cpu"),
    ],
)
def test_an_error_of_the_machine_gets_one_line(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert guard(work, "all is kept", "run again") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert words in line
    assert ("--device cpu" in line) == isinstance(error, torch.OutOfMemoryError)


@pytest.mark.parametrize(
    "text",
    [
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: ...",
        "Connection closed by peer",  # one process alone has no others
        "shape mismatch",
    ],
)
def test_a_fault_of_the_program_keeps_its_traceback(text: str) -> None:
    def work() -> int:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError):
        guard(work, "all is kept", "run again")


def test_a_process_that_is_gone_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for error in (
        RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"),
        torch.distributed.DistNetworkError("unreachable"),
    ):
        assert "another process" in (explain(error) or "")
    assert "NCCL" in (explain(RuntimeError("ncclInvalidUsage: Duplicate GPU detected")) or "")
    assert explain(RuntimeError("shape mismatch")) is None


def test_a_lock_is_free_when_its_process_was_killed_and_its_children_live(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from utils.system.lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        print("locked", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            holder = f"process {process.pid} on"
            with pytest.raises(OptionError, match=holder), locked(tmp_path):
                pass
            process.kill()
            process.wait()
            with locked(tmp_path):
                assert str(os.getpid()) in (tmp_path / ".lock").read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_two_runs_may_check_a_folder_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check_writable, [tmp_path / "out"] * 200))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("embedding_dim", "error: --embedding_dim 9 is too large\n"),
        ("backbone", "error: --backbone 9 is too large\n"),
        (None, "error: None 9 is too large\n"),
    ],
)
def test_a_parameter_of_the_library_is_named_as_the_option(
    parameter: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ModelError(f"{parameter} 9 is too large", parameter)

    def work() -> int:
        raise error

    assert guard(work, "all is kept", "run again") == 2
    assert capsys.readouterr().err == line
