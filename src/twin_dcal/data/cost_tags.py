"""How long the tags of a TIFF file, or of EXIF data, which are one, can keep their reader."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_ENTRIES = 4096
_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8"}
_BELOW = (0x8769, 0x8825, 0xA005)  # EXIF, GPS and interoperability: directories that Pillow reads along


@dataclass(frozen=True)
class Tag:
    """One entry: its kind of value, how many there are, and where they lie."""

    kind: int
    count: int
    at: int

    @property
    def num_bytes(self) -> int:
        return self.count * _SIZES.get(self.kind, 0)


class Tags:
    """The first directory of a TIFF file and those below it, without their values.

    `problem` says why reading them could take long. `repeated` holds tags that are given twice, which readers take
    differently.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = data[2:3] == b"+"
        self._left = MAX_ENTRIES
        self.tags: dict[int, Tag] = {}
        self.repeated: set[int] = set()
        start = self._number(8, 8) if self._big else self._number(4, 4)
        directories = [start]
        total = 0
        for tag, entry in self._entries(start):
            total += entry.num_bytes
            if tag in self.tags:
                self.repeated.add(tag)
            self.tags.setdefault(tag, entry)
        for tag in _BELOW:
            values = self.numbers(tag)
            if len(values) and int(values[0]) not in directories:
                directories.append(int(values[0]))
                total += sum(entry.num_bytes for _, entry in self._entries(directories[-1]))
        self.problem: str | None = None
        if self._left < 0:
            self.problem = f"more than {MAX_ENTRIES:,} tags"
        elif total > 2 * len(data) + 65536:
            self.problem = "tags that are longer than the file"

    def numbers(self, tag: int) -> NDArray[np.int64]:
        """Whole numbers of a tag; none if it is missing, of another kind, or lies outside the file."""
        entry = self.tags.get(tag)
        if (
            entry is None
            or entry.kind not in _NUMBERS
            or not 0 < entry.num_bytes <= len(self._data) - entry.at
        ):
            return np.empty(0, np.int64)
        kind = self._order + _NUMBERS[entry.kind]
        values = np.frombuffer(self._data, kind, entry.count, entry.at)
        return (values if values.itemsize < 8 else np.minimum(values, 2**62)).astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """The first whole number of a tag."""
        values = self.numbers(tag)
        return int(values[0]) if len(values) else default

    def _entries(self, at: int) -> Iterator[tuple[int, Tag]]:
        head, wide, each = (8, 8, 20) if self._big else (2, 4, 12)
        count = self._number(at, head)
        at += head
        while count > 0 and at + each <= len(self._data):
            self._left -= 1
            if self._left < 0:
                return
            kind, number = self._number(at + 2, 2), self._number(at + 4, wide)
            inside = number * _SIZES.get(kind, 0) <= wide
            place = at + 4 + wide
            yield self._number(at, 2), Tag(kind, number, place if inside else self._number(place, wide))
            at += each
            count -= 1

    def _number(self, at: int, width: int) -> int:
        return int.from_bytes(self._data[at : at + width], "little" if self._order == "<" else "big")


def tags_problem(exif: bytes) -> str | None:
    """Why reading EXIF data could take long, None if it cannot. Args: exif: with or without its first six bytes."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return Tags(exif).problem
