"""Pairs counted by family, kind and score bin, and their weighted counts when families are drawn again.

Families are drawn with replacement; family f is drawn w_f times. A genuine or twin pair of family f then counts w_f
times, an unrelated pair of families f and g w_f w_g times; the pairs between two copies of one family are left out,
since no such comparison was ever made. For pairwise data this is the vertex bootstrap of Fogliato, Patil & Perona,
"Confidence intervals for error rates in 1:1 matching tasks", arXiv 2306.01198, over families in place of people; see
also Conti & Clémençon, "Assessing uncertainty in similarity scoring", arXiv 2211.07245.

A replicate never looks at pairs: these are counted once by (family, bin) and (two families, bin), and the counts of all
replicates are two matrix products. Legend: U units (families, or groups of families), B bins, R rows of weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

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
ROWS_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn: `of_family` (F,) the unit of each family, -1 for one without a pair."""

    of_family: NDArray[np.intp]
    num_families: int
    num_units: int

    def of(self, families: NDArray[np.intp]) -> NDArray[np.int32]:
        """(N,) the unit of each image from its family; -1 for families beyond those that have pairs."""
        padded = np.append(self.of_family, -1).astype(np.int32)
        return np.asarray(padded[np.minimum(families, self.of_family.size)])


@dataclass(frozen=True, eq=False)
class Binned:
    """How many pairs, and which sums of their scores, each unit or pair of units has.

    edges: (B - 1,) ascending; the bin of a score is the number of edges at or below it. genuine, twin: (U, B).
    unrelated: (C, B), the C pairs of units `first_unit`, `second_unit` (C,). Moments: (U or C, 2), the sums of
    score - centre and of its square.
    """

    edges: ScoreArray
    centre: float
    genuine: Floats
    twin: Floats
    unrelated: NDArray[np.float32]
    first_unit: NDArray[np.intp]
    second_unit: NDArray[np.intp]
    genuine_moments: Floats
    twin_moments: Floats
    unrelated_moments: Floats


@dataclass(frozen=True, eq=False)
class WeightedCounts:
    """One class of every replicate: weight in each bin (R, B), and weighted sums of score - centre and its square."""

    bins: Floats
    moments: Floats

    def __add__(self, other: "WeightedCounts") -> "WeightedCounts":
        return WeightedCounts(self.bins + other.bins, self.moments + other.moments)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Replicates of a source: its bin edges, what was drawn, and the weighted counts of each kind.

    having: how many units have pairs of a kind; num_unit_pairs: how many pairs of units have unrelated pairs.
    """

    edges: ScoreArray
    units: Units
    counts: Mapping[PairKind, WeightedCounts]
    having: Mapping[PairKind, int]
    num_unit_pairs: int

    def column(self, threshold: float) -> int:
        """How many of the highest bins lie at or above a threshold that is an edge (or infinite)."""
        return int(ScoreCounts(self.edges).num_at_or_above(threshold))


def draw(
    source: PairSource,
    counts: CountedPairs,
    families: NDArray[np.intp],
    threshold: float | None,
    num_replicates: int,
    seed: int,
) -> Drawn:
    """Draw families with replacement, `num_replicates` times.

    The same families, seed and number give the same multiplicities, whatever the scores are.
    Args: families: numbers of those that have pairs, see `families_of`. threshold: is made an edge; None for none.
    """
    units = make_units(families, np.random.default_rng((seed, 1)))
    edges = choose_edges(counts, threshold)
    binned = bin_pairs(source, counts, edges, units)
    weights = multiplicities(units.num_units, num_replicates, np.random.default_rng((seed, 2)))
    met = binned.unrelated.any(axis=1)
    between = met & (binned.first_unit != binned.second_unit)
    in_pairs = np.unique(np.concatenate([binned.first_unit[met], binned.second_unit[met]]))
    having = {
        PairKind.GENUINE: int(binned.genuine.any(axis=1).sum()),
        PairKind.TWIN: int(binned.twin.any(axis=1).sum()),
        PairKind.UNRELATED: in_pairs.size,
    }
    return Drawn(edges, units, weigh(binned, weights), having, int(between.sum()))


def make_units(families: NDArray[np.intp], rng: np.random.Generator) -> Units:
    """Each family is a unit; more than MAX_UNITS families are put into NUM_GROUPS random groups of nearly equal size.

    Drawing groups is a valid cluster bootstrap too (every family is in one group and groups are independent); it only
    estimates the spread from fewer, larger units. Families of one group share its multiplicity.

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
    kinds = [tally for tally in (counts.genuine, counts.twin, counts.unrelated) if tally.size]
    dtype = np.result_type(*(tally.values for tally in kinds))
    given = np.empty(0, dtype)
    if threshold is not None and np.isfinite(threshold):
        given = np.atleast_1d(rounded_up(threshold, dtype))
    if sum(tally.values.size for tally in kinds) <= MAX_EDGES:
        return np.unique(np.concatenate([given, *(tally.values for tally in kinds)]))
    chosen = [given]
    for tally in kinds:
        ranks = _tail_ranks(tally.size)
        if tally is not counts.genuine:
            ranks = tally.size - 1 - ranks
        even = np.linspace(0, tally.size - 1, NUM_QUANTILES).astype(np.intp)
        chosen += [tally.at_ranks(ranks), tally.at_ranks(even)]
    return np.unique(np.concatenate(chosen))


def bin_pairs(source: PairSource, counts: CountedPairs, edges: ScoreArray, units: Units) -> Binned:
    """Count the pairs of a source by unit, kind and bin, in one walk."""
    assert source.families is not None
    num_bins, num_units = edges.size + 1, units.num_units
    num_codes = num_units * (num_units + 1) // 2
    centre = _centre(counts)
    per_unit = {kind: np.zeros((num_units, num_bins)) for kind in (PairKind.GENUINE, PairKind.TWIN)}
    between = np.zeros(num_codes * num_bins, np.int32)
    moments = {kind: np.zeros((num_units, 2)) for kind in per_unit} | {
        PairKind.UNRELATED: np.zeros((num_codes, 2))
    }
    bin_of, unit_of = _bin_finder(edges, source), units.of(source.families)
    for block in _of_one_kind(source):
        kind = PairKind(int(block.kind[0]))
        code = unit_of[block.first]
        if kind == PairKind.UNRELATED:
            code = _code(code, unit_of[block.second])
        offset = block.score.astype(np.float64) - centre
        for power, weights in enumerate((offset, offset * offset)):
            moments[kind][:, power] += np.bincount(code, weights, minlength=len(moments[kind]))
        code = code * np.int32(num_bins) + bin_of(block.score)
        if kind == PairKind.UNRELATED:
            np.add.at(between, code, np.int32(1))
        else:
            per_unit[kind] += np.bincount(code, minlength=per_unit[kind].size).reshape(num_units, num_bins)
    second, first = np.tril_indices(num_units)  # in the order of their codes
    return Binned(
        edges, centre, per_unit[PairKind.GENUINE], per_unit[PairKind.TWIN],
        between.reshape(num_codes, num_bins).astype(np.float32), first, second,
        moments[PairKind.GENUINE], moments[PairKind.TWIN], moments[PairKind.UNRELATED],
    )  # fmt: skip


def weigh(binned: Binned, weights: Floats) -> dict[PairKind, WeightedCounts]:
    """Weighted counts of genuine, twin and unrelated pairs for rows of multiplicities (R, U).

    The products of unrelated pairs are taken in float32: exact up to 2^24, beyond that to 7 digits.
    """
    unrelated = np.empty((len(weights), binned.edges.size + 1))
    moments = np.empty((len(weights), 2))
    for start in range(0, len(weights), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        products = weights[part][:, binned.first_unit] * weights[part][:, binned.second_unit]
        unrelated[part] = products.astype(np.float32) @ binned.unrelated
        moments[part] = products @ binned.unrelated_moments
    return {
        PairKind.GENUINE: WeightedCounts(weights @ binned.genuine, weights @ binned.genuine_moments),
        PairKind.TWIN: WeightedCounts(weights @ binned.twin, weights @ binned.twin_moments),
        PairKind.UNRELATED: WeightedCounts(unrelated, moments),
    }


def multiplicities(num_units: int, num_replicates: int, rng: np.random.Generator) -> Floats:
    """(R, U) how often each unit is drawn when U are drawn with replacement."""
    return rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=num_replicates).astype(
        np.float64
    )


def _tail_ranks(total: int) -> NDArray[np.intp]:
    """Every rank from 0 on, then ranks TAIL_STEP apart, up to half of the total."""
    steps = np.arange(1 + np.log(max(total / 2, 1)) / np.log(TAIL_STEP))
    return np.unique((TAIL_STEP**steps).astype(np.intp) - 1)


def _centre(counts: CountedPairs) -> float:
    """Between the means, so that sums of squares about it lose no digits."""
    return float(np.mean([tally.moments()[0] for tally in _filled(counts)]))


def _filled(counts: CountedPairs) -> list[ScoreCounts]:
    return [tally for tally in map(counts.of, PairKind) if tally.size]


def _of_one_kind(source: PairSource) -> Iterator[PairBlock]:
    for block in source.blocks():
        for kind in block.kinds():
            yield block.only(kind)


def _code(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number of an unordered pair of units: position in the lower triangle, row by row."""
    high, low = np.maximum(first, second), np.minimum(first, second)
    return np.asarray(high * (high + 1) // 2 + low)


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
