"""Ways of editing: each draws what makes one person of another, and applies it to a photograph."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from . import identity, splines, warp
from .face import Camera

Pixels = NDArray[np.uint8]


class Edit(Protocol):
    """What makes a person; plain numbers."""

    def scaled(self, strength: float) -> Self:
        """The same, stronger or weaker; 0 changes nothing."""
        ...

    def described(self) -> dict[str, Any]:
        """For a set's description."""
        ...


class Draw(Protocol):
    def __call__(self, seed: int, person: str, half: int, *more: int) -> Any: ...


class Apply(Protocol):
    def __call__(self, pixels_HW3: Pixels, camera: Camera, edit: Any) -> Pixels: ...


@dataclass(frozen=True)
class Recipe:
    """draw: an `Edit` from a key; apply: a photograph with it."""

    draw: Draw
    apply: Apply


RECIPES = {
    "bumps": Recipe(identity.draw_edit, warp.apply_edit),
    "splines": Recipe(splines.draw_splines, splines.apply_splines),
}


def self_of(recipe: str, seed: int, person: str, half: int, strength: float, *more: int) -> Any:
    """The edit of a self of a person at a strength."""
    return RECIPES[recipe].draw(seed, person, half, *more).scaled(strength)


def edited(recipe: str, pixels_HW3: Pixels, camera: Camera, edit: Any) -> Pixels:
    return RECIPES[recipe].apply(pixels_HW3, camera, edit)
