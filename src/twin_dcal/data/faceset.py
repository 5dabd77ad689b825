"""People, their images and who is whose twin: the result of reading a data set.

Shapes: N images, P people, F families.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .findings import first_few


class ImageCounts(NamedTuple):
    """Images per person."""

    fewest: int
    median: float
    most: int


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Images of people in families; a person without a twin is a family of one."""

    people: tuple[str, ...]
    """(P,) ids, sorted."""
    paths: tuple[Path, ...]
    """(N,) images, grouped by person in the order of `people`, sorted within."""
    person_of: np.ndarray
    """int64 (N,) index into `people` of each image."""
    family_of: np.ndarray
    """int64 (P,) family of each person, 0..F-1; people with one number are twins of each other."""

    @classmethod
    def build(cls, images: Mapping[str, Sequence[Path]], family_of: Mapping[str, object]) -> Self:
        """From the images of each person and any label per family; a person without a label is alone.

        Families are numbered by their first person, so labels do not matter, only who shares one.
        """
        people = tuple(sorted(images))
        paths = tuple(path for person in people for path in sorted(images[person], key=str))
        person_of = np.repeat(np.arange(len(people)), [len(images[person]) for person in people])
        numbers: dict[object, int] = {}
        families = [
            numbers.setdefault(family_of.get(person, ("alone", person)), len(numbers)) for person in people
        ]
        return cls(people, paths, person_of.astype(np.int64), np.array(families, dtype=np.int64))

    def __repr__(self) -> str:
        return f"FaceSet({self.describe() if self.people else 'empty'})"

    @property
    def num_images(self) -> int:
        return len(self.paths)

    @property
    def num_people(self) -> int:
        return len(self.people)

    @property
    def num_families(self) -> int:
        return len(np.unique(self.family_of))

    @property
    def num_twin_families(self) -> int:
        """Families of two or more people."""
        return int((np.unique(self.family_of, return_counts=True)[1] > 1).sum())

    @property
    def has_twins(self) -> bool:
        return self.num_twin_families > 0

    @property
    def image_families(self) -> np.ndarray:
        """int64 (N,) family of each image."""
        return np.asarray(self.family_of[self.person_of])

    @property
    def images_per_person(self) -> ImageCounts:
        """(0, 0.0, 0) for an empty set."""
        if not self.people:
            return ImageCounts(0, 0.0, 0)
        counts = np.bincount(self.person_of, minlength=self.num_people)
        return ImageCounts(int(counts.min()), float(np.median(counts)), int(counts.max()))

    def images_of(self) -> dict[str, tuple[Path, ...]]:
        """Images of each person, by id."""
        images: dict[str, list[Path]] = {person: [] for person in self.people}
        for path, person in zip(self.paths, self.person_of.tolist(), strict=True):
            images[self.people[person]].append(path)
        return {person: tuple(paths) for person, paths in images.items()}

    def subset(self, people: Iterable[str]) -> Self:
        """The same for some people; twins stay twins. ManifestError names ids that are not in the set."""
        chosen = set(people)
        unknown = sorted(chosen.difference(self.people))
        if unknown:
            raise ManifestError(f"no such people in the set: {first_few(unknown)}")
        images = {person: paths for person, paths in self.images_of().items() if person in chosen}
        return self.build(images, dict(zip(self.people, self.family_of.tolist(), strict=True)))

    def describe(self) -> str:
        """One phrase: people, families, images, images per person."""
        fewest, median, most = self.images_per_person
        of_each = f"{fewest}" if fewest == most else f"{fewest} to {most} (median {median:g})"
        return (
            f"{plural(self.num_people, 'person', 'people')} in {plural(self.num_families, 'family', 'families')} "
            f"({self.num_twin_families} of twins), {plural(self.num_images, 'image')}, "
            f"{of_each} a person"
        )


@dataclass(frozen=True, eq=False)
class FaceData:
    """A data set in three splits that share no family. `val` and `test` may be empty."""

    train: FaceSet
    val: FaceSet
    test: FaceSet
    findings: tuple[str, ...]
    """What was left out or decided while reading, one line each."""
    num_left_out: int = 0
    """How many of the findings lost data."""
    files: tuple[str, ...] = ()
    """Names of the descriptions that were read."""

    def __repr__(self) -> str:
        return f"FaceData({self.summary()})"

    def summary(self) -> str:
        """One line: each split in numbers, how much was left out, and the
        descriptions that were read."""
        splits = (("train", self.train), ("val", self.val), ("test", self.test))
        parts = [f"{name}: {faces.describe() if faces.people else 'none'}" for name, faces in splits]
        losses = self.findings[: self.num_left_out]
        parts.append("left out: " + (" | ".join(losses) if losses else "nothing"))
        if self.files:
            parts.append(f"read: {', '.join(self.files)}")
        return "; ".join(parts)
