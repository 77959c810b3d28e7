"""Names of files that are derived from other names: short enough, and unlike each other."""

from __future__ import annotations

import unicodedata
from hashlib import sha256
from os import fsencode

MAX_NAME = 200  # bytes of a file or folder name; leaves room for what is put around it


def shortened(name: str, n_bytes: int = MAX_NAME) -> str:
    """The name, or if it is longer than ``n_bytes``, its start and its checksum."""
    encoded = fsencode(name)
    if len(encoded) <= n_bytes:
        return name
    start = encoded[: n_bytes - 17].decode("utf-8", "ignore")
    return f"{start}~{sha256(encoded).hexdigest()[:16]}"


class FreeNames:
    """Gives out names, each once.

    Names count as equal if a file system may take them for one: Windows and macOS ignore the case
    of letters, macOS also how an accented letter is encoded.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, *suffixes: str) -> str:
        """The name, with a number behind it if the name or that of a file of it is taken.

        Args:
            name: of a file, or a path with ``/`` between its parts. Long parts are shortened.
            suffixes: of the files that get this name.
        """
        base = free = self.cut(name)
        number = 1
        while not self._taken.isdisjoint(files := {_folded(free + one) for one in suffixes}):
            number += 1
            free = f"{base}~{number}"
        self._taken |= files
        return free

    def reserve(self, path: str) -> None:
        """Keep a path, that of a folder for example, from being taken."""
        self._taken.add(_folded(self.cut(path)))

    @staticmethod
    def cut(path: str) -> str:
        """The path with each of its parts shortened."""
        return "/".join(shortened(part) for part in path.split("/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
