"""A contact sheet of edited twins: each photograph as it is, as every self of its person, and where those differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.errors import ConfigError
from twin_dcal.files import replacing
from twin_dcal.plural import plural

from .dataset import Person, Settings, detector, read_people
from .difference import difference_map
from .looking import Seen, look
from .recipes import edited

Pixels = NDArray[np.uint8]

_QUALITY = 88
_HEAT = np.array([3.0, 1.5, 0.5])
"""Brightness of a difference of 1, per channel."""
_GAP = 6  # pixels between photographs


def write_contact_sheet(
    path: str | Path, faces: str | Path, settings: Settings, *, people: int, photos: int, side: int
) -> Path:
    """Draw a sheet: a row for each of some people, for each of some photographs the original, the selves, the map.

    People are drawn from the seed. JPEG if the name ends in .jpg or .jpeg, PNG otherwise.
    ConfigError where nobody has so many photographs that can be edited.
    """
    path = Path(path)
    rows: list[Pixels] = []
    everybody = read_people(faces, settings.seed)
    for at in np.random.default_rng((17, settings.seed)).permutation(len(everybody)).tolist():
        row = _row(everybody[at], settings, photos, side)
        if row is not None:
            rows.append(row)
        if len(rows) == people:
            break
    if not rows:
        raise ConfigError(
            f"{faces}: nobody has {plural(photos, 'photograph')} that can be edited; ask for fewer with --images"
        )
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    with replacing(path) as file:
        Image.fromarray(np.concatenate(rows)).save(
            file, format="JPEG" if is_jpeg else "PNG", quality=_QUALITY
        )
    return path


def _row(person: Person, settings: Settings, photos: int, side: int) -> Pixels | None:
    seen: list[Seen] = []
    for path in person.paths:
        if len(seen) == photos:
            break
        found = look(path, detector(), settings.limits)
        if isinstance(found, Seen):
            seen.append(found)
    if len(seen) < photos:
        return None
    edits = [settings.edit(person.name, half) for half in range(settings.selves)]
    gap = np.full((side + _GAP, _GAP, 3), 255, np.uint8)
    parts: list[Pixels] = []
    for shot in seen:
        versions = [edited(settings.recipe, shot.pixels, shot.camera, edit) for edit in edits]
        heat = np.clip(difference_map(versions[0], versions[1])[..., None] * _HEAT, 0, 255).astype(np.uint8)
        parts += [*_cells([shot.pixels, *versions, heat], side), gap]
    return np.concatenate(parts[:-1], axis=1)


def _cells(pictures: Sequence[Pixels], side: int) -> list[Pixels]:
    """Pictures at one size, each with a white line below."""
    line = np.full((_GAP, side, 3), 255, np.uint8)
    sized = [Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS) for pixels in pictures]
    return [np.concatenate([np.asarray(picture), line]) for picture in sized]
