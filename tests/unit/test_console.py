"""Progress: a bar on a terminal, and without one a line now and then."""

from __future__ import annotations

import io

import pytest

from utils.system import console
from utils.system.console import Pace, duration, progress, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def go(clock: list[float], seconds: float, **options) -> None:
    for _ in progress([[0] * 10] * 20, 200, "bottle", "fit", **options):
        clock[0] += seconds


def test_without_a_terminal_there_is_a_line_every_thirty_seconds(clock, capsys) -> None:
    go(clock, 7.0)
    assert capsys.readouterr().err.splitlines() == [
        "bottle: fit 50 of 200, about 2 min left",
        "bottle: fit 100 of 200, about 70 s left",
        "bottle: fit 150 of 200, about 35 s left",
        "bottle: fit 200 of 200",
    ]


@pytest.mark.parametrize(("seconds", "options"), [(1.0, {}), (60.0, {"is_shown": False})])
def test_what_is_short_or_not_to_be_shown_has_no_line(clock, capsys, seconds, options) -> None:
    go(clock, seconds, **options)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    for _ in progress([[0] * 10] * 20, 200, "bottle", "fit"):
        say("a line")
    assert "bottle: fit" in terminal.getvalue()
    assert "%|" in terminal.getvalue()
    assert " of 200" not in terminal.getvalue()
    assert terminal.getvalue().count("a line\n") == 20


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1 h 40 min")],
)
def test_a_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_is_left_is_said_if_it_is_known(clock) -> None:
    pace = Pace(4)
    assert pace.left() == ""
    clock[0] += 10
    pace.done = 1
    assert pace.left() == "about 30 s left"
    pace.done = 4
    assert pace.left() == ""
