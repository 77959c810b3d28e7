"""Signals that stop a script: noted when they come, acted upon between two steps.

An exception raised by a signal's handler appears anywhere: within an import, a lock, a finaliser
that swallows it. So the handler notes the signal, and ``check_stop`` raises ``Stopped``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE = 10.0  # seconds between a signal and the next check, at most
TOGETHER = 0.5  # seconds; ``timeout`` and others send a signal to a process and then to its group


class Stopped(BaseException):
    """A signal asked the script to stop. Not an ``Exception``, so that nothing else handles it.

    Attributes:
        status: the exit status, 128 and the number of the signal.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Stop:
    """What is known of signals in this process."""

    def __init__(self) -> None:
        self.status = 0
        self.noted = 0.0  # when the first signal came
        self.is_raised = self.is_said = False
        self.line = "stopped"


_stop = _Stop()


def heed_signals() -> None:
    """Note SIGINT, SIGTERM and SIGHUP from now on. Those that the caller ignores stay ignored."""
    for name in STOPPING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _hurry)


def check_stop() -> None:
    """Called between two steps of the work.

    Raises:
        Stopped: a signal came; once, so that what is finished can still be written.
    """
    if _stop.status and not _stop.is_raised:
        _stop.is_raised = True
        _set_alarm(0)
        raise Stopped(_stop.status)


def stop_status() -> int:
    """The exit status of a script that a signal stops; 0 if none came."""
    return _stop.status


def end_well() -> None:
    """The signal was the usual way to end this work, and everything is written: status 0."""
    _stop.status, _stop.is_raised = 0, False


def set_stop_line(line: str) -> None:
    """Say what ``say_stopped`` writes."""
    _stop.line = line


def say_stopped() -> None:
    """Write the line of a stopped script, once; of several processes the first one writes it."""
    if not _stop.is_said and is_first_process():
        _stop.is_said = True
        with suppress(OSError):
            os.write(2, f"{_stop.line}\n".encode())


def is_first_process() -> bool:
    """Whether this process, of those that ``torchrun`` started, is the one that speaks."""
    rank = os.environ.get("RANK", "0")
    return os.environ.get("WORLD_SIZE", "1") == "1" or not rank.isdecimal() or int(rank) == 0


def _note(number: int, _frame: object) -> None:
    if not _stop.status:
        _stop.status, _stop.noted = 128 + number, time.monotonic()
        _set_alarm(PATIENCE)
    elif time.monotonic() - _stop.noted > TOGETHER:
        _hurry()


def _hurry(*_signal: object) -> None:
    """End at once. Files are complete or hidden, so nothing half-written has its final name."""
    say_stopped()
    multiprocessing = sys.modules.get("multiprocessing")  # without it there are no workers
    if multiprocessing is not None:
        with suppress(Exception):
            for process in multiprocessing.active_children():
                process.kill()
    os._exit(_stop.status)


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
