"""Which crops become the data set, and why the others do not. Pure functions of what was recorded."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .duplicates import compared_pixels, find_copies
from .photo import Record
from .quality import Quality
from .settings import Duplicates, Limits
from .sources import Photo

UNREADABLE, NO_FACE, SEVERAL = "cannot be read", "no face found", "several faces"
POOR, COPY, CONFLICT, UNFIT = "below a limit", "a copy", "under two people", "does not fit its person"
OTHER = "not a photo of a person"
REASONS = (CONFLICT, UNREADABLE, NO_FACE, SEVERAL, POOR, COPY, UNFIT, OTHER)
REVIEWABLE = frozenset({POOR, UNFIT})
"""What a person may decide to keep after all."""
_FEWEST_TO_JUDGE = 3

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[Path]], Vectors]


@dataclass(frozen=True, eq=False)
class Crop:
    """One face of a photo; face: its part of the record. number: of the face in its photo, from 0."""

    photo: Photo
    record: Record
    face: Mapping[str, Any]
    number: int = 0

    @property
    def name(self) -> str:
        return self.photo.name + (f" (face {self.number + 1})" if self.number else "")

    @property
    def quality(self) -> Quality:
        return Quality(**self.face["quality"])

    def is_one_of(self, names: Collection[str]) -> bool:
        """Args: names: as a table has them, without blanks around them."""
        return self.name.strip() in names


@dataclass(frozen=True, eq=False)
class Dropped:
    """What was left out: its name, person ('' where there is none), one of `REASONS`, the particulars, and the crop."""

    name: str
    person: str
    reason: str
    detail: str
    crop: Crop | None = None


Verdict = tuple[list[Crop], list[Dropped]]


def readable(photos: Sequence[Photo], records: Sequence[Record]) -> Verdict:
    """Crops of the photos that have any."""
    crops: list[Crop] = []
    dropped: list[Dropped] = []
    for photo, record in zip(photos, records, strict=True):
        faces = [Crop(photo, record, face, number) for number, face in enumerate(record["faces"])]
        fault = record["fault"]
        if fault is None:
            crops += faces
            continue
        reason = NO_FACE if fault == NO_FACE else SEVERAL if faces else UNREADABLE
        dropped.append(Dropped(photo.name, photo.person, reason, fault, faces[0] if faces else None))
    return crops, dropped


def good_enough(crops: Iterable[Crop], limits: Limits, kept_anyway: Collection[str]) -> Verdict:
    """Crops within the limits, and those a person decided to keep."""
    kept, dropped = [], []
    for crop in crops:
        complaints = () if crop.is_one_of(kept_anyway) else limits.complaints(crop.quality)
        if complaints:
            dropped.append(Dropped(crop.name, crop.photo.person, POOR, "; ".join(complaints), crop))
        else:
            kept.append(crop)
    return kept, dropped


def without_copies(crops: Sequence[Crop], folder: Path, settings: Duplicates) -> Verdict:
    """One crop of each picture. A picture under two people is left out wherever it is: nobody can tell whose it is.

    Of one person's copies the one with the most pixels between the eyes stays; of equal ones the first by name.
    Args: folder: where crops lie.
    """
    hashes, mirrored = ([int(crop.face[key], 16) for crop in crops] for key in ("hash", "mirrored_hash"))
    pixels: dict[int, NDArray[np.uint8]] = {}

    def pixels_of(number: int) -> NDArray[np.uint8]:
        if number not in pixels:
            pixels[number] = compared_pixels(np.asarray(Image.open(folder / crops[number].face["crop"])))
        return pixels[number]

    out: dict[int, Dropped] = {}
    for group in find_copies(hashes, mirrored, pixels_of, settings.max_bits, settings.min_correlation):
        members = [crops[number] for number in group]
        if len({crop.photo for crop in members}) < 2:  # faces of one photo
            continue
        people = sorted({crop.photo.person for crop in members})
        best = min(group, key=lambda number: (-crops[number].quality.eyes_px, crops[number].name))
        for number in group:
            if len(people) > 1:
                others = ", ".join(
                    crop.name for crop in members if crop.photo.person != crops[number].photo.person
                )
                detail = f"the same picture as {_cut(others)}"
                out[number] = Dropped(
                    crops[number].name, crops[number].photo.person, CONFLICT, detail, crops[number]
                )
            elif number != best:
                same = crops[number].record["source_sha256"] == crops[best].record["source_sha256"]
                detail = f"the same {'file' if same else 'picture'} as {crops[best].name}"
                out[number] = Dropped(crops[number].name, people[0], COPY, detail, crops[number])
    kept = [crop for number, crop in enumerate(crops) if number not in out]
    return kept, [out[number] for number in sorted(out)]


def consistent(
    crops: Sequence[Crop], folder: Path, embed: Embed, threshold: float, kept_anyway: Collection[str]
) -> Verdict:
    """Crops that fit the others of their person: the median cosine to them is at least `threshold`.

    People with fewer than 3 crops are not judged: of two that differ nobody can tell which is wrong.
    Args: embed: crops' files to unit vectors (N, E).
    """
    vectors = embed([folder / crop.face["crop"] for crop in crops]) if crops else np.empty((0, 1), np.float32)
    rows: dict[str, list[int]] = {}
    for number, crop in enumerate(crops):
        rows.setdefault(crop.photo.person, []).append(number)
    out: dict[int, Dropped] = {}
    for person, numbers in rows.items():
        if len(numbers) < _FEWEST_TO_JUDGE:
            continue
        cosines = vectors[numbers] @ vectors[numbers].T
        for at, number in enumerate(numbers):
            middle = float(np.median(np.delete(cosines[at], at)))
            if middle < threshold and not crops[number].is_one_of(kept_anyway):
                detail = f"median cosine {middle:.3f} to the person's others, at least {threshold:.3f} wanted"
                out[number] = Dropped(crops[number].name, person, UNFIT, detail, crops[number])
    return [crop for n, crop in enumerate(crops) if n not in out], [out[number] for number in sorted(out)]


def _cut(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."
