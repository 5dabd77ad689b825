"""A contact sheet: families by photos, for a look at what a data set holds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.files import replacing

from .difference import canonical_face, difference_map
from .known import Known, know
from .photo import draw_photo
from .settings import Settings

JPEG_QUALITY = 80
_HEAT = np.array([3.0, 1.5, 0.5])
"""Brightness of a difference of 1, per channel."""


def write_contact_sheet(path: str | Path, settings: Settings) -> Path:
    """One row a person: the canonical face, where it differs from a twin's, then `settings.images` photos.

    JPEG if the name ends in .jpg or .jpeg, PNG otherwise.
    """
    path = Path(path)
    families = [know(settings.people_of(family), settings.texels) for family in range(settings.families)]
    rows = [_row(known, members, settings) for members in families for known in members]
    with replacing(path) as file:
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        Image.fromarray(np.concatenate(rows)).save(
            file, format="JPEG" if is_jpeg else "PNG", quality=JPEG_QUALITY
        )
    return path


def _row(known: Known, members: Sequence[Known], settings: Settings) -> NDArray[np.uint8]:
    size, person = settings.image_size, known.person
    canonical = canonical_face(person, known.maps, known.frame, size)
    photos = [
        known.take(draw_photo(settings.seed, person.family, person.twin, number, settings.level), size)[0]
        for number in range(settings.images)
    ]
    return np.concatenate([canonical, _heat(known, members, size), *photos], axis=1)


def _heat(known: Known, members: Sequence[Known], size: int) -> NDArray[np.uint8]:
    """The difference map to the first other member of the family; black for a single person."""
    other = next((member for member in members if member is not known), known)
    differs = difference_map((known.person, known.maps), (other.person, other.maps), known.frame, size)
    return np.asarray(np.clip(differs[..., None] * _HEAT, 0, 255), dtype=np.uint8)
