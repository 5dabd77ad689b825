"""Streams of scored pairs, and their scores counted by kind: nothing here holds all pairs at once but as counts.

Legend: N images, P pairs of a block, D embedding width. A source is walked block by block, any number of times:
`AllPairs` makes the cosines of all N(N-1)/2 pairs of a set of embeddings, `ListedPairs` walks a list of scores.

Cosines of `AllPairs` are defined as rounded to the nearest multiple of 2^-24 (`GRID`), which is at or below the
rounding error of a float32 cosine of a few hundred terms; every such multiple is itself an exact float32. So a figure
of counted cosines is the exact figure of the scores that `blocks` shows: there is no bin error. Listed scores are
never rounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

from .fusion import Fusion, similarity_matrix
from .pairs import PairKind, image_labels, normalize_rows, row_numbers, run_ends
from .score_counts import CountedScores, ScoreArray, ScoreCounts, count_scores, refuse_not_finite

GRID = 2.0**-24
"""Spacing of the cosines of `AllPairs`."""

SECTIONS = ("twin", "unrelated", "all")
"""A section compares the genuine pairs with one kind of impostor; "all" has twin, unrelated and other ones."""

TILE_ROWS, TILE_COLUMNS = 512, 4096
LISTED_AT_ONCE = 1 << 20
COUNT_FROM = 1 << 25
"""From so many scores of a kind on the grid, counters (2^25 + 1 of them, 268 MB) take the place of the scores."""


@dataclass(frozen=True, eq=False)
class PairBlock:
    """Some pairs, (P,) each: image rows (int32; -1 where a list has none), score, and PairKind (int8).

    `score` is float32, or float64 where a list came so. Which image comes first has no meaning. weight: what each pair
    counts (`person_weights`); None where every pair counts one.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    score: ScoreArray
    kind: NDArray[np.int8]
    weight: NDArray[np.float64] | None = None

    def only(self, kind: PairKind) -> "PairBlock":
        """The pairs of one kind; the block itself where it has no others."""
        chosen = self.kind == kind
        return self if chosen.all() else self.some(chosen)

    def some(self, chosen: NDArray[np.bool_] | slice) -> "PairBlock":
        """The pairs of a mask (P,) or slice."""
        weight = None if self.weight is None else self.weight[chosen]
        return PairBlock(
            self.first[chosen], self.second[chosen], self.score[chosen], self.kind[chosen], weight
        )

    def kinds(self) -> list[PairKind]:
        """The kinds that occur, in their order."""
        occurs = np.bincount(self.kind, minlength=len(PairKind)) > 0
        return [kind for kind in PairKind if occurs[kind]]


class PairSource(Protocol):
    """Scored pairs of N images. `people`, `families`: (N,) numbers from 0 on, or None where they are unknown."""

    @property
    def num_pairs(self) -> int: ...

    @property
    def on_grid(self) -> bool:
        """Whether every score is a multiple of GRID in [-1, 1]."""
        ...

    @property
    def people(self) -> NDArray[np.intp] | None: ...

    @property
    def families(self) -> NDArray[np.intp] | None: ...

    def blocks(self) -> Iterator[PairBlock]:
        """Every pair once; the same pairs, scores and order each time."""
        ...


class DerivedPairs:
    """Of a source that is made of another one: whose images they are, and whether scores are on the grid, stay."""

    def __init__(self, source: PairSource) -> None:
        self._source, self.on_grid = source, source.on_grid
        self.people, self.families = source.people, source.families


class AllPairs:
    """All pairs of N images: cosines of their embeddings, on the grid of 2^-24.

    Args: embeddings (N, D), need not be unit length; person_of, family_of_image (N,): labels of any sortable type;
        fusion: what makes scores of cosines, if anything does. Rows of a block are rows of `embeddings`. MetricError as
        in `scores.all_pair_scores`.
    """

    on_grid = True

    def __init__(
        self, embeddings: ArrayLike, person_of: ArrayLike, family_of_image: ArrayLike, fusion: Fusion | None = None
    ) -> None:  # fmt: skip
        self.people, self.families = image_labels(person_of, family_of_image)
        unit = normalize_rows(embeddings)
        if len(unit) != self.people.size:
            raise MetricError(
                f"{plural(len(unit), 'embedding')} but {plural(self.people.size, 'label')}. Give one label per image."
            )
        order = np.lexsort((self.people, self.families))
        self._fusion = fusion
        self._order, self._unit = order.astype(np.int32), unit[order]
        self._family_end = run_ends(self.families[order])

    @property
    def num_pairs(self) -> int:
        return self.people.size * (self.people.size - 1) // 2

    def blocks(self) -> Iterator[PairBlock]:
        """Tiles of the score matrix in order of family and person: first those at its diagonal, which hold every
        genuine and twin pair of their rows unless a family is larger than a tile."""
        total = self.people.size
        for top in range(0, total, TILE_ROWS):
            bottom = min(top + TILE_ROWS, total)
            yield from self._tile(top, bottom, top, bottom)
            for left in range(bottom, total, TILE_COLUMNS):
                yield from self._tile(top, bottom, left, min(left + TILE_COLUMNS, total))

    def _tile(self, top: int, bottom: int, left: int, right: int) -> Iterator[PairBlock]:
        """One block, or none: rows top to bottom against columns left to right, above the diagonal."""
        scores = similarity_matrix(self._unit[top:bottom], self._unit[left:right], self._fusion)
        np.multiply(scores, np.float32(1 / GRID), out=scores)
        np.rint(scores, out=scores)
        np.multiply(scores, np.float32(GRID), out=scores)
        np.clip(scores, -1, 1, out=scores)
        if left >= self._family_end[bottom - 1]:  # no family is on both sides
            first = np.repeat(self._order[top:bottom], right - left)
            second = np.tile(self._order[left:right], bottom - top)
            yield PairBlock(first, second, scores.ravel(), np.full(scores.size, PairKind.UNRELATED, np.int8))
            return
        row, column = np.indices(scores.shape, dtype=np.int32).reshape(2, -1)
        above = np.flatnonzero(row + top < column + left)
        if above.size:
            first, second = self._order[row[above] + top], self._order[column[above] + left]
            yield PairBlock(first, second, scores.ravel()[above], self._kinds(first, second))

    def _kinds(self, first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int8]:
        return _kinds_of(first, second, self.people, self.families)


class ListedPairs:
    """A list of scored pairs, as read from a file or made by another system.

    Args: scores (P,): any range, float32 or float64, kept as they are; kinds (P,): PairKind; first, second (P,): image
        rows, both or neither; people, families (N,): labels of the images, None where unknown (without families there
        are no intervals). MetricError for no pairs, lengths that differ, kinds that are none, NaN, row numbers
        outside the labels, an image paired with itself, or kinds that contradict the labels.
    """

    on_grid = False

    def __init__(
        self,
        scores: ArrayLike,
        kinds: ArrayLike,
        first: ArrayLike | None = None,
        second: ArrayLike | None = None,
        *,
        people: ArrayLike | None = None,
        families: ArrayLike | None = None,
    ) -> None:
        self._score, self._kind = _listed_scores(scores), _listed_kinds(kinds)
        self.people = None if people is None else _numbered("people", people)
        self.families = None if families is None else _numbered("families", families)
        if people is not None and families is not None:
            self.people, self.families = image_labels(people, families)  # refuses a person in two families
        given_rows = [None if rows is None else np.asarray(rows) for rows in (first, second)]
        sizes = [self._kind.size, *(rows.size for rows in given_rows if rows is not None)]
        if any(size != self._score.size for size in sizes) or len(sizes) == 2:
            raise MetricError(
                f"pairs: {plural(self._score.size, 'score')}, {plural(sizes[0], 'kind')} and {sizes[1:] or 'no'} image "
                "rows. Give one kind per score, and both image rows or none."
            )
        self._rows = self._checked_rows(given_rows)
        self._refuse_contradictions()

    @property
    def num_pairs(self) -> int:
        return self._score.size

    def blocks(self) -> Iterator[PairBlock]:
        """The pairs in the order given."""
        for start in range(0, self.num_pairs, LISTED_AT_ONCE):
            part = slice(start, start + LISTED_AT_ONCE)
            yield PairBlock(self._rows[0][part], self._rows[1][part], self._score[part], self._kind[part])

    def _checked_rows(self, given: list[NDArray[Any] | None]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        labelled = [labels.size for labels in (self.people, self.families) if labels is not None]
        if self.families is not None and self.people is None:
            raise MetricError("labels: families are given but no people. Give one of each per image.")
        if given[0] is None or given[1] is None:
            if labelled:
                raise MetricError(
                    "pairs: labels of images are given but no image rows. Give first and second."
                )
            unknown = np.full(self._score.size, -1, np.int32)
            return unknown, unknown
        total = labelled[0] if labelled else np.iinfo(np.int32).max
        first, second = (row_numbers(rows, total).astype(np.int32) for rows in given if rows is not None)
        itself = np.flatnonzero(first == second)
        if itself.size:
            raise MetricError(
                f"pairs: {itself.size} pair an image with itself, first pair {itself[0]} (image {first[itself[0]]}). "
                "Leave these out; they always match."
            )
        return first, second

    def _refuse_contradictions(self) -> None:
        """MetricError where a kind is not what the labels say."""
        if self.people is None:
            return
        says = _kinds_of(*self._rows, self.people, self.people if self.families is None else self.families)
        if self.families is None:  # only genuine or not can be told
            wrong = np.flatnonzero((says == PairKind.GENUINE) != (self._kind == PairKind.GENUINE))
        else:
            wrong = np.flatnonzero(says != self._kind)
        if wrong.size:
            at = int(wrong[0])
            raise MetricError(
                f"pairs: the kind of {wrong.size} of {self._kind.size} contradicts the labels, first pair {at}: given "
                f"{PairKind(self._kind[at]).name}, by the labels {PairKind(says[at]).name}. Correct one of them."
            )


@dataclass(frozen=True, eq=False)
class CountedPairs:
    """The scores of every kind of pair, counted; a kind may be empty. Field names are those of PairKind."""

    genuine: ScoreCounts
    twin: ScoreCounts
    unrelated: ScoreCounts
    other: ScoreCounts

    def of(self, kind: PairKind) -> ScoreCounts:
        """The scores of one kind of pair."""
        kind_counts: ScoreCounts = getattr(self, kind.name.lower())
        return kind_counts

    @property
    def is_weighted(self) -> bool:
        """Whether numbers of pairs are sums of weights."""
        return any(part.below is not None and part.below.dtype.kind == "f" for part in map(self.of, PairKind))

    def has(self, section: str) -> bool:
        """Whether a section ("twin", "unrelated", "all") has impostor pairs."""
        return any(part.size for part in self._impostors(section))

    def section(self, name: str) -> CountedScores:
        """Genuine pairs against the impostors of "twin", "unrelated" or "all", without a copy: what metrics take.

        MetricError where a class is empty or all scores are the same.
        """
        try:
            return count_scores(self.genuine, self._impostors(name))
        except MetricError as error:
            raise MetricError(f"section '{name}': {error}") from error

    def _impostors(self, section: str) -> tuple[ScoreCounts, ...]:
        if section not in SECTIONS:
            raise MetricError(f"section '{section}' is unknown. Use {', '.join(SECTIONS)}.")
        if section == "all":
            return (self.twin, self.unrelated, self.other)
        return (self.twin,) if section == "twin" else (self.unrelated,)


def count_pairs(source: PairSource) -> CountedPairs:
    """Count the scores of a source by kind, exactly, in one walk. MetricError for NaN or infinite scores.

    Memory: the scores of a kind as they are; of more than COUNT_FROM scores on the grid, counters in their place.
    """
    gathered = {kind: _Gathered(source.on_grid) for kind in PairKind}
    for block in source.blocks():
        for kind in block.kinds():
            part = block.only(kind)
            gathered[kind].add(part.score, part.weight)
    return CountedPairs(*(gathered[kind].take_counts(kind.name.lower()) for kind in PairKind))


class _Gathered:
    """The scores of one kind so far: arrays, or counters on the grid once these are smaller."""

    def __init__(self, on_grid: bool) -> None:
        self._on_grid = on_grid
        self._parts: list[ScoreArray] = []
        self._size = 0
        self._weights: list[NDArray[np.float64]] = []
        self._counters: NDArray[Any] | None = None

    def add(self, scores: ScoreArray, weight: NDArray[np.float64] | None) -> None:
        self._parts.append(scores)
        if weight is not None:
            self._weights.append(weight)
        self._size += scores.size
        if self._on_grid and self._size >= COUNT_FROM:
            if self._counters is None:
                dtype: type = np.int64 if weight is None else np.float64
                self._counters = np.zeros(round(2 / GRID) + 1, dtype)
            counted: list[Any] = [1] * len(self._parts) if weight is None else self._weights
            for part, each in zip(self._parts, counted, strict=True):
                np.add.at(self._counters, grid_index(part), each)
            self._parts, self._weights = [], []

    def take_counts(self, name: str) -> ScoreCounts:
        """Builds the score counts and empties this collector."""
        counters, parts = self._counters, self._parts
        self._counters, self._parts = None, []
        if counters is not None:
            at = np.flatnonzero(counters)
            counts = counters[at]
            del counters
            at -= round(1 / GRID)
            return ScoreCounts.of_counts(at.astype(np.float32) * np.float32(GRID), counts)
        if not parts:
            return ScoreCounts(np.empty(0, np.float32))
        scores = np.concatenate(parts)
        if self._weights:
            weight, self._weights = np.concatenate(self._weights), []
            values, at = np.unique(scores, return_inverse=True)
            refuse_not_finite(name, values)
            return ScoreCounts.of_counts(values, np.bincount(at, weight))
        scores.sort()
        refuse_not_finite(name, scores)
        return ScoreCounts(scores)


def grid_index(scores: ScoreArray) -> NDArray[np.int32]:
    """Numbers of scores on the grid, 0 for -1 to 2^25 for +1, exactly."""
    return (scores * np.float32(1 / GRID)).astype(np.int32) + np.int32(round(1 / GRID))


def _kinds_of(
    first: NDArray[np.int32], second: NDArray[np.int32], people: NDArray[np.intp], families: NDArray[np.intp]
) -> NDArray[np.int8]:
    kinds = np.full(first.size, PairKind.UNRELATED, np.int8)
    kinds[families[first] == families[second]] = PairKind.TWIN
    kinds[people[first] == people[second]] = PairKind.GENUINE
    return kinds


def _listed_scores(scores: ArrayLike) -> ScoreArray:
    array = np.asarray(scores)
    if array.ndim != 1 or array.dtype.kind not in "fiu" or array.size == 0:
        raise MetricError(
            f"pairs: expected one score per pair, given {array.dtype} of shape {array.shape}. "
            "Give a list of numbers, at least one."
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise MetricError(
            f"pairs: {bad.size} of {plural(array.size, 'score')} NaN or infinite, first pair {bad[0]}. "
            "Leave out pairs that could not be scored, and say how many."
        )
    return array


def _listed_kinds(kinds: ArrayLike) -> NDArray[np.int8]:
    array = np.asarray(kinds)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not np.isin(array, list(PairKind)).all():
        raise MetricError(
            f"pairs: kinds of {array.dtype} and shape {array.shape} hold more than PairKind. Give 0 to 3 per pair."
        )
    return array.astype(np.int8)


def _numbered(name: str, labels: ArrayLike) -> NDArray[np.intp]:
    array = np.asarray(labels)
    if array.ndim != 1:
        raise MetricError(f"{name}: expected one label per image, given shape {array.shape}.")
    return np.unique(array, return_inverse=True)[1]
