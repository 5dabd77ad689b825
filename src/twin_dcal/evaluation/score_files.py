"""Scores as files: one line per pair, ours or another system's, as .csv or .parquet.

Columns: `img1`, `img2`, `score` (higher = more alike; empty, NaN, NA or -inf where the comparison failed), and `kind`
(genuine, twin, unrelated, other) or `label` (1 the same person, 0 another); if known `person1`, `person2`, `family1`,
`family2`; if the protocol has folds `fold`. Others are ignored. Headings in any case; cells between commas, semicolons
or tabs, blanks around them are not part of them.
"""

import io
import logging
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.csvfile import CsvWriter
from twin_dcal.data.labels import LABELS_READ, parse_label
from twin_dcal.data.tables import headings, pyarrow_parquet, read_rows
from twin_dcal.errors import MetricError
from twin_dcal.files import replacing
from twin_dcal.metrics.pair_stream import PairBlock, PairSource
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.names import restored, written
from twin_dcal.plural import plural

from .protocol import Comparisons, Labels, PairRows
from .score_columns import IDENTITIES, KINDS, NO_SCORE, OPTIONAL, REQUIRED, UNSTATED, Columns, read_batches

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1 << 16
SAME_SCORE = 1e-6
_KIND_NAMES = np.array([kind.name.lower() for kind in PairKind], dtype=object)

SCHEMA = "Columns: img1,img2,score and kind (genuine, twin, unrelated) or label (1 same person, 0 another)."

Row = Sequence[str]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored pairs (P,) of N distinct images, as a file says it.

    kinds: PairKind, OTHER for an impostor of unknown kind, -1 where the file says nothing. people, families: labels
    (N,), None where the file has none. lines: (P,) line, or row of a parquet file, for messages. scores: float32 if
    that holds every score as it is written, else float64; NaN for a failed one. folds: (P,) from 0 on, or None.
    """

    file: str
    names: tuple[str, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    kinds: NDArray[np.int8]
    people: Labels | None
    families: Labels | None
    lines: NDArray[np.int64]
    folds: NDArray[np.int64] | None = None

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(P,) which comparisons have no score."""
        return np.asarray(np.isnan(self.scores))

    def place(self, pair: int) -> str:
        """File and line of a pair, for a message."""
        return f"{self.file}, {'row' if self.file.endswith('.parquet') else 'line'} {self.lines[pair]}"

    def rows(self, kinds: NDArray[np.int8]) -> PairRows:
        return PairRows(self.first, self.second, kinds, self.folds)


def is_scores_file(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".csv", ".parquet")


def read_scores(path: str | Path, strict: bool = False) -> ScoreTable:
    """Read scored pairs. A pair listed twice, in either order, with one label and score is kept once, with a warning;
    an error when `strict`, as is a comparison without a score.

    MetricError names file and line of a missing column, an empty or unknown value, a score that is no number or
    infinite, an image paired with itself, a pair with two labels or scores, an image with two people, a person in two
    families; and a file without any score.
    """
    path = Path(path)
    if not path.is_file():
        raise MetricError(f"{path}: no such file of scores")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise MetricError(f"{path}: scores are read from .csv or .parquet files. {SCHEMA}")
    found = read_batches(path)
    if found is None:
        columns, rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        table = _Reader(path, columns).read(rows)
    else:
        table = _table(path, found)
    if table.failed.all():
        raise MetricError(f"{path}: no pair has a score. {SCHEMA}")
    if strict and table.failed.any():
        at = int(np.argmax(table.failed))
        raise MetricError(
            f"{table.place(at)}: {plural(int(table.failed.sum()), 'pair')} without a score, this one first (strict)"
        )
    return _without_repeats(table, strict)


def write_scores(path: str | Path, source: PairSource, comparisons: Comparisons) -> None:
    """Write every pair with its kind, score, and people and families where known, as .csv or .parquet.

    A score is written so that reading it gives the same number. The file appears whole or not at all, readable by its
    owner only. MetricError for another ending, or parquet without pyarrow.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise MetricError(f"{path}: scores are written to .csv or .parquet files.")
    comparisons = _written(comparisons)
    tables = (_columns(part, comparisons) for block in source.blocks() for part in _parts(block))
    with replacing(path) as file:
        if suffix == ".csv":
            _write_csv(file, tables)
        else:
            _write_parquet(file, tables, str(path))


def _written(comparisons: Comparisons) -> Comparisons:
    """The comparisons with all names as text that a file can hold."""

    def labels(given: Labels | None) -> Labels | None:
        return None if given is None else np.array([written(label) for label in given.tolist()], np.str_)

    return replace(
        comparisons,
        names=[written(name) for name in comparisons.names],
        people=labels(comparisons.people),
        families=labels(comparisons.families),
    )


def _parts(block: PairBlock) -> Iterator[PairBlock]:
    for start in range(0, block.score.size, ROWS_AT_ONCE):
        yield block.some(slice(start, start + ROWS_AT_ONCE))


def _columns(block: PairBlock, comparisons: Comparisons) -> dict[str, list[Any]]:
    names = np.array(comparisons.names, dtype=object)
    columns = {"img1": names[block.first].tolist(), "img2": names[block.second].tolist()}
    columns["kind"] = _KIND_NAMES[block.kind].tolist()
    columns["score"] = block.score.tolist()  # as Python floats: exact in decimal
    for name, labels in (("person", comparisons.people), ("family", comparisons.families)):
        if labels is not None:
            columns |= {f"{name}1": labels[block.first].tolist(), f"{name}2": labels[block.second].tolist()}
    return columns


def _write_csv(file: IO[bytes], tables: Iterator[dict[str, list[Any]]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = CsvWriter(text)
    for number, columns in enumerate(tables):
        if number == 0:
            writer.row(columns)
        writer.rows(zip(*columns.values(), strict=True))
    text.detach()


def _write_parquet(file: IO[bytes], tables: Iterator[dict[str, list[Any]]], path: str) -> None:
    parquet, arrow = pyarrow_parquet(path), import_module("pyarrow")
    writer = None
    for columns in tables:
        table = arrow.table(columns)
        if writer is None:
            writer = parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


@dataclass
class _Reader:
    """Collects rows into arrays; the first fault ends it."""

    path: Path
    columns: Sequence[str]
    number_of: dict[str, int] = field(default_factory=dict)
    people: dict[int, str] = field(default_factory=dict)
    families: dict[int, str] = field(default_factory=dict)
    number_of_fold: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED if name not in self.columns]
        if missing:
            raise MetricError(
                f"{self.path}: no column {', '.join(missing)} among {_shown(self.columns)}. {SCHEMA}"
            )
        self.at = {name: index for index, name in reversed(list(enumerate(self.columns)))}
        for one, other in (IDENTITIES[:2], IDENTITIES[2:]):
            if (one in self.at) != (other in self.at):
                raise MetricError(f"{self.path}: columns {one} and {other} come together; one is missing.")

    def read(self, rows: Iterator[tuple[int, Row]]) -> ScoreTable:
        first, second, scores = array("q"), array("q"), array("d")
        kinds, lines, folds = array("b"), array("q"), array("q")
        needed = max(self.at[name] for name in (*REQUIRED, *self._optional())) + 1
        for line, row in rows:
            if len(row) < needed:
                raise self._fault(line, f"{plural(len(row), 'column')}, not {len(self.columns)}")
            one, other = self._image(line, row, "1"), self._image(line, row, "2")
            if one == other:
                raise self._fault(
                    line, f"image {row[self.at['img1']]} is paired with itself. Delete the line"
                )
            first.append(one)
            second.append(other)
            scores.append(self._score(line, row[self.at["score"]]))
            kinds.append(self._kind(line, row))
            if "fold" in self.at:
                folds.append(self._fold(line, row[self.at["fold"]]))
            lines.append(line)
        if not lines:
            raise MetricError(f"{self.path}: no pairs in it. {SCHEMA}")
        return ScoreTable(
            str(self.path), tuple(self.number_of), np.array(first), np.array(second), _narrowed(np.array(scores)),
            np.array(kinds), self._labels(self.people), self._labels(self.families), np.array(lines),
            np.array(folds) if folds else None,
        )  # fmt: skip

    def _optional(self) -> list[str]:
        return [name for name in OPTIONAL if name in self.at]

    def _fold(self, line: int, text: str) -> int:
        if not text:
            raise self._fault(line, "fold is empty; fill it in or drop the column")
        return self.number_of_fold.setdefault(text, len(self.number_of_fold))

    def _image(self, line: int, row: Row, which: str) -> int:
        name = row[self.at[f"img{which}"]]
        if not name:
            raise self._fault(line, f"img{which} is empty")
        number = self.number_of.setdefault(name, len(self.number_of))
        for column, known in ((f"person{which}", self.people), (f"family{which}", self.families)):
            if column in self.at:
                label = row[self.at[column]]
                if not label:
                    raise self._fault(line, f"{column} is empty; fill it in or drop the column")
                if known.setdefault(number, label) != label:
                    raise self._fault(line, f"{column} of {name} is {label}, before it was {known[number]}")
        return number

    def _score(self, line: int, text: str) -> float:
        """NaN for a comparison that failed."""
        if text.lower() in NO_SCORE:
            return math.nan
        try:
            score = float(text)
        except ValueError:
            raise self._fault(line, f"score '{text}' is not a number") from None
        if not math.isfinite(score):
            raise self._fault(
                line, f"score {text} is not a finite number; leave it empty if the comparison failed"
            )
        return score

    def _kind(self, line: int, row: Row) -> int:
        kind = UNSTATED
        if "kind" in self.at:
            word = row[self.at["kind"]].lower()
            if word not in KINDS:
                raise self._fault(line, f"kind '{word}' is none of genuine, twin, unrelated, other")
            kind = KINDS[word]
        if "label" in self.at:
            text = row[self.at["label"]]
            same = parse_label(text)
            if same is None:
                raise self._fault(line, f"label '{text}' is unknown; write {LABELS_READ}")
            if kind == UNSTATED:
                kind = int(PairKind.GENUINE if same else PairKind.OTHER)
            elif (kind == PairKind.GENUINE) != same:
                raise self._fault(line, f"label {text} contradicts kind '{row[self.at['kind']]}'")
        return kind

    def _labels(self, known: Mapping[int, str]) -> Labels | None:
        return np.array([known[row] for row in range(len(known))], dtype=np.str_) if known else None

    def _fault(self, line: int, what: str) -> MetricError:
        return MetricError(
            f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {line}: {what}."
        )


def _without_repeats(table: ScoreTable, strict: bool) -> ScoreTable:
    """Each pair once. MetricError for a pair with two kinds or two scores."""
    low, high = np.minimum(table.first, table.second), np.maximum(table.first, table.second)
    _, kept, group = np.unique(low * len(table.names) + high, return_index=True, return_inverse=True)
    if kept.size == table.lines.size:
        return table
    original = kept[group]  # of each line, the first line with the same pair
    repeats = np.flatnonzero(original != np.arange(original.size))
    for what, values, differ in (
        ("label", table.kinds, table.kinds[repeats] != table.kinds[original[repeats]]),
        ("score", table.scores, _differ(table.scores[repeats], table.scores[original[repeats]])),
    ):
        if differ.any():
            pair = int(repeats[np.argmax(differ)])
            before = int(original[pair])
            raise MetricError(
                f"{table.place(pair)}: the {what} contradicts line {table.lines[before]}, the same two images "
                f"({_named(what, values[before])} and {_named(what, values[pair])}). Keep one of them."
            )
    told = f"{table.place(int(repeats[0]))}: {plural(repeats.size, 'pair')} left out, listed before, this one first"
    if strict:
        raise MetricError(f"{told} (strict)")
    logger.warning("%s", told)
    keep = np.sort(kept)
    return ScoreTable(
        table.file, table.names, table.first[keep], table.second[keep], table.scores[keep], table.kinds[keep],
        table.people, table.families, table.lines[keep], None if table.folds is None else table.folds[keep],
    )  # fmt: skip


def _differ(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which scores are not the same, a failed comparison being the same as another one only."""
    return np.where(
        np.isnan(one) | np.isnan(other), np.isnan(one) != np.isnan(other), np.abs(one - other) > SAME_SCORE
    )


def _table(path: Path, found: Columns) -> ScoreTable:
    first_line = 1 if path.suffix.lower() == ".parquet" else 2
    return ScoreTable(
        str(path), found.names, found.first, found.second, _narrowed(found.score), found.kind, found.people,
        found.families, np.arange(first_line, first_line + found.first.size), found.fold,
    )  # fmt: skip


def _narrowed(scores: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    return narrow if np.array_equal(narrow, scores, equal_nan=True) else scores


def _named(what: str, value: Any) -> str:
    if what == "score":
        return "none" if np.isnan(value) else f"{float(value):g}"
    return "unstated" if value == UNSTATED else PairKind(int(value)).name.lower()


def _csv_rows(path: Path) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    """Column names, and (line, cells) of every line below them."""
    rows = read_rows(path, MetricError)
    try:
        line, cells = next(rows)
    except StopIteration:
        raise MetricError(f"{path}: an empty file. {SCHEMA}") from None
    return headings(cells, f"{path}, line {line}", MetricError), rows


def _parquet_rows(path: Path) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    parquet = pyarrow_parquet(str(path))
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:
        raise MetricError(f"{path}: not a parquet file, or damaged ({str(error)[:100]})") from error
    return headings(file.schema_arrow.names, path, MetricError), _parquet_lines(path, file)


def _parquet_lines(path: Path, file: Any) -> Iterator[tuple[int, Row]]:
    number = 0
    columns = list(file.schema_arrow.names)
    try:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            values = batch.to_pydict()
            for row in zip(*(values[name] for name in columns), strict=True):
                number += 1
                yield number, ["" if cell is None else _cell(cell) for cell in row]
    except OSError as error:
        raise MetricError(f"{path}: damaged below row {number} ({str(error)[:100]})") from error


def _cell(value: object) -> str:
    return restored(str(value).strip())


def _shown(columns: Sequence[str]) -> str:
    text = ", ".join(columns)
    return text if len(text) <= 80 else f"{text[:77]}..."
