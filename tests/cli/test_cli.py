"""The garbage collector while a script imports."""

from __future__ import annotations

import gc

import pytest

from utils.cli.main import importing


def test_the_collector_rests_while_modules_are_imported() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_the_collector_goes_on_after_a_failed_import() -> None:
    with pytest.raises(ImportError), importing():
        import utils.there_is_no_such_module  # noqa: F401
    assert gc.isenabled()
