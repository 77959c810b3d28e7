"""JSON files as no one should have them: whole ones with something wrong, drawn from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**400, 2**63, 1e308, -0.0, float("nan"), float("inf")),
    *("", "x", "\udcff\n", "../../x", "a\0b", [], {}, [[]], {"a": {}}, [1, "2"]),
)


def mutate(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Do something to a JSON file; returns what was done, and the bytes."""
    change = draw.choice((*BYTES, *VALUE))
    if change in BYTES:
        return change.__name__, change(content, draw)
    whole = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        change(_place(whole, draw), draw)
    return change.__name__, json.dumps(whole).encode()


def _place(whole: Any, draw: random.Random) -> Any:
    """An object or a list that is not empty, anywhere inside."""
    places, waiting = [], [whole]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            places += [value] * bool(value)
            waiting += value.values() if isinstance(value, dict) else value
    return draw.choice(places or [{}])


def _key(place: Any, draw: random.Random) -> Any:
    return draw.choice(list(place) if isinstance(place, dict) else range(len(place)))


def another_value(place: Any, draw: random.Random) -> None:
    if place:
        place[_key(place, draw)] = copy.deepcopy(draw.choice(VALUES))


def another_number(place: Any, draw: random.Random) -> None:
    for key in list(place) if isinstance(place, dict) else range(len(place)):
        if isinstance(place[key], float):
            place[key] += 1e-9


def a_missing_value(place: Any, draw: random.Random) -> None:
    if place:
        del place[_key(place, draw)]


def one_more_value(place: Any, draw: random.Random) -> None:
    if isinstance(place, dict):
        place[draw.choice(("more", "settings", "version", ""))] = copy.deepcopy(draw.choice(VALUES))
    else:
        place.append(copy.deepcopy(draw.choice(VALUES)))


def deep_inside(place: Any, draw: random.Random) -> None:
    nested: Any = 1
    for _ in range(draw.choice((3, 300))):
        nested = [nested]
    if place:
        place[_key(place, draw)] = nested


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped_bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def a_piece_twice(content: bytes, draw: random.Random) -> bytes:
    first, last = sorted(draw.sample(range(len(content)), 2))
    return content[:last] + content[first:]


def garbage(content: bytes, draw: random.Random) -> bytes:
    return draw.choice(
        (
            *(b"", b"null", b"[]", b"{}", b"3", b'"text"', b"\0" * 500, b"\xff\xfe{}", b"NaN"),
            *(b"[" * 10**6, b'{"a":' * 10**5, b"9" * 10**5, b'{"version": 5}', draw.randbytes(400)),
        )
    )


def another_encoding(content: bytes, draw: random.Random) -> bytes:
    return content.decode().encode(draw.choice(("utf-16", "utf-32", "utf-8-sig")))


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(cut, flipped_bits, a_piece_twice, garbage, another_encoding),
)
VALUE: tuple[Callable[[Any, random.Random], None], ...] = (
    *(another_value, another_number, a_missing_value, one_more_value, deep_inside),
)
