"""Whose embedding is this? Images of a data set and the names another system gave them, matched by path or id."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

Rows = NDArray[np.intp]

_SEVERAL = -2
_UNKNOWN = -1


class ImageNames:
    """Finds images of a data set by names written elsewhere.

    A name fits an image if it is the end of the image's path ("90004/90004d13.jpg", "90004d13.jpg", without the ending
    "90004d13"), or ends with the image's path below the data set's folder (a path of another machine,
    "/kaggle/input/90004/90004d13.jpg"). The longer end wins; two equally long ones are an error, never a guess. Both
    Unicode forms of a letter with an accent are one name: macOS writes é as two characters.
    """

    def __init__(self, images: Sequence[str]) -> None:
        """Args: images: (N,) distinct paths of a data set."""
        self._images = images
        self._by_end: dict[tuple[str, ...], int] = {}
        paths = [_composed_parts(str(Path(image).expanduser().absolute())) for image in images]
        self._num_below = _num_parts_below(paths)
        for row, parts in enumerate(paths):
            for end in range(1, len(parts) + 1):
                for key in {parts[-end:], (*parts[-end:-1], PurePath(parts[-1]).stem)}:
                    self._by_end[key] = row if key not in self._by_end else _SEVERAL

    def find(self, name: str) -> tuple[int, int]:
        """(row of the image, number of path parts that agree); -1 for a name that fits none, -2 for several."""
        parts = _composed_parts(name)
        for end in range(len(parts), 0, -1):
            row = self._by_end.get(parts[-end:], _UNKNOWN)
            if end < len(parts) and (row < 0 or end < self._num_below[row]):
                continue  # only a whole name, or a whole path below the folder, says who it is
            if row != _UNKNOWN:
                return row, end
        return _UNKNOWN, 0


def rows_of_images(
    names: Sequence[str], images: Sequence[str], file: str, source: str, *, some_missing: bool = False
) -> Rows:
    """For each image of a data set (N,) the row of `names` that means it.

    Args: file, source: what names and images come from, for messages; some_missing: an image without a row has -1, as
    long as most have one. MetricError naming the images without a row, and an image with two.
    """
    finder = ImageNames(images)
    row_of = np.full(len(images), _UNKNOWN, np.intp)
    agreed = np.zeros(len(images), np.intp)
    twice: dict[int, int] = {}
    for row, name in enumerate(names):
        image, parts = finder.find(name)
        _refuse_several(image, name, file, source)
        if image < 0 or parts < agreed[image]:
            continue
        if parts == agreed[image]:
            twice[image] = row
        else:
            row_of[image], agreed[image] = row, parts
            twice.pop(image, None)
    for image, row in twice.items():
        raise MetricError(
            f"{file}: '{names[row_of[image]]}' and '{names[row]}' are both {images[image]}. Keep one."
        )
    missing = np.flatnonzero(row_of < 0)
    if missing.size and not (some_missing and 2 * missing.size < len(images)):
        raise MetricError(
            f"{file}: {missing.size} of {plural(len(images), 'image')} of {source} missing, first: "
            f"{images[missing[0]]}. "
            "Add them, or leave them out of the data set."
        )
    return row_of


def rows_of_names(names: Sequence[str], images: Sequence[str], file: str, source: str) -> Rows:
    """For each name (N,) the row of the image that it means. MetricError naming those that mean none."""
    finder = ImageNames(images)
    rows = np.array([finder.find(name)[0] for name in names], dtype=np.intp)
    for at in np.flatnonzero(rows == _SEVERAL)[:1].tolist():
        _refuse_several(_SEVERAL, names[at], file, source)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise MetricError(
            f"{file}: {missing.size} of {plural(len(names), 'image')} not in {source}, first: {names[missing[0]]}. "
            "Name a data set that has them all."
        )
    return rows


def _refuse_several(row: int, name: str, file: str, source: str) -> None:
    if row == _SEVERAL:
        raise MetricError(
            f"{file}: '{name}' fits several images of {source}. Name images by more of their path."
        )


def short_ids(names: Sequence[str]) -> list[str]:
    """Names below the folder that they share, with / between parts: the same on every machine."""
    paths = [_parts(name) for name in names]
    return ["/".join(parts[-below:]) for parts, below in zip(paths, _num_parts_below(paths), strict=True)]


def _num_parts_below(paths: Sequence[tuple[str, ...]]) -> list[int]:
    """Number of parts of each path below the folder that all share; at least 1."""
    if not paths:
        return []
    shortest, longest = min(paths), max(paths)
    shared = 0
    limit = min(len(parts) for parts in paths) - 1
    while shared < limit and shortest[shared] == longest[shared]:
        shared += 1
    return [len(parts) - shared for parts in paths]


def _composed_parts(name: str) -> tuple[str, ...]:
    return _parts(normalize("NFC", name))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[/\\]+", name) if part not in ("", "."))
