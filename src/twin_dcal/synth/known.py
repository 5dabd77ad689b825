"""A person with the maps photos are taken from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import Points
from .canonical import Maps, paint
from .identity import Person
from .photo import Photo
from .render import develop, expose, take


@dataclass(frozen=True, eq=False)
class Known:
    """A person with maps, and the family's by which crops are aligned."""

    person: Person
    maps: Maps
    frame: Maps

    def take(self, photo: Photo, size: int) -> tuple[NDArray[np.uint8], Points]:
        """Pixels (S, S, 3) and the true landmarks (5, 2) of a photo."""
        return take(self.person, self.maps, self.frame, photo, size)

    def ideal(self, photo: Photo, size: int) -> NDArray[np.float64]:
        """The photo (S, S, 3) as it would be without noise, 0 to 255."""
        still = photo._replace(noise=0.0)
        return develop(expose(self.person, self.maps, self.frame, still, size), still).astype(np.float64)


def know(people: Sequence[Person], texels: int) -> list[Known]:
    """All people of one family, with maps of `texels` a side."""
    frame = paint(people[0]._replace(geometry=people[0].frame, marks=()), texels)
    return [Known(person, paint(person, texels), frame) for person in people]
