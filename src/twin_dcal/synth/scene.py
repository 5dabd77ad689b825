"""What a photo looks at: for every pixel a point of the face, before any light.

Legend: S pixels a side; fields are (S, S) float32, colours (S, S, 3) linear light. x, y are face coordinates of what
each pixel shows, X, Y (`plane_x`, `plane_y`) those of the plane of the picture, before turning the head.
"""

from typing import NamedTuple

import numpy as np

from .camera import FRAME_HALF, Depth, View, face_coordinates, plane_coordinates, view_of
from .canonical import Field, Maps, bump
from .identity import Geometry, Person
from .photo import Photo


class Scene(NamedTuple):
    """What is seen at each pixel."""

    plane_x: Field
    plane_y: Field
    x: Field
    y: Field
    z: Field
    texture_x: Field
    """Where on the maps at rest: x, y without the expression."""
    texture_y: Field
    pixel: float
    """Side of a pixel in face units."""


def look(person: Person, maps: Maps, frame: Maps, photo: Photo, size: int) -> tuple[Scene, View]:
    """Scene and view of one photo; `frame` holds the maps of the family's geometry, by which the crop is aligned."""
    view = view_of(person.frame, Depth(frame.height), photo)
    plane_x, plane_y = plane_coordinates(size, view)
    x, y, z = face_coordinates(plane_x, plane_y, maps.height, view)
    texture_x, texture_y = at_rest(person.geometry, photo, x, y)
    return Scene(plane_x, plane_y, x, y, z, texture_x, texture_y, 2 * FRAME_HALF / size), view


def at_rest(face: Geometry, photo: Photo, x: Field, y: Field) -> tuple[Field, Field]:
    """Where each point of the face lies on the face at rest: the inverse of smile, open mouth and raised brows."""
    drop = 0.16 * photo.mouth_open
    ramp = np.clip((y - face.mouth_y) / (face.chin_y - face.mouth_y - 0.1), 0, 1.3)
    side = np.abs(x)
    back_y = y - np.float32(drop) * ramp
    if photo.smile:
        back_y += np.float32(0.07 * photo.smile) * bump(side, y, (0.5, 0.62), (0.30, 0.25))
        wide = np.float32(0.05 * photo.smile) * bump(side, y, (face.mouth_width, face.mouth_y), (0.25, 0.2))
        x = x - np.sign(x) * wide
    if photo.brow_raise:
        back_y += np.float32(photo.brow_raise) * bump(side, y, (face.eye_x, face.brow_y), (0.4, 0.16))
    return x, back_y


def cover(distance: Field, pixel: float) -> Field:
    """How much of a pixel lies inside an outline, from the distance to it: 0 to 1."""
    amount = distance * np.float32(-1 / (1.5 * pixel))
    amount += np.float32(0.5)
    return np.clip(amount, 0, 1, out=amount)


def blend(below: Field, above: Field, amount: Field) -> Field:
    """`above` (colours, or one colour) laid over `below` by `amount` (…), 0 to 1."""
    mixed = above - below
    mixed *= amount[..., None]
    mixed += below
    return mixed
