"""Scores of two classes, ready to be searched: sorted, or counted at distinct values. What metrics take.

`ScoreCounts` answers how many scores of one class lie below a value, and which score has a given rank. It holds either
every score, ascending, or the distinct scores with cumulative counts: a billion pairs fit, and nothing is rounded.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

ScoreArray = NDArray[np.floating[Any]]
Counts = NDArray[np.intp]

SCORES_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """Scores of one class. Made by `ScoreCounts.of_sorted` or `ScoreCounts.of_counts`; may be empty.

    values: (K,) ascending, finite, float32 or float64. below: (K + 1,) int64, how many scores lie below each value and,
    last, how many there are; `values` is distinct then. None: `values` holds every score, with repetitions. Where pairs
    are weighted (`person_weights`), below is float64 and numbers of scores are sums of their weights.
    """

    values: ScoreArray
    below: Counts | None = None

    @property
    def size(self) -> int:
        """Number of scores, or the sum of their weights."""
        return self.values.size if self.below is None else self.below[-1].item()

    @classmethod
    def of_counts(cls, values: ScoreArray, counts: ArrayLike) -> "ScoreCounts":
        """From distinct ascending values (K,) and how many scores each has (K,), at least 1."""
        below = np.zeros(values.size + 1, np.result_type(np.asarray(counts), np.intp))
        np.cumsum(counts, out=below[1:])
        return cls(values, below)

    @property
    def lowest(self) -> float:
        return float(self.values[0])

    @property
    def highest(self) -> float:
        return float(self.values[-1])

    def num_below(self, values: ArrayLike) -> Counts:
        """How many scores are < each value, exactly."""
        return self._count(np.searchsorted(self.values, rounded_up(values, self.values.dtype), side="left"))

    def num_at_or_below(self, values: ArrayLike) -> Counts:
        """How many scores are <= each value, exactly, for values of the scores' own type."""
        return self._count(np.searchsorted(self.values, np.asarray(values), side="right"))

    def num_at_or_above(self, values: ArrayLike) -> Counts:
        """How many scores are >= each value, exactly."""
        return np.asarray(self.size - self.num_below(values))

    def distinct(self) -> tuple[ScoreArray, Counts]:
        """Distinct scores, ascending (K,), and how many each has (K,)."""
        if self.below is not None:
            return self.values, np.diff(self.below)
        values, counts = np.unique(self.values, return_counts=True)
        return values, counts

    def at_ranks(self, ranks: ArrayLike) -> ScoreArray:
        """The scores of given ranks, 0 for the lowest, size - 1 for the highest."""
        wanted = np.asarray(ranks, dtype=np.intp)
        at = wanted if self.below is None else np.searchsorted(self.below, wanted, side="right") - 1
        return np.asarray(self.values[at])

    def moments(self) -> tuple[float, float]:
        """Mean and variance (over size, not size - 1), float64."""
        mean = self._mean(lambda values: values)
        return mean, self._mean(lambda values: (values - mean) ** 2)

    def _mean(self, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """Mean of a function of the scores; a part at a time, so that millions of scores need no float64 copy."""
        total = 0.0
        for start in range(0, self.values.size, SCORES_AT_ONCE):
            part = of(self.values[start : start + SCORES_AT_ONCE].astype(np.float64))
            if self.below is None:
                total += float(part.sum())
            else:
                total += float(part @ np.diff(self.below[start : start + SCORES_AT_ONCE + 1]))
        return total / self.size

    def _count(self, at: Any) -> Counts:
        return np.asarray(at if self.below is None else self.below[at])


def rounded_up(thresholds: ArrayLike, dtype: np.dtype[Any]) -> ScoreArray:
    """Thresholds in the scores' type, rounded up: scores compare with them as with the exact ones, and searchsorted
    need not copy millions of float32 scores to float64."""
    wanted = np.asarray(thresholds)
    if wanted.dtype == dtype:
        return wanted
    exact = wanted.astype(np.float64)
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    up = np.nextafter(rounded, np.asarray(np.inf, dtype=dtype))
    return np.asarray(np.where(rounded < exact, up, rounded))


class TwoClasses(Protocol):
    """Genuine and impostor scores, as metrics search them."""

    @property
    def num_genuine(self) -> int: ...

    @property
    def num_impostors(self) -> int: ...

    @property
    def genuine_counts(self) -> ScoreCounts: ...

    @property
    def impostor_counts(self) -> tuple[ScoreCounts, ...]:
        """None of them empty."""
        ...


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Genuine (G,) and impostor (I,) scores, ascending, finite, one float type; made by `sort_scores`."""

    genuine: ScoreArray
    impostor: ScoreArray

    @property
    def num_genuine(self) -> int:
        return self.genuine.size

    @property
    def num_impostors(self) -> int:
        return self.impostor.size

    @property
    def genuine_counts(self) -> ScoreCounts:
        return ScoreCounts(self.genuine)

    @property
    def impostor_counts(self) -> tuple[ScoreCounts, ...]:
        return (ScoreCounts(self.impostor),)


@dataclass(frozen=True, eq=False)
class CountedScores:
    """Genuine scores, and impostor scores in one part or several that count together; made by `count_scores`."""

    genuine_counts: ScoreCounts
    impostor_counts: tuple[ScoreCounts, ...]

    @property
    def num_genuine(self) -> int:
        return self.genuine_counts.size

    @property
    def num_impostors(self) -> int:
        return sum(part.size for part in self.impostor_counts)


def sort_scores(genuine: ArrayLike, impostor: ArrayLike) -> SortedScores:
    """Check and sort the scores of both classes, once; inputs stay as they are.

    Args: genuine (G,), impostor (I,): similarity scores of any range; float32 stays float32.
    Returns: SortedScores. MetricError for an empty class, NaN or infinite scores, scores that are all equal,
        or an array that is not one-dimensional and numeric.
    """
    given = {"genuine": score_array("genuine", genuine), "impostor": score_array("impostor", impostor)}
    dtype = np.result_type(*given.values())
    ordered = {name: np.sort(values.astype(dtype, copy=False)) for name, values in given.items()}
    for name, values in ordered.items():
        refuse_not_finite(name, values)
    scores = SortedScores(ordered["genuine"], ordered["impostor"])
    _refuse_all_equal(scores)
    return scores


def count_scores(genuine: ScoreCounts, impostors: Iterable[ScoreCounts]) -> CountedScores:
    """Both classes from tallies; empty parts are left out. MetricError for an empty class or scores all equal."""
    scores = CountedScores(genuine, tuple(part for part in impostors if part.size))
    for name, count in (("genuine", scores.num_genuine), ("impostor", scores.num_impostors)):
        if count == 0:
            raise MetricError(_none_of(name))
    _refuse_all_equal(scores)
    return scores


def score_array(name: str, values: ArrayLike) -> ScoreArray:
    """One-dimensional float32 or float64 scores, not empty; MetricError naming the class otherwise."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise MetricError(
            f"{name} scores: expected a one-dimensional array of numbers, given shape {array.shape} of type "
            f"{array.dtype}. Pass one score per pair."
        )
    if array.size == 0:
        raise MetricError(_none_of(name))
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)


def refuse_not_finite(name: str, ascending: ScoreArray) -> None:
    """MetricError where sorted scores hold NaN (sorts last) or infinity: the two ends tell."""
    if not (np.isfinite(ascending[0]) and np.isfinite(ascending[-1])):
        bad = ascending.size - int(np.isfinite(ascending).sum())
        raise MetricError(
            f"{name} scores: {bad} of {ascending.size} are NaN or infinite. Look for zero or NaN "
            "embeddings, or a diverged training run."
        )


def observed(scores: TwoClasses) -> tuple[ScoreCounts, ...]:
    """All parts whose values are observed scores."""
    return (scores.genuine_counts, *scores.impostor_counts)


def next_above(scores: TwoClasses, values: ScoreArray) -> ScoreArray:
    """(K,) the smallest observed score above each value, +inf where there is none."""
    nearest = np.full(values.shape, np.inf, dtype=values.dtype)
    for kind_counts in observed(scores):
        at = np.searchsorted(kind_counts.values, values, side="right")
        inside = at < kind_counts.values.size
        nearest[inside] = np.minimum(nearest[inside], kind_counts.values[at[inside]])
    return nearest


def first_observed(scores: TwoClasses, holds: Callable[[float], bool]) -> float:
    """The lowest observed score for which a condition holds that, once true, stays true; +inf where there is none."""
    lowest = math.inf
    for kind_counts in observed(scores):
        low, high = 0, kind_counts.values.size
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(float(kind_counts.values[middle])) else (middle + 1, high)
        if low < kind_counts.values.size:
            lowest = min(lowest, float(kind_counts.values[low]))
    return lowest


def next_below(scores: TwoClasses, value: float) -> float:
    """The highest observed score below a value, -inf where there is none."""
    parts = [part.values for part in observed(scores)]
    at = [int(np.searchsorted(part, rounded_up(value, part.dtype), side="left")) for part in parts]
    return max(
        (float(part[below - 1]) for part, below in zip(parts, at, strict=True) if below), default=-math.inf
    )


def _none_of(name: str) -> str:
    return (
        f"{name} scores: there are none. Error rates need at least one genuine and one impostor pair; "
        f"add {name} pairs to the evaluation data."
    )


def _refuse_all_equal(scores: TwoClasses) -> None:
    parts = observed(scores)
    if min(part.lowest for part in parts) == max(part.highest for part in parts):
        raise MetricError(
            f"all scores are the same, those of {scores.num_genuine} genuine and "
            f"{plural(scores.num_impostors, 'impostor pair')}: "
            "no threshold can tell them apart. Look for a collapsed model (every embedding the same)."
        )
