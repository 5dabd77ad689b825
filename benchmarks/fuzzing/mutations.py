"""Bytes and plain values changed at random, for files of any format."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

HUGE = 10**400

PLAIN: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, 0, -0.0, 1, -1, 2, 0.25, 0.5, 1e-300, 1e300, 2**31, 2**63, -(2**63), True, False,
    None, "", "text", "\n", "\0", "x" * 10_000, "../../etc/passwd", [], [1], [[]], {}, {"a": 1}, [0.1] * 50_000,
)  # fmt: skip
"""What JSON can hold, more or less."""
SIZES = (-1, 0, 1, 3, 31, 10**3, 10**4, 2**15, 10**6, 2**31 - 1, 2**31, 10**9, 2**63 - 1, 2**63, HUGE)


def truncated(rng: Random, data: bytes) -> bytes:
    """Cut anywhere, near its ends as often as in its middle."""
    share = rng.choice((rng.random(), rng.random() ** 4, 1 - rng.random() ** 4))
    return data[: int(share * len(data))]


def flipped(rng: Random, data: bytes) -> bytes:
    """One to eight bits are other ones."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def spans(rng: Random, data: bytes) -> bytes:
    """Some bytes overwritten, inserted, left out, or moved."""
    start = rng.randrange(len(data))
    length = min(rng.choice((1, 2, 4, 8, 100, 5000)), len(data) - start)
    other = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length), data[:length]))
    match rng.randrange(4):
        case 0:
            return data[:start] + other + data[start + length :]
        case 1:
            return data[:start] + other + data[start:]
        case 2:
            return data[:start] + data[start + length :]
    return data[:start] + data[start : start + length] * 2 + data[start + length :]


def places(value: Any, without: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every value in nested ones, containers included; `without`: entries left out."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in without:
            found.append((key,))
            found += [(key, *rest) for rest in places(item)]
    return found


def changed_at(value: Any, place: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy with another value at a place; `...` leaves it out."""
    copied = value.copy()
    if len(place) > 1:
        copied[place[0]] = changed_at(value[place[0]], place[1:], change)
        return copied
    new = change(value[place[0]])
    if new is ...:
        del copied[place[0]]
    else:
        copied[place[0]] = new
    return copied


def any_place(rng: Random, value: dict[str, Any], without: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """A place, each entry at the top as likely as the others, however large."""
    top = rng.choice([key for key in value if key not in without])
    return rng.choice([(top,), *((top, *rest) for rest in places(value[top]))])


def restructured(rng: Random, value: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Something left out, called otherwise, added, or standing where another thing belongs."""
    one, two = any_place(rng, value, without), any_place(rng, value, without)
    match rng.randrange(4):
        case 0:
            return changed_at(value, one, lambda _: ...)
        case 1:
            other = value
            for key in two:
                other = other[key]
            return changed_at(value, one, lambda _: other)
        case 2:
            return changed_at(value, one, lambda old: [old])
    return changed_at(
        value, one, lambda old: {**old, "added": 1} if isinstance(old, dict) else {"added": old}
    )
