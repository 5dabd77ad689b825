"""Differences of two systems on the same pairs, with intervals: EER and AUC, and rates at a false match rate.

The same families are left out for both, in one pass for all figures (docs/intervals.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError

from . import error_rates, replicates
from .confidence import p_value_of_zero, plain_interval
from .family_jackknife import LeftOut, leave_out_each
from .intervals import (
    FMR_LEVELS,
    HEADLINE_FMR,
    MIN_FAMILIES,
    check_arguments,
    compared_exactly,
    compared_without,
    families_or_why,
    plain,
    samples_of,
    supported_fmr,
    too_few,
    units_behind,
)
from .pair_stream import SECTIONS, AllPairs, CountedPairs, PairSource, count_pairs

Floats = NDArray[np.float64]
Key = tuple[str, str]
"""Section, or "headline", and figure."""

COMPARED_LEVELS = FMR_LEVELS[1:]


@dataclass(frozen=True)
class Difference:
    """Figure of a minus figure of b on the same pairs: interval, and two-sided p-value of "no difference"."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    num_undefined: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences of two systems: section -> "eer", "roc_auc" -> Difference; the rest as in `Intervals`."""

    level: float
    seed: int = 0
    num_families: int = 0
    num_units: int = 0
    method: str = "paired family jackknife, Student t"
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {**vars(self), "differences": {name: plain(each) for name, each in self.differences.items()}}


@dataclass(frozen=True, eq=False)
class Both:
    """Two systems on the same pairs: counted, and without each family in turn, unless `refusal` says why not."""

    counts: tuple[CountedPairs, CountedPairs]
    seed: int
    num_families: int
    left_out: tuple[LeftOut, LeftOut] | None = None
    refusal: str = ""


def leave_out_of_both(a: PairSource, b: PairSource, *, seed: int = 0) -> Both:
    """Leave out each family of both. MetricError unless both hold the same pairs in the same order."""
    _refuse_other_pairs(a, b)
    counts = count_pairs(a), count_pairs(b)
    families, reason = families_or_why(a, counts[0])
    if reason:
        return Both(counts, seed, families.size, refusal=reason)
    left_out = (
        leave_out_each(a, counts[0], families, None, seed),
        leave_out_each(b, counts[1], families, None, seed),  # the same units
    )
    return Both(counts, seed, families.size, left_out)


def paired_intervals(
    a: PairSource, b: PairSource, *, seed: int = 0, level: float = 0.95, both: Both | None = None
) -> Comparison:
    """Differences a - b in EER and AUC of every section, the same families left out for both.

    The p-value is that of Student's t for difference / standard error, so it is below 1 - level just where the interval
    leaves out 0. MetricError unless both hold the same pairs in the same order.
    Args: both: that of `leave_out_of_both(a, b)`, if at hand (saves the walks).
    """
    check_arguments(level)
    both = leave_out_of_both(a, b, seed=seed) if both is None else both
    sections = [name for name in SECTIONS if both.counts[0].has(name)]
    exact_a, exact_b = (compared_exactly(counts, sections) for counts in both.counts)
    if both.left_out is None:
        return Comparison(level, both.seed, both.num_families, refusals={"": both.refusal})
    without_a, without_b = (compared_without(left_out, sections) for left_out in both.left_out)
    made = Comparison(level, both.seed, both.num_families, both.left_out[0].units.num_units)
    for name, figure in without_a:
        num_units = units_behind(figure, name, both.left_out[1])
        if num_units < MIN_FAMILIES:
            made.refusals[name] = too_few(num_units)
        else:
            without = without_a[name, figure] - without_b[name, figure]
            values = exact_a[name, figure], exact_b[name, figure]
            made.differences.setdefault(name, {})[figure] = _difference(*values, without, num_units, level)
    return made


def paired_rates(
    a: PairSource, b: PairSource, *, seed: int = 0, level: float = 0.95, both: Both | None = None
) -> dict[Key, Difference]:
    """Differences a - b of `rates_of`, as `paired_intervals` has those of EER and AUC.

    Returns: those figures that rest on enough families; none where families are unknown.
    """
    both = leave_out_of_both(a, b, seed=seed) if both is None else both
    if both.left_out is None:
        return {}
    exact_a, exact_b = map(rates_of, both.counts)
    without_a, without_b = map(_without, both.left_out, (exact_a, exact_b), both.counts)
    made = {}
    for key in exact_a:
        num_units = units_behind("", key[0], both.left_out[1])
        if num_units >= MIN_FAMILIES:
            without = without_a[key] - without_b[key]
            made[key] = _difference(exact_a[key], exact_b[key], without, num_units, level)
    return made


def rates_of(counts: CountedPairs) -> dict[Key, float]:
    """(section, figure) to value: `fnmr_at_fmr_x` and `tar_at_far_x` of the levels that the pairs support, and of
    "headline" `twin_fmr` and `fnmr`, at each system's own threshold for that rate on unrelated pairs."""
    told: dict[Key, float] = {}
    for name in filter(counts.has, SECTIONS):
        for asked in COMPARED_LEVELS:
            point = error_rates.operating_point(counts.section(name), asked)
            if point.supported:
                told[name, f"fnmr_at_fmr_{asked:g}"] = point.fnmr
                told[name, f"tar_at_far_{asked:g}"] = point.tar
    if counts.has("twin") and counts.has("unrelated"):
        point = error_rates.operating_point(
            counts.section("unrelated"), supported_fmr(HEADLINE_FMR, counts.unrelated.size)
        )
        at = error_rates.error_rates_at(counts.section("twin"), point.threshold)
        told |= {("headline", "twin_fmr"): at.fmr, ("headline", "fnmr"): at.fnmr}
    return told


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in their order: rejecting those below α errs in any with probability α at
    most (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979).
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


def _difference(a: float, b: float, without: Floats, num_units: int, level: float) -> Difference:
    around = plain_interval(a - b, without, num_units=num_units, level=level)
    p_value = p_value_of_zero(a - b, without, num_units=num_units)
    return Difference(
        a, b, a - b, max(around.low, -1.0), min(around.high, 1.0), p_value, around.num_undefined
    )


def _without(left_out: LeftOut, exact: dict[Key, float], counts: CountedPairs) -> dict[Key, Floats]:
    """Each rate without each unit, (U,)."""
    these = {name: samples_of(left_out.counts, name) for name in SECTIONS if counts.has(name)}
    whole = {name: samples_of(left_out.whole, name) for name in these}
    told: dict[Key, Floats] = {}
    for name in these:
        for asked in COMPARED_LEVELS:
            if (name, f"fnmr_at_fmr_{asked:g}") in exact:
                missed = replicates.fnmr_at_fmr(these[name], whole[name], asked)
                told[name, f"fnmr_at_fmr_{asked:g}"] = missed
                told[name, f"tar_at_far_{asked:g}"] = 1 - missed
    if ("headline", "fnmr") in exact:
        rate = supported_fmr(HEADLINE_FMR, counts.unrelated.size)
        unrelated = these["unrelated"], whole["unrelated"]
        told["headline", "twin_fmr"] = replicates.twin_fmr_at_fmr(
            these["twin"], whole["twin"], *unrelated, rate
        )
        told["headline", "fnmr"] = replicates.fnmr_at_fmr(*unrelated, rate)
    return told


def _refuse_other_pairs(a: PairSource, b: PairSource) -> None:
    """MetricError unless both sources hold the same pairs, of the same labels, in the same order."""
    for name in ("people", "families"):
        ours, theirs = getattr(a, name), getattr(b, name)
        if (ours is None) != (theirs is None) or (ours is not None and not np.array_equal(ours, theirs)):
            raise MetricError(
                f"comparison: the two systems have other {name}. Score the same images with both."
            )
    if isinstance(a, AllPairs) and isinstance(b, AllPairs):
        return
    if a.num_pairs == b.num_pairs:
        for ours, theirs in zip(a.blocks(), b.blocks(), strict=False):
            same = (
                np.array_equal(getattr(ours, key), getattr(theirs, key))
                for key in ("first", "second", "kind")
            )
            if not all(same):
                break
        else:
            return
    raise MetricError(
        f"comparison: the two systems do not score the same pairs in the same order ({a.num_pairs:,} and "
        f"{b.num_pairs:,} pairs). Put both lists in one order and leave out what only one has."
    )
