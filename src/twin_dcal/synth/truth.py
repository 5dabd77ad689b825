"""The truth behind a set on disk: who is in each photo, under which circumstances, and where twins differ."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_dcal.errors import ConfigError
from twin_dcal.files import unfinished_message

from .canonical import Field
from .difference import difference_map, project
from .folder import META_NAME, is_complete, read_settings
from .known import Known, know
from .masks import face_mask
from .photo import Photo, draw_photo
from .settings import FORMAT_VERSION, Settings


@dataclass(frozen=True)
class Shot:
    """One photo of a set: its path below the set's folder, the key of its circumstances, its true landmarks."""

    path: str
    person: str
    family: int
    twin: int
    number: int
    landmarks: tuple[tuple[float, float], ...]
    """Pixels x, y of the eyes (viewer's left first), tip of the nose, corners of the mouth."""


@dataclass(frozen=True)
class Truth:
    """A complete set on disk. People and circumstances are drawn again from their keys, so they are exact."""

    folder: Path
    settings: Settings
    shots: tuple[Shot, ...]

    def members(self, family: int) -> list[Known]:
        """Everybody of a family with maps, in the order of `twin`; some 50 ms each, so keep what you use again."""
        return know(self.settings.people_of(family), self.settings.texels)

    def photo(self, shot: Shot) -> Photo:
        return draw_photo(self.settings.seed, shot.family, shot.twin, shot.number, self.settings.level)

    def face(self, shot: Shot, members: list[Known]) -> Field:
        """(S, S) how much of each pixel is bare face, 0 to 1."""
        known = members[shot.twin]
        return face_mask(known.person, known.maps, known.frame, self.photo(shot), self.settings.image_size)

    def differs(self, shot: Shot, members: list[Known], other: int) -> Field:
        """(S, S) how much the canonical faces of shot.twin and `other` differ where each pixel looks, 0 to 255.

        All 0 if they are the same person. Hair, glasses or background in front is not left out; times `face` it is.
        """
        known, twin = members[shot.twin], members[other]
        size = self.settings.image_size
        map_ = difference_map((known.person, known.maps), (twin.person, twin.maps), known.frame, size)
        return project(map_, known.person, known.maps, known.frame, self.photo(shot))


def read_truth(folder: str | Path) -> Truth:
    """ConfigError for a folder without a complete set, or one of another version of this package."""
    folder = Path(folder)
    kept = read_settings(folder)
    if kept.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{folder} was drawn by another version of this package (format {kept.get('format_version')}, not "
            f"{FORMAT_VERSION}). Draw it again with --overwrite."
        )
    try:
        settings = Settings(**kept)
    except TypeError:
        raise ConfigError(f"{folder / 'synth.json'} holds other settings than dcal-synth writes.") from None
    if not is_complete(folder):
        raise ConfigError(unfinished_message(folder))
    with (folder / META_NAME).open(encoding="utf-8") as lines:
        shots = tuple(_shot(json.loads(line)) for line in lines)
    return Truth(folder, settings, shots)


def _shot(record: dict[str, Any]) -> Shot:
    points = tuple((float(x), float(y)) for x, y in record["landmarks"])
    return Shot(record["path"], record["person"], record["family"], record["twin"], record["number"], points)
