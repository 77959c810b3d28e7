"""Checks of decoded JSON: a wrong type, or a missing or infinite value, is a ``ValueError``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Fields:
    """The values of a JSON object, each checked when it is taken.

    Args:
        content: decoded JSON.

    Raises:
        ValueError: it is no object.
    """

    def __init__(self, content: object) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"a JSON object is expected, not {shown(content)}")
        self._content = dict(content)

    def take(self, name: str, check: Callable[[object], T]) -> T:
        """The value of a name, checked.

        Raises:
            ValueError: it is missing, or not as it should be.
        """
        if name not in self._content:
            raise ValueError(f"{name} is missing")
        try:
            return check(self._content.pop(name))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def rest(self) -> dict[str, Any]:
        """The values that have not been taken, unchecked."""
        return dict(self._content)

    def __enter__(self) -> Fields:
        """Require that a ``with`` block takes all values; otherwise raise ``ValueError``."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is None:
            for name in self._content:
                raise ValueError(f"{name} is unknown")


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"text is expected, not {shown(value)}")
    return value


def number(value: object) -> float:
    """A finite number, within the range of a double."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise ValueError(f"a finite number is expected, not {shown(value)}")
    return value


def share(value: object) -> float:
    """A number from 0 to 1."""
    if not 0 <= number(value) <= 1:
        raise ValueError(f"a number from 0 to 1 is expected, not {shown(value)}")
    return number(value)


def count(value: object) -> int:
    """A whole number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"a count is expected, not {shown(value)}")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"true or false is expected, not {shown(value)}")
    return value


def optional(check: Callable[[object], T]) -> Callable[[object], T | None]:
    """A check that lets None pass too."""
    return lambda value: None if value is None else check(value)


def several(check: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """A check of a list of such values."""

    def checked(value: object) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"a list is expected, not {shown(value)}")
        return tuple(check(item) for item in value)

    return checked


def mapping(check: Callable[[object], T]) -> Callable[[object], dict[str, T]]:
    """A check of an object of any names and such values."""

    def checked(value: object) -> dict[str, T]:
        fields = Fields(value)
        return {name: fields.take(name, check) for name in value}  # type: ignore[attr-defined]

    return checked


def shown(value: object) -> str:
    """A value for messages: itself if it is short, otherwise its start."""
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__}"
    try:
        written = repr(value)
    except ValueError:  # Python writes out no integer of thousands of digits
        return "a huge number"
    return written if len(written) <= 40 else f"{written[:37]}..."


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest double
        return False
