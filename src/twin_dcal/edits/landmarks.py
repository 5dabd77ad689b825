"""Landmarks of a data set's photographs, found once and kept in a file beside it."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.errors import ImageError
from twin_dcal.files import is_file, write_text
from twin_dcal.jsontext import parse_json
from twin_dcal.prepare.duplicates import compared_pixels, find_copies, perceptual_hash
from twin_dcal.progress import track

from .looking import COPY_FROM, MOST_BITS, Found, find, new_detector

logger = logging.getLogger(__name__)

CACHE_NAME = "landmarks.json"
_VERSION = 1
_FARTHEST = 1e5  # pixels; no picture that is read is larger


@dataclass(frozen=True)
class Kept:
    """What is kept of one photograph. `size` and `changed` (nanoseconds) tell whether the file is still the same."""

    size: int
    changed: int
    found: Found | None
    """None where there is no face, and for a file that cannot be read."""
    hash: int
    mirrored: int


def kept_landmarks(paths: Sequence[Path], folder: Path) -> list[Kept]:
    """Landmarks and hashes of photographs, in order; found now where the file in `folder` does not have them.

    Where the folder cannot be written to they are found each time.
    """
    file = folder / CACHE_NAME
    known = _read(file)
    names = [Path(os.path.relpath(path, folder)).as_posix() for path in paths]
    missing = [at for at, path in enumerate(paths) if not _is_same(known.get(names[at]), path)]
    if missing:
        detector = new_detector()
        for at in track(missing, "finding landmarks", "photographs"):
            known[names[at]] = _keep(paths[at], detector)
        _write(file, known)
    return [known[name] for name in names]


def _is_same(kept: Kept | None, path: Path) -> bool:
    if kept is None:
        return False
    state = path.stat()
    return (kept.size, kept.changed) == (state.st_size, state.st_mtime_ns)


def _keep(path: Path, detector: Any) -> Kept:
    state = path.stat()
    try:
        pixels = decode_pixels(read_bytes(path), str(path))
    except ImageError as error:
        logger.warning("left out: %s", error)
        return Kept(state.st_size, state.st_mtime_ns, None, 0, 0)
    hashes = perceptual_hash(pixels), perceptual_hash(pixels[:, ::-1])
    return Kept(state.st_size, state.st_mtime_ns, find(pixels, detector), *hashes)


def _read(file: Path) -> dict[str, Kept]:
    """Nothing for a file that is missing, damaged or of another version: it is made anew."""
    if not is_file(file):  # nor is a device or a pipe read, which may never end
        return {}
    try:
        told = parse_json(file.read_text(encoding="utf-8"), file)
        if told["version"] != _VERSION:
            return {}
        return {name: _kept(value) for name, value in told["photos"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _kept(value: dict[str, Any]) -> Kept:
    """ValueError for what was not written here: the file comes along with data of others, and what it says is edited
    where there is no face."""
    found = value.pop("found")
    kept = Kept(found=_found(**found) if found else None, **value)
    counts = (kept.size, kept.changed, kept.hash, kept.mirrored)
    if not all(type(count) is int and abs(count) < 2**64 for count in counts):
        raise ValueError("sizes, times and hashes are whole numbers")
    return kept


def _found(landmarks: Any, score: Any) -> Found:
    points = np.array(landmarks, np.float64)
    if points.shape != (5, 2) or not np.all(np.abs(points) < _FARTHEST) or not 0 <= float(score) <= 1:
        raise ValueError("not five points in a picture and a score")
    return Found(tuple((float(x), float(y)) for x, y in points), float(score))


def _write(file: Path, known: dict[str, Kept]) -> None:
    told = {"version": _VERSION, "photos": {name: asdict(kept) for name, kept in sorted(known.items())}}
    try:
        write_text(file, json.dumps(told, separators=(",", ":")) + "\n")
    except OSError as error:
        logger.warning("landmarks are not kept: %s cannot be written (%s)", file, error.strerror)


def copies_among(paths: Sequence[Path], kept: Sequence[Kept]) -> list[list[int]]:
    """Groups of photographs that are one picture, by number."""

    def pixels_of(number: int) -> np.ndarray:
        return compared_pixels(decode_pixels(read_bytes(paths[number]), str(paths[number])))

    hashes, mirrored = [each.hash for each in kept], [each.mirrored for each in kept]
    return find_copies(hashes, mirrored, pixels_of, MOST_BITS, COPY_FROM)
