"""What a table says of people and images: zygosity, sex, age, group, session, date, pose, quality (docs/data.md)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.families import SPLITS
from twin_dcal.data.findings import first_few
from twin_dcal.data.tables import headings, read_rows
from twin_dcal.data.twin_ids import near_people
from twin_dcal.errors import MetricError, TwinDcalError
from twin_dcal.plural import plural

from .match_names import ImageNames
from .protocol import Comparisons

FILE_NAME = "metadata.csv"
PERSON_HEADINGS = ("person", "person_id", "subject", "id")
IMAGE_HEADINGS = ("image", "path", "file", "filename", "img")
TEXTS = ("zygosity", "sex", "group", "session", "pose")
NUMBERS = ("age", "date", "quality")
_ZYGOSITIES = {
    **dict.fromkeys(("identical", "monozygotic", "mz"), "identical"),
    **dict.fromkeys(("fraternal", "dizygotic", "dz"), "fraternal"),
}


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of the images of an evaluation, (N,) each.

    texts: column to text, "" where unknown; numbers: column to float64, NaN where unknown (age in years, date in days
    since the year 1). file: where it is from; notes, warnings: names of the file that mean nobody compared.
    """

    file: str
    texts: Mapping[str, NDArray[np.str_]]
    numbers: Mapping[str, NDArray[np.float64]]
    num_images_known: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_metadata(places: Iterable[str | None]) -> Path | None:
    """`metadata.csv` in the first of some places that has one: data set folders, or files beside which it lies."""
    for place in filter(None, places):
        path = Path(place).expanduser()
        folder = path if path.is_dir() else path.parent
        for home in (folder, folder.parent) if folder.name in SPLITS else (folder,):
            if (home / FILE_NAME).is_file():
                return home / FILE_NAME
    return None


def read_metadata(path: str | Path, comparisons: Comparisons) -> Metadata:
    """Read a table and match it with the images compared.

    A line names a person, and holds for all their images, or an image, which comes before the person's. Names of
    images are matched as everywhere (`match_names`), ids of people must be written as the data set writes them.
    MetricError, with file and line, for a table without a known column, a value that cannot be read, two values for
    one person or image, and a table that means nobody who is compared.
    """
    path = Path(path).expanduser()
    if comparisons.people is None:
        raise MetricError(f"{path}: {comparisons.source} does not say whose images are compared")
    rows = read_rows(path, MetricError)
    try:
        first, named = next(rows)
    except StopIteration:
        raise MetricError(f"{path}: empty. Give headings and a line for each person or image.") from None
    at = _columns(path, headings(named, f"{path}, line {first}", MetricError))
    table = _Matched(path, comparisons, at)
    for line, cells in rows:
        table.add(f"{path}, line {line}", [*cells, *[""] * (len(named) - len(cells))])
    return table.finished()


def _columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Where person, image and the known columns are."""
    at = {name: names.index(name) for name in (*TEXTS, *NUMBERS) if name in names}
    for key, known in (("person", PERSON_HEADINGS), ("image", IMAGE_HEADINGS)):
        found = [name for name in known if name in names]
        if found:
            at[key] = names.index(found[0])
    if not at.keys() & {"person", "image"}:
        raise MetricError(f"{path}: no column 'person' or 'image' among: {', '.join(names)}")
    if not at.keys() & {*TEXTS, *NUMBERS}:
        raise MetricError(f"{path}: none of the columns {', '.join((*TEXTS, *NUMBERS))} is there")
    return at


class _Matched:
    """Values of people and of images as lines are read."""

    def __init__(self, path: Path, comparisons: Comparisons, at: Mapping[str, int]) -> None:
        assert comparisons.people is not None
        self._path, self._what, self._at = path, comparisons, at
        self._people: Sequence[str] = comparisons.people.tolist()
        self._known = set(self._people)
        self._images = ImageNames(comparisons.names)
        self._of_person: dict[str, dict[str, str | float]] = {}
        self._of_image: dict[int, dict[str, str | float]] = {}
        self._unknown_people: list[str] = []
        self._unknown_images: list[str] = []

    def add(self, place: str, cells: Sequence[str]) -> None:
        person, image = (cells[self._at[key]] if key in self._at else "" for key in ("person", "image"))
        if not person and not image:
            raise MetricError(f"{place}: neither a person nor an image is named")
        values = {
            name: _value(name, cells[index], place)
            for name, index in self._at.items()
            if name not in ("person", "image") and cells[index]
        }
        if not image:
            if person in self._known:
                _merge(self._of_person.setdefault(person, {}), values, f"{place}: person '{person}'")
            else:
                self._unknown_people.append(person)
            return
        row, _ = self._images.find(image)
        if row == -2:
            raise MetricError(f"{place}: '{image}' fits several images. Name it by more of its path.")
        if row < 0:
            self._unknown_images.append(image)
            return
        if person and person != self._people[row]:
            raise MetricError(
                f"{place}: '{image}' is of person '{person}' here, of '{self._people[row]}' in {self._what.source}"
            )
        _merge(self._of_image.setdefault(row, {}), values, f"{place}: image '{image}'")

    def finished(self) -> Metadata:
        if not self._of_person and not self._of_image:
            told = first_few([*self._described(), *self._unknown_images])
            raise MetricError(f"{self._path}: nobody who is compared is named there. It names: {told}")
        texts, numbers = {}, {}
        names = self._at.keys() - {"person", "image"}
        each = [
            {**self._of_person.get(person, {}), **self._of_image.get(row, {})}
            for row, person in enumerate(self._people)
        ]
        for name in TEXTS:
            if name in names:
                texts[name] = np.array([str(values.get(name, "")) for values in each], dtype=np.str_)
        for name in NUMBERS:
            if name in names:
                numbers[name] = np.array([float(values.get(name, math.nan)) for values in each])
        notes, warnings = self._told()
        known = sum(bool(values) for values in each)
        return Metadata(str(self._path), texts, numbers, known, notes, warnings)

    def _described(self) -> list[str]:
        near = near_people(self._unknown_people, self._known)
        return [
            f"'{person}' (the data set has {' and '.join(map(repr, near[person]))})"
            if person in near
            else person
            for person in sorted(
                dict.fromkeys(self._unknown_people), key=lambda person: (person not in near, person)
            )
        ]

    def _told(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Notes on those who are not compared, which is right for a table of a larger set; a warning of ids that nearly
        mean somebody."""
        notes = []
        described, near = self._described(), near_people(self._unknown_people, self._known)
        for offenders, one, several in (
            (described[len(near) :], "person", "people"),
            (self._unknown_images, "image", "images"),
        ):
            if offenders:
                notes.append(
                    f"{self._path.name}: {plural(len(offenders), one, several)} not among those compared: "
                    f"{first_few(offenders)}"
                )
        if not near:
            return tuple(notes), ()
        fits = plural(len(near), "id fits", "ids fit")
        return tuple(notes), (f"{self._path.name}: {fits} nobody: {first_few(described[: len(near)])}",)


def _merge(known: dict[str, str | float], values: Mapping[str, str | float], place: str) -> None:
    for name, value in values.items():
        if known.setdefault(name, value) != value:
            raise MetricError(f"{place} has the {name} {value} here and {known[name]} in a line before")


def _value(name: str, text: str, place: str) -> str | float:
    if name == "zygosity":
        if text.casefold() not in _ZYGOSITIES:
            raise MetricError(f"{place}: zygosity '{text}'; give identical (mz) or fraternal (dz)")
        return _ZYGOSITIES[text.casefold()]
    if name not in NUMBERS:
        return text.casefold() if name == "sex" else text
    read: Callable[[str], float] = (
        (lambda day: date.fromisoformat(day).toordinal()) if name == "date" else float
    )
    try:
        value = read(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (name == "age" and not 0 <= value <= 130):
        wanted = {"date": "a day such as 2024-05-31", "age": "years, 0 to 130"}.get(name, "a number")
        raise MetricError(f"{place}: {name} '{text}'; give {wanted}")
    return value


def metadata_of(
    comparisons: Comparisons, named: str | None, places: Iterable[str | None]
) -> tuple[Metadata | None, tuple[str, ...]]:
    """The metadata of some comparisons, and warnings. What is named and cannot be used is an error, what lies beside
    the data a warning."""
    if named is not None:
        made = read_metadata(named, comparisons)
        return made, made.warnings
    found = find_metadata(places)
    if found is None:
        return None, ()
    try:
        made = read_metadata(found, comparisons)
    except TwinDcalError as error:
        return None, (f"{found} beside the data is not used ({error})",)
    return made, made.warnings
