"""Hair: colour and hairline are the family's, length, volume, fringe, parting and strands each photo's own."""

import numpy as np
from numpy.typing import NDArray

from .canonical import CHEEK_Y, Field, hair_colour
from .identity import Person
from .photo import Photo
from .scene import Scene, blend, cover

LONG = 0.3
"""Above this length hair hangs beside the face and hides the ears."""


class Strands:
    """Light and dark strands: a random function of the direction of growth."""

    def __init__(self, key: int) -> None:
        self._table = np.random.default_rng(key).normal(0, 1, 256).astype(np.float32)

    def __call__(self, direction: Field) -> Field:
        place = direction * np.float32(256)
        whole = np.floor(place)
        left: NDArray[np.intp] = whole.astype(np.intp)
        first, second = self._table.take(left, mode="wrap"), self._table.take(left + 1, mode="wrap")
        return np.asarray(first + (place - whole) * (second - first))


def paint_behind(picture: Field, person: Person, photo: Photo, scene: Scene, strands: Strands) -> Field:
    """Hair that hangs behind the face, down both sides."""
    if photo.hair_length <= LONG:
        return picture
    x, y = scene.plane_x, scene.plane_y
    width = person.frame.cheek_width * (1.10 + 1.3 * photo.hair_volume)
    end = np.float32(0.6 + 1.4 * photo.hair_length)
    wave = np.float32(0.04) * np.sin(6 * y + photo.parting * 20)
    sides = np.abs(x + wave) - np.float32(width) - np.float32(0.12) * np.clip(y, 0, 2)
    above = np.minimum(y, 0) / np.float32(0.2 - person.frame.top_y)
    crown = np.hypot(x / np.float32(width), above) - 1
    distance = np.maximum(np.maximum(sides, np.where(y < 0, crown, -1)), y - end)
    strand = strands(x * np.float32(0.45) + wave)
    return _painted(picture, person, cover(distance, scene.pixel), 0.6 + 0.10 * strand)


def paint_front(picture: Field, person: Person, photo: Photo, scene: Scene, strands: Strands) -> Field:
    """Hair over skull, forehead and temples."""
    x, y = scene.x, scene.y
    angle = np.arctan2(x - np.float32(photo.parting), np.float32(0.9) - y)
    strand = strands(angle * np.float32(0.35) + np.float32(0.02) * y)
    gloss = np.exp(-(((_height_on_skull(person, photo, y) - np.float32(0.8)) / np.float32(0.14)) ** 2))
    tone = np.float32(0.8) + np.float32(0.12) * strand + np.float32(0.35) * gloss
    return _painted(picture, person, front_cover(person, photo, scene), tone)


def front_cover(person: Person, photo: Photo, scene: Scene) -> Field:
    """(S, S) how much of each pixel is hair in front of skull and face, 0 to 1."""
    x, y = scene.x, scene.y
    dome_x = np.abs(x) / np.float32(person.frame.cheek_width * (1.03 + 0.6 * photo.hair_volume))
    dome_y = _height_on_skull(person, photo, y)
    outer = ((dome_x**2.4 + dome_y**2.4) ** np.float32(1 / 2.4) - 1) * np.float32(1.1)
    distance = np.maximum(outer, y - _hairline(person, photo, x))
    return cover(distance, 1.6 * scene.pixel)


def _height_on_skull(person: Person, photo: Photo, y: Field) -> Field:
    """0 at the cheekbones and below, 1 at the top of the hair."""
    top = CHEEK_Y - person.frame.top_y + photo.hair_volume * 1.3
    return np.asarray(np.maximum(np.float32(CHEEK_Y) - y, 0) / np.float32(top))


def _hairline(person: Person, photo: Photo, x: Field) -> Field:
    """The y below which the skin is bare, at each x: high over the forehead, down the temples to the ears."""
    face = person.frame
    side = np.abs(x) / np.float32(face.cheek_width)
    temples = np.clip((side - np.float32(0.45)) / np.float32(0.52), 0, 1)
    low = 0.15 + 0.9 * max(photo.hair_length - LONG, 0)
    rise = np.float32(face.hairline_y) + temples**3 * np.float32(low - face.hairline_y)
    fringe = (
        np.float32(photo.fringe * 0.42)
        * (1 - temples)
        * (1 - np.float32(0.3) * np.cos(9 * x + photo.parting))
    )
    return np.asarray(rise + fringe + np.float32(0.12 * photo.parting) * x + np.float32(0.06) * x * x)


def _painted(picture: Field, person: Person, amount: Field, tone: Field) -> Field:
    colour = hair_colour(person.skin)
    return blend(picture, colour * np.clip(tone, 0.25, 1.6)[..., None], amount)
