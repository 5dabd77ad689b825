"""The truth behind a set of edited twins on disk: in each photograph, where its person differs from a twin."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.data.formats import pixel_size
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.files import unfinished_message

from .difference import face_area
from .face import fit_camera
from .folder import META_NAME, is_complete, map_name

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Shot:
    """One photograph of a set; landmarks are those of the photograph it was made of, angles in degrees."""

    path: str
    person: str
    source_person: str
    landmarks: tuple[tuple[float, float], ...]
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Truth:
    """A complete set on disk."""

    folder: Path
    shots: tuple[Shot, ...]

    def differs(self, shot: Shot, other: str) -> Field:
        """(H, W) 0 to 255: how much the photograph would look different if it were edited to be `other`, its twin.

        ConfigError where the map cannot be read.
        """
        path = self.folder / map_name(shot.path, other)
        try:
            return decode_pixels(read_bytes(path), path)[..., 0].astype(np.float32)  # grey
        except ImageError as error:
            raise ConfigError(f"the difference map cannot be read: {error}") from None

    def face(self, shot: Shot) -> Field:
        """(H, W) how much of each pixel is face."""
        data = read_bytes(self.folder / shot.path)
        width, height = pixel_size(data) or decode_pixels(data, shot.path).shape[1::-1]
        return face_area(fit_camera(np.array(shot.landmarks)), height, width)


def read_truth(folder: str | Path) -> Truth:
    """ConfigError for a folder without a complete set."""
    folder = Path(folder)
    if not is_complete(folder):
        raise ConfigError(unfinished_message(folder))
    with (folder / META_NAME).open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    shots = tuple(
        Shot(
            record["path"],
            record["person"],
            record["source_person"],
            tuple((float(x), float(y)) for x, y in record["landmarks"]),
            record["yaw"],
            record["pitch"],
        )
        for record in records
        if "left_out" not in record
    )
    return Truth(folder, shots)
