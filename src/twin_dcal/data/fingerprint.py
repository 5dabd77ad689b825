"""Which images a set has, in 8 bytes each: their names and sizes, so that a later look can tell what has changed."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twin_dcal.plural import plural

from .faceset import FaceSet
from .findings import first_few


def fingerprint(faces: FaceSet) -> dict[str, Any]:
    """Its people, the number of images of each, and of each image a number made from file name and size.

    Where the images lie does not count, nor what is in them. Plain lists of text and of int64.
    """
    return {
        "people": list(faces.people),
        "num_images": np.bincount(faces.person_of, minlength=faces.num_people).tolist(),
        "images": [_number(path) for path in faces.paths],
    }


def changes(before: Mapping[str, Any], faces: FaceSet) -> list[str]:
    """What is different from a fingerprint, a phrase for each person: images gone by number, new ones by name."""
    numbers = iter(before["images"])
    known = {
        person: Counter(next(numbers) for _ in range(count))
        for person, count in zip(before["people"], before["num_images"], strict=True)
    }
    now = faces.images_of()
    told = [f"'{person}' is gone" for person in known if person not in now]
    for person, paths in now.items():
        if person not in known:
            told.append(f"'{person}' is new")
            continue
        left, new = known[person].copy(), []
        for path in paths:
            number = _number(path)
            if left[number]:
                left[number] -= 1
            else:
                new.append(path.name)
        told += _about(person, known[person].total(), len(paths), left.total(), new)
    return told


def _about(person: str, before: int, now: int, num_gone: int, new: list[str]) -> list[str]:
    if not (num_gone or new):
        return []
    parts = [f"{plural(before, 'image')}, now {now}"]
    if num_gone:
        parts.append(f"{num_gone} not as before")
    if new:
        parts.append(f"new or of another size: {first_few(new)}")
    return [f"'{person}' ({'; '.join(parts)})"]


def _number(path: Path) -> int:
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        size = -1
    told = os.fsencode(path.name) + b"\0%d" % size
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big", signed=True)
