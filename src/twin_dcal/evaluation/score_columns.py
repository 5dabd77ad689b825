"""The columns of a file of scores, and a fast reader of them for files of millions of lines, by pyarrow.

The fast reader takes what is usual and leaves everything else, every fault included, to the reader by rows
(`score_files`), which names the line: `read_batches` returns None then. What both read is the same to the last bit.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.csvfile import from_cell
from twin_dcal.data.labels import parse_label
from twin_dcal.data.tables import column_names, separator_of
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.names import restored

REQUIRED = ("img1", "img2", "score")
IDENTITIES = ("person1", "person2", "family1", "family2")
OPTIONAL = ("kind", "label", "fold", *IDENTITIES)
KINDS = {kind.name.lower(): int(kind) for kind in PairKind} | {"impostor": int(PairKind.OTHER)}
UNSTATED = -1
NO_SCORE = frozenset({"", "-inf", "-infinity", "nan", "-nan", "na", "n/a", "null", "none"})
"""What stands for a comparison that failed, in small letters."""
BLOCK_BYTES = 1 << 24
_NULLS = ["", "NA", "N/A", "na", "n/a", "null", "NULL", "None", "none"]

Numbers = NDArray[np.int64]
Text = Callable[[Any], str]


@dataclass(eq=False)
class Columns:
    """What the rows of a file say, row by row (P,), and of each of N images.

    score: NaN where a comparison failed; fold: numbers from 0 on, in the order in which the folds come; people,
    families: labels (N,). None without such columns.
    """

    names: tuple[str, ...]
    first: Numbers
    second: Numbers
    score: NDArray[np.float64]
    kind: NDArray[np.int8]
    fold: Numbers | None
    people: NDArray[np.str_] | None
    families: NDArray[np.str_] | None


class _UnusualError(Exception):
    """Something that the reader by rows has to look at."""


def read_batches(path: Path) -> Columns | None:
    """The columns of a .csv or .parquet file; None without pyarrow, and for anything unusual."""
    try:
        columns, batches, text = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
        found = _Gatherer(columns, text).gather(batches)
        if path.suffix.lower() == ".csv" and _num_lines(path) > found.first.size + 1:
            raise _UnusualError  # a cell of several lines, so that lines are not rows
        return found
    except ImportError:
        return None
    except (
        _UnusualError,
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        KeyError,
    ):  # as pyarrow's faults are
        return None


def _csv(path: Path) -> tuple[list[str], Iterator[Any], Text]:
    csv = import_module("pyarrow.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        heading = file.readline()
    separator = separator_of(heading)
    if not heading.strip() or '"' in heading:
        raise _UnusualError
    columns = column_names(heading.split(separator))
    wanted = _wanted(columns)
    places = [str(columns.index(name)) for name in wanted]
    arrow = import_module("pyarrow")
    types = {
        place: arrow.float64() if name == "score" else arrow.string()
        for place, name in zip(places, wanted, strict=True)
    }
    batches = csv.open_csv(
        path,
        read_options=csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, skip_rows=1,
            column_names=[str(number) for number in range(len(columns))],
        ),
        parse_options=csv.ParseOptions(delimiter=separator, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            include_columns=places, column_types=types, null_values=_NULLS, strings_can_be_null=False
        ),
    )  # fmt: skip
    return wanted, batches, lambda cell: from_cell(cell.strip())


def _parquet(path: Path) -> tuple[list[str], Iterator[Any], Text]:
    parquet = import_module("pyarrow.parquet")
    file = parquet.ParquetFile(path)
    written = list(file.schema_arrow.names)
    columns = column_names(written)
    wanted = _wanted(columns)
    score = file.schema_arrow.field(columns.index("score")).type
    if str(score) not in ("float", "double"):
        raise _UnusualError
    places = [written[columns.index(name)] for name in wanted]
    batches = (batch.select(places) for batch in file.iter_batches(1 << 18, columns=places))
    return wanted, batches, lambda cell: restored(str(cell).strip())


def _num_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK_BYTES), b""))


def _wanted(columns: Sequence[str]) -> list[str]:
    """The columns to read, in this order. _UnusualError where one is missing or there twice."""
    if len(set(columns)) < len(columns) or not set(REQUIRED) <= set(columns):
        raise _UnusualError
    if any((one in columns) != (other in columns) for one, other in (IDENTITIES[:2], IDENTITIES[2:])):
        raise _UnusualError
    return [*REQUIRED, *(name for name in OPTIONAL if name in columns)]


@dataclass
class _Numbered:
    """Texts numbered in the order in which they come."""

    text: Text
    number_of: dict[str, int] = field(default_factory=dict)

    def number(self, cell: Any) -> int:
        name = self.text(cell)
        if not name or '"' in name or "\n" in name or "\r" in name:
            raise _UnusualError
        return self.number_of.setdefault(name, len(self.number_of))


@dataclass
class _Labels:
    """The label of every image, by number; -1 where none was given yet."""

    names: _Numbered
    of_image: Numbers = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, images: Numbers, labels: Numbers, num_images: int) -> None:
        """_UnusualError where an image has two labels."""
        grown = np.full(num_images, -1)
        grown[: self.of_image.size] = self.of_image
        self.of_image = grown
        new = grown[images] < 0
        grown[images[new]] = labels[new]
        if not np.array_equal(grown[images], labels):
            raise _UnusualError

    def labels(self) -> NDArray[np.str_]:
        return np.array(list(self.names.number_of), np.str_)[self.of_image]


class _Gatherer:
    """Batches of columns, put together."""

    def __init__(self, columns: Sequence[str], text: Text) -> None:
        self._at = {name: index for index, name in enumerate(columns)}
        self._text = text
        self._images, self._folds = _Numbered(text), _Numbered(text)
        self._people, self._families = (_Labels(_Numbered(text)) for _ in range(2))

    def gather(self, batches: Iterator[Any]) -> Columns:
        parts = [self._part(batch) for batch in batches if batch.num_rows]
        if not parts:
            raise _UnusualError
        first, second, score, kind = (np.concatenate([part[at] for part in parts]) for at in range(4))
        fold = np.concatenate([part[4] for part in parts]) if "fold" in self._at else None
        return Columns(
            tuple(self._images.number_of), first, second, score, kind, fold,
            self._people.labels() if "person1" in self._at else None,
            self._families.labels() if "family1" in self._at else None,
        )  # fmt: skip

    def _part(self, batch: Any) -> tuple[Any, ...]:
        first, second = self._pair_of_images(batch)
        if (first == second).any():
            raise _UnusualError
        fold = None
        if "fold" in self._at:
            numbers, cells = self._encoded(batch, "fold")
            fold = np.array([self._folds.number(cell) for cell in cells])[numbers]
        for name, labels in (("person", self._people), ("family", self._families)):
            if f"{name}1" in self._at:
                for images, column in ((first, f"{name}1"), (second, f"{name}2")):
                    numbers, cells = self._encoded(batch, column)
                    numbered = np.array([labels.names.number(cell) for cell in cells])
                    labels.add(images, numbered[numbers], len(self._images.number_of))
        return first, second, self._score(batch), self._kind(batch, first.size), fold

    def _encoded(self, batch: Any, name: str) -> tuple[Numbers, list[Any]]:
        """Number of the cell in every row, and the distinct cells in the order in which they come."""
        column = batch.column(self._at[name])
        encoded = column if str(column.type).startswith("dictionary") else column.dictionary_encode()
        if encoded.null_count:
            raise _UnusualError
        return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()

    def _pair_of_images(self, batch: Any) -> tuple[Numbers, Numbers]:
        """Numbers of both images, given in the order of the rows, the first image of a row before its second."""
        sides = [self._encoded(batch, name) for name in ("img1", "img2")]
        met = []
        for side, (numbers, cells) in enumerate(sides):
            row = np.full(len(cells), -1)
            row[numbers[::-1]] = np.arange(numbers.size)[::-1]
            if (row < 0).any():  # a dictionary with words that are not used
                raise _UnusualError
            met.append(2 * row + side)
        numbered = [np.empty(len(cells), np.int64) for _, cells in sides]
        sizes = len(sides[0][1])
        for place in np.argsort(np.concatenate(met), kind="stable").tolist():
            side, at = (0, place) if place < sizes else (1, place - sizes)
            numbered[side][at] = self._images.number(sides[side][1][at])
        return numbered[0][sides[0][0]], numbered[1][sides[1][0]]

    def _score(self, batch: Any) -> NDArray[np.float64]:
        score = batch.column(self._at["score"]).to_numpy(zero_copy_only=False).astype(np.float64)
        if np.isposinf(score).any():
            raise _UnusualError
        return np.where(np.isneginf(score), math.nan, score)

    def _kind(self, batch: Any, size: int) -> NDArray[np.int8]:
        kind = np.full(size, UNSTATED, np.int8)
        if "kind" in self._at:
            numbers, cells = self._encoded(batch, "kind")
            words = [self._text(cell).lower() for cell in cells]
            if not KINDS.keys() >= set(words):
                raise _UnusualError
            kind = np.array([KINDS[word] for word in words], np.int8)[numbers]
        if "label" in self._at:
            numbers, cells = self._encoded(batch, "label")
            told = [parse_label(self._text(cell)) for cell in cells]
            if None in told:
                raise _UnusualError
            same = np.array(told, bool)[numbers]
            if ((kind != UNSTATED) & ((kind == PairKind.GENUINE) != same)).any():
                raise _UnusualError
            stated = np.where(same, PairKind.GENUINE, PairKind.OTHER).astype(np.int8)
            kind = np.where(kind == UNSTATED, stated, kind)
        return kind
