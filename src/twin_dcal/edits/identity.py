"""Who an edited person is: small changes of a face's shape and a few marks, drawn from a key.

Lengths are in eye distances, places in face coordinates (`face`). numpy only.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_KEY = 14  # first entry of the keys of this module's generators
_MOST = 2.2  # standard deviations at which a change is cut off
_APART = 0.16  # least distance between two marks
_TRIES = 200


class Bump(NamedTuple):
    """A smooth change around one place: its pixels move by shift + linear (place - centre), times a Gaussian window."""

    centre: tuple[float, float]
    width: tuple[float, float]
    """Standard deviations of the window along u and v."""
    shift: tuple[float, float] = (0.0, 0.0)
    linear: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """u by u, u by v, v by u, v by v."""


class Trait(NamedTuple):
    """One thing that edits change: bumps for a change of 1, and the standard deviation of changes at strength 1."""

    name: str
    spread: float
    bumps: tuple[Bump, ...]


def _both(
    centre: tuple[float, float], width: tuple[float, float], shift: tuple[float, float]
) -> tuple[Bump, ...]:
    """A shift on the right of the face, and its mirror image on the left."""
    (u, v), (du, dv) = centre, shift
    return Bump((u, v), width, (du, dv)), Bump((-u, v), width, (-du, dv))


_EYE = (0.21, 0.15)

TRAITS: tuple[Trait, ...] = (
    Trait("eye distance", 0.022, _both((0.5, 0.0), (0.26, 0.22), (1, 0))),
    Trait("eye height", 0.017, _both((0.5, 0.0), (0.27, 0.20), (0, 1))),
    Trait("eye size", 0.077, tuple(Bump((u, 0.0), _EYE, linear=(0.6, 0, 0, 1)) for u in (-0.5, 0.5))),
    Trait("eye tilt", 0.077, tuple(Bump((u, 0.0), _EYE, linear=(0, 0, 2 * u, 0)) for u in (-0.5, 0.5))),
    Trait("brow height", 0.024, _both((0.5, -0.32), (0.32, 0.13), (0, 1))),
    Trait("brow tilt", 0.018, _both((0.25, -0.30), (0.16, 0.13), (0, 1)) + _both((0.8, -0.32), (0.16, 0.13), (0, -1))),
    Trait("nose width", 0.028, _both((0.20, 0.58), (0.14, 0.15), (1, 0))),
    Trait("nose length", 0.027, (Bump((0, 0.60), (0.22, 0.17), (0, 1)),)),
    Trait("nose bridge", 0.014, _both((0.12, 0.15), (0.10, 0.22), (1, 0))),
    Trait("nose aside", 0.013, (Bump((0, 0.58), (0.22, 0.20), (1, 0)),)),
    Trait("mouth width", 0.027, _both((0.42, 1.06), (0.20, 0.16), (1, 0))),
    Trait("mouth height", 0.025, (Bump((0, 1.06), (0.48, 0.17), (0, 1)),)),
    Trait("mouth corners", 0.015, _both((0.42, 1.06), (0.16, 0.14), (0, 1))),
    Trait("upper lip", 0.014, (Bump((0, 0.97), (0.28, 0.06), (0, -1)),)),
    Trait("lower lip", 0.017, (Bump((0, 1.19), (0.26, 0.07), (0, 1)),)),
    Trait("jaw", 0.038, _both((0.86, 1.00), (0.24, 0.36), (1, 0))),
    Trait("chin length", 0.038, (Bump((0, 1.62), (0.40, 0.22), (0, 1)),)),
    Trait("chin width", 0.028, _both((0.42, 1.52), (0.22, 0.22), (1, 0))),
    Trait("cheeks", 0.032, _both((0.90, 0.45), (0.24, 0.28), (1, 0))),
    Trait("cheek fullness", 0.021, _both((0.58, 0.72), (0.20, 0.24), (0.4, 1))),
)  # fmt: skip


class Mark(NamedTuple):
    """A mole or freckle."""

    u: float
    v: float
    radius: float
    darkening: float
    """Share of light lost at its middle, at strength 1."""
    long: float
    """How many times longer than wide."""
    turn: float
    """Radians by which its length is turned."""
    tint: tuple[float, float, float]
    """What red, green and blue lose of that share."""


@dataclass(frozen=True)
class Edit:
    """What makes one person of another: the change of each of TRAITS in their units, and marks."""

    changes: tuple[float, ...]
    marks: tuple[Mark, ...]

    def scaled(self, strength: float) -> "Edit":
        """The same edit, stronger or weaker; 0 changes nothing."""
        marks = tuple(mark._replace(darkening=min(mark.darkening * strength, 0.75)) for mark in self.marks)
        return Edit(tuple(change * strength for change in self.changes), marks if strength else ())

    def described(self) -> dict[str, Any]:
        """By name, in the units of `TRAITS` (eye distances, radians, shares)."""
        changes = {trait.name: round(change, 5) for trait, change in zip(TRAITS, self.changes, strict=True)}
        marks = [{key: _rounded(value) for key, value in mark._asdict().items()} for mark in self.marks]
        return {"changes": changes, "marks": marks}

    @property
    def bumps(self) -> tuple[Bump, ...]:
        """Everything that moves, with its size."""
        return tuple(
            Bump(
                bump.centre,
                bump.width,
                (bump.shift[0] * change, bump.shift[1] * change),
                tuple(value * change for value in bump.linear),  # type: ignore[arg-type]
            )
            for trait, change in zip(TRAITS, self.changes, strict=True)
            for bump in trait.bumps
            if change
        )


def _rounded(value: Any) -> Any:
    return [round(each, 5) for each in value] if isinstance(value, tuple) else round(value, 5)


def draw_edit(seed: int, person: str, half: int, *more: int) -> Edit:
    """The edit of one half of a person's photographs; the same key draws the same edit.

    Args: more: anything else that the edit shall depend on, such as the epoch.
    """
    rng = np.random.default_rng((_KEY, seed, key_of(person), half, *more))
    sizes = np.clip(rng.standard_normal(len(TRAITS)), -_MOST, _MOST)
    changes = tuple(float(size * trait.spread) for size, trait in zip(sizes, TRAITS, strict=True))
    return Edit(changes, tuple(_draw_marks(rng)))


def key_of(person: str) -> int:
    """A number of 64 bits for an id, the same on every machine."""
    return int.from_bytes(hashlib.sha256(person.encode("utf-8", "surrogateescape")).digest()[:8], "big")


def _draw_marks(rng: np.random.Generator) -> list[Mark]:
    marks: list[Mark] = []
    wanted = int(rng.integers(2, 5))
    for _ in range(_TRIES):
        u, v = float(rng.uniform(-0.95, 0.95)), float(rng.uniform(-0.75, 1.75))
        if is_cheek_or_brow(u, v) and all(np.hypot(u - mark.u, v - mark.v) >= _APART for mark in marks):
            marks.append(_draw_mark(rng, u, v))
        if len(marks) == wanted:
            break
    return marks


def _draw_mark(rng: np.random.Generator, u: float, v: float) -> Mark:
    return Mark(
        u, v,
        radius=float(rng.uniform(0.012, 0.030)),
        darkening=float(rng.uniform(0.15, 0.50)),
        long=float(rng.uniform(1.0, 1.35)),
        turn=float(rng.uniform(0, np.pi)),
        tint=(float(rng.uniform(0.65, 0.85)), 1.0, float(rng.uniform(1.0, 1.1))),
    )  # fmt: skip


def is_cheek_or_brow(u: float, v: float) -> bool:
    """Whether a mark may lie there: within the face, not on eyes, brows, nostrils or lips."""
    inside = (u / 0.95) ** 2 + ((v - 0.52) / 1.22) ** 2 < 1
    eyes_and_brows = abs(abs(u) - 0.5) < 0.36 and -0.48 < v < 0.17
    nostrils = abs(u) < 0.26 and 0.60 < v < 0.76
    lips = abs(u) < 0.52 and 0.88 < v < 1.27
    return inside and not (eyes_and_brows or nostrils or lips)
