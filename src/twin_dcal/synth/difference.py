"""Where two twins differ: a map of the face itself, and the same map seen in any photo of either.

The canonical face is a photo of nobody's circumstances: frontal, at rest, evenly lit, no noise. Two twins' canonical
faces differ in their marks and in their own deviations of geometry, and nowhere else.
"""

import numpy as np
from numpy.typing import NDArray

from .camera import sample
from .canonical import CENTRE_Y, HALF, Field, Maps
from .identity import Person
from .photo import Photo
from .render import develop, expose
from .scene import look

CANONICAL = Photo()


def canonical_face(person: Person, maps: Maps, frame: Maps, size: int) -> NDArray[np.uint8]:
    """(S, S, 3) uint8."""
    return develop(expose(person, maps, frame, CANONICAL, size), CANONICAL)


def difference_map(
    one: tuple[Person, Maps], other: tuple[Person, Maps], frame: Maps, size: int
) -> NDArray[np.uint8]:
    """(S, S) uint8: the largest difference of the colour channels of the two canonical faces, 0 where they agree."""
    faces = [canonical_face(person, maps, frame, size).astype(np.int16) for person, maps in (one, other)]
    return np.asarray(np.abs(faces[0] - faces[1]).max(axis=-1), dtype=np.uint8)


def project(difference: NDArray[np.uint8], person: Person, maps: Maps, frame: Maps, photo: Photo) -> Field:
    """The difference map where it is seen in a photo of `person`: (S, S) float32, 0 to 255, of the map's size.

    Pixels of hair, glasses or background that cover the face are not left out.
    """
    size = difference.shape[0]
    canonical, _ = look(person, maps, frame, CANONICAL, size)
    texture = _on_maps(difference.astype(np.float32), canonical.x, canonical.y, maps.size)
    scene, _ = look(person, maps, frame, photo, size)
    return sample(texture, scene.texture_x, scene.texture_y)


def _on_maps(values: Field, x: Field, y: Field, texels: int) -> Field:
    """Pixels of the canonical photo carried to the maps. At the front, x runs along rows alone and y along columns."""
    line = (np.arange(texels) + 0.5) * (2 * HALF / texels) - HALF
    rows = np.array([np.interp(line, x[row], values[row], left=0, right=0) for row in range(len(values))])
    middle = y[:, y.shape[1] // 2]
    return np.stack(
        [np.interp(line + CENTRE_Y, middle, column, left=0, right=0) for column in rows.T], axis=1
    ).astype(np.float32)
