"""Pairs counted by family, kind and score bin, and what is left of them without each family: the jackknife.

Pairs that share a family are not independent; families are. Leaving out one family at a time, with every pair that
touches it, shows how far a figure hangs on each (Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics
40, 1969, over families in place of observations). Unlike drawing families with replacement, it sees the weight of a
family that holds a large part of the pairs (docs/intervals.md).

Pairs are walked once and counted by family, or by two families where they are unrelated; what is left without a family
is all of them less those that touch it. Legend: U units (families, or groups of families), C pairs of units (a unit
with itself among them), B bins.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pair_stream import GRID, CountedPairs, PairBlock, PairSource, grid_index
from .pairs import PairKind
from .score_counts import ScoreArray, ScoreCounts, rounded_up

Floats = NDArray[np.float64]

MAX_UNITS, NUM_GROUPS = 300, 256
MAX_EDGES = 1024
TAIL_STEP = 1.03
NUM_QUANTILES = 128
TABLE_FROM = 1 << 26


@dataclass(frozen=True, eq=False)
class Units:
    """What is left out in turn: `of_family` (F,) the unit of each family, -1 for one without a pair."""

    of_family: NDArray[np.intp]
    num_families: int
    num_units: int

    def of(self, families: NDArray[np.intp]) -> NDArray[np.int32]:
        """(N,) the unit of each image from its family; -1 for families beyond those that have pairs."""
        padded = np.append(self.of_family, -1).astype(np.int32)
        return np.asarray(padded[np.minimum(families, self.of_family.size)])


@dataclass(frozen=True, eq=False)
class BinnedPairs:
    """One class of pairs in N rows: how many lie in each bin (N, B), and the sums of score - centre and of its square
    (N, 2)."""

    bins: Floats | NDArray[np.int32]
    moments: Floats

    def __add__(self, other: "BinnedPairs") -> "BinnedPairs":
        return BinnedPairs(np.add(self.bins, other.bins, dtype=np.float64), self.moments + other.moments)

    def __sub__(self, other: "BinnedPairs") -> "BinnedPairs":
        return BinnedPairs(np.subtract(self.bins, other.bins, dtype=np.float64), self.moments - other.moments)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What is left of a source without each unit: its bin edges, the units, and the pairs of each kind in U rows.

    whole: all pairs of each kind, in one row. having: how many units have pairs of a kind; num_unit_pairs: how many
    pairs of units have unrelated pairs.
    """

    edges: ScoreArray
    units: Units
    counts: Mapping[PairKind, BinnedPairs]
    whole: Mapping[PairKind, BinnedPairs]
    having: Mapping[PairKind, int]
    num_unit_pairs: int

    def column(self, threshold: float) -> int:
        """How many of the highest bins lie at or above a threshold that is an edge (or infinite)."""
        return int(ScoreCounts(self.edges).num_at_or_above(threshold))


def leave_out_each(
    source: PairSource,
    counts: CountedPairs,
    families: NDArray[np.intp],
    threshold: float | None,
    seed: int,
) -> LeftOut:
    """Leave out every family in turn.

    Args: families: numbers of those that have pairs, see `families_of`. threshold: is made an edge; None for none.
        seed: of the groups, where there are more than MAX_UNITS families.
    """
    units = make_units(families, np.random.default_rng((seed, 1)))
    edges = choose_edges(counts, threshold)
    by_kind = bin_pairs(source, counts, edges, units)
    unrelated = by_kind[PairKind.UNRELATED]
    code_of = _codes(units.num_units)
    met = np.asarray(unrelated.bins.any(axis=1))[code_of]
    whole = {kind: _in_one_row(pairs) for kind, pairs in by_kind.items()}
    having = {kind: int(by_kind[kind].bins.any(axis=1).sum()) for kind in (PairKind.GENUINE, PairKind.TWIN)}
    return LeftOut(
        edges, units,
        {
            PairKind.GENUINE: whole[PairKind.GENUINE] - by_kind[PairKind.GENUINE],
            PairKind.TWIN: whole[PairKind.TWIN] - by_kind[PairKind.TWIN],
            PairKind.UNRELATED: whole[PairKind.UNRELATED] - _touching(unrelated, code_of),
        },
        whole,
        {**having, PairKind.UNRELATED: int(met.any(axis=1).sum())},
        int(np.triu(met, 1).sum()),
    )  # fmt: skip


def make_units(families: NDArray[np.intp], rng: np.random.Generator) -> Units:
    """Each family is a unit; more than MAX_UNITS families are put into NUM_GROUPS random groups of nearly equal size.

    Leaving out groups is a valid jackknife too (every family is in one group and groups are independent); it only
    estimates the spread from fewer, larger units.

    Args: families: numbers of the families that have pairs, in any order, repeated or not.
    """
    present = np.unique(families)
    of_family = np.full(int(present[-1]) + 1, -1, np.intp)
    if present.size <= MAX_UNITS:
        of_family[present] = np.arange(present.size)
        return Units(of_family, present.size, present.size)
    of_family[rng.permutation(present)] = np.arange(present.size) % NUM_GROUPS
    return Units(of_family, present.size, NUM_GROUPS)


def families_of(source: PairSource) -> NDArray[np.intp]:
    """Numbers of the families that have pairs. The source's families must be known."""
    assert source.families is not None
    met = np.zeros(int(source.families.max()) + 1, np.bool_)
    for block in source.blocks():
        met[source.families[block.first]] = True
        met[source.families[block.second]] = True
        if met.all():
            break
    return np.flatnonzero(met)


def choose_edges(counts: CountedPairs, threshold: float | None) -> ScoreArray:
    """Bin edges (observed scores, ascending): all of them if they are few, else dense where rates are small.

    Dense means: in the upper tail of the impostors and the lower tail of the genuine pairs every rank at first, then
    ranks 3 % apart; beside them even quantiles of each kind. A threshold is an edge, so rates at it have no bin error.
    """
    kinds = [
        kind_counts for kind_counts in (counts.genuine, counts.twin, counts.unrelated) if kind_counts.size
    ]
    dtype = np.result_type(*(kind_counts.values for kind_counts in kinds))
    given = np.empty(0, dtype)
    if threshold is not None and np.isfinite(threshold):
        given = np.atleast_1d(rounded_up(threshold, dtype))
    if sum(kind_counts.values.size for kind_counts in kinds) <= MAX_EDGES:
        return np.unique(np.concatenate([given, *(kind_counts.values for kind_counts in kinds)]))
    chosen = [given]
    for kind_counts in kinds:
        ranks = _tail_ranks(kind_counts.size)
        if kind_counts is not counts.genuine:
            ranks = kind_counts.size - 1 - ranks
        even = np.linspace(0, kind_counts.size - 1, NUM_QUANTILES).astype(np.intp)
        chosen += [kind_counts.at_ranks(ranks), kind_counts.at_ranks(even)]
    return np.unique(np.concatenate(chosen))


def bin_pairs(
    source: PairSource, counts: CountedPairs, edges: ScoreArray, units: Units
) -> dict[PairKind, BinnedPairs]:
    """Count the pairs of a source in one walk: genuine and twin pairs in U rows, unrelated ones in C (`_codes`).

    The bin of a score is the number of edges (ascending) at or below it.
    """
    assert source.families is not None
    num_bins, num_units = edges.size + 1, units.num_units
    num_codes = num_units * (num_units + 1) // 2
    kinds = (PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED)
    num_rows = {kind: num_codes if kind == PairKind.UNRELATED else num_units for kind in kinds}
    counter: type = np.float64 if counts.is_weighted else np.int32
    bins: dict[PairKind, NDArray[Any]] = {
        kind: np.zeros(rows * num_bins, counter) for kind, rows in num_rows.items()
    }
    moments = {kind: np.zeros((rows, 2)) for kind, rows in num_rows.items()}
    centre = _centre(counts)
    bin_of, unit_of = _bin_finder(edges, source), units.of(source.families)
    for block in _of_one_kind(source):
        kind = PairKind(int(block.kind[0]))
        own = unit_of[block.first]
        row = _code(own, unit_of[block.second]) if kind == PairKind.UNRELATED else own
        offset = block.score.astype(np.float64) - centre
        squares = offset * offset
        if block.weight is not None:
            offset, squares = offset * block.weight, squares * block.weight
        for power, weights in enumerate((offset, squares)):
            moments[kind][:, power] += np.bincount(row, weights, minlength=num_rows[kind])
        # In place, as a bincount of all cells costs more than a tile's pairs.
        counted = np.int32(1) if block.weight is None else block.weight
        np.add.at(bins[kind], row * np.int32(num_bins) + bin_of(block.score), counted)
    return {kind: BinnedPairs(bins[kind].reshape(-1, num_bins), moments[kind]) for kind in kinds}


def _in_one_row(pairs: BinnedPairs) -> BinnedPairs:
    return BinnedPairs(
        pairs.bins.sum(axis=0, keepdims=True, dtype=np.float64), pairs.moments.sum(axis=0, keepdims=True)
    )


def _touching(pairs: BinnedPairs, code_of: NDArray[np.intp]) -> BinnedPairs:
    """Pairs between two units, in U rows: each at both of its units."""
    bins = np.stack([pairs.bins[row].sum(axis=0, dtype=np.float64) for row in code_of])
    return BinnedPairs(bins, np.stack([pairs.moments[row].sum(axis=0) for row in code_of]))


def _codes(num_units: int) -> NDArray[np.intp]:
    """(U, U) the row of two units among unrelated pairs, in either order."""
    unit = np.arange(num_units)
    return np.asarray(_code(unit[:, None], unit[None, :]), np.intp)


def _code(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.integer]:
    """Number of an unordered pair of units: position in the lower triangle, row by row."""
    high, low = np.maximum(first, second), np.minimum(first, second)
    return np.asarray(high * (high + 1) // 2 + low)


def _tail_ranks(total: int) -> NDArray[np.intp]:
    """Every rank from 0 on, then ranks TAIL_STEP apart, up to half of the total."""
    steps = np.arange(1 + np.log(max(total / 2, 1)) / np.log(TAIL_STEP))
    return np.unique((TAIL_STEP**steps).astype(np.intp) - 1)


def _centre(counts: CountedPairs) -> float:
    """Between the means, so that sums of squares about it lose no digits."""
    return float(np.mean([kind_counts.moments()[0] for kind_counts in _filled(counts)]))


def _filled(counts: CountedPairs) -> list[ScoreCounts]:
    return [kind_counts for kind_counts in map(counts.of, PairKind) if kind_counts.size]


def _of_one_kind(source: PairSource) -> Iterator[PairBlock]:
    for block in source.blocks():
        for kind in block.kinds():
            yield block.only(kind)


def _bin_finder(edges: ScoreArray, source: PairSource) -> Callable[[ScoreArray], NDArray[np.int32]]:
    """Bin of each score: by search, or for very many scores on the grid by a table of all its 2^25 + 1 values."""
    if source.on_grid and source.num_pairs >= TABLE_FROM:
        table = _bin_table(edges)
        return lambda scores: np.asarray(table[grid_index(scores)], np.int32)
    return lambda scores: np.asarray(np.searchsorted(edges, scores, side="right"), np.int32)


def _bin_table(edges: ScoreArray) -> NDArray[np.int16]:
    """(2^25 + 1,) bin of every score on the grid."""
    last = round(2 / GRID)
    # Rounded up, as an edge that is a threshold need not be on the grid.
    starts = np.ceil((edges.astype(np.float64) + 1) / GRID)
    table = np.zeros(last + 1, np.int16)
    np.add.at(table, np.maximum(starts[starts <= last], 0).astype(np.intp), 1)
    return np.cumsum(table, out=table)
