"""The errors that the library raises. Each message is one line and says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PaDiMError(ValueError):
    """Base class of the library's errors.

    Args:
        message: one line that names the value, what was expected and how to fix it.
        parameter: the parameter at fault, if the message starts with its name.
    """

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class ModelError(PaDiMError):
    """A parameter, a weights file or a model file cannot be used."""


class DeviceMemoryError(ModelError):
    """A device has too little memory for the smallest block of work."""


class NotFittedError(ModelError):
    """The model has to be fitted first."""


class ImageError(PaDiMError):
    """An image cannot be read, or has a type, shape or size that cannot be used."""


def short_text(text: str) -> str:
    """Shorten a text from a file to one line of a message."""
    return text if text.isprintable() and len(text) < 300 else repr(text[:100])


def unknown_name(parameter: str, given: object, known: Iterable[str]) -> ModelError:
    """The error for an unknown name; it suggests the nearest known one.

    Args:
        parameter: what was given, such as ``reduction``.
        given: the unknown name.
        known: all known names.
    """
    names = list(known)
    hint = nearest_name(given, names)
    there = ", ".join(names) if len(names) < 100 else f"{len(names)} names"
    return ModelError(
        f"{parameter} {short_text(repr(given))} is unknown{hint or ';'} expected one of {there}",
        parameter,
    )


def nearest_name(given: object, known: Iterable[str]) -> str:
    """``; did you mean NAME?`` with the nearest of the known names; nothing if none is near."""
    nearest = get_close_matches(str(given)[:100], list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
