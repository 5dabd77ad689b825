"""Differences of means over seeds, with intervals of a paired family jackknife; numpy only.

Every run scores the same pairs, and the same families are left out of every run in turn. So what a mean over seeds is
without a family is the mean of the runs without it, and likewise for differences of such means. With one seed it is
`paired_intervals`.

The interval tells how the difference of these trained models would vary with other test families. What other seeds
would change is the standard deviation over seeds, given apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.plural import plural

from .confidence import p_value_of_zero, plain_interval
from .family_jackknife import families_of, leave_out_each
from .intervals import MIN_FAMILIES, compared_exactly, compared_without, units_behind
from .pair_stream import SECTIONS, PairSource, count_pairs

Key = tuple[str, str]
"""Section and figure."""


@dataclass(frozen=True, eq=False)
class JackknifedRun:
    """EER and AUC of one run: of all pairs, and of what is left without each family.

    exact: (section, figure) → value. left_out: the same keys → (U,), empty where there are no intervals. num_units:
    section → families behind its figures. refusal: why there are no intervals, "" if there are.
    """

    exact: Mapping[Key, float]
    left_out: Mapping[Key, NDArray[np.float64]]
    num_units: Mapping[str, int]
    num_families: int
    refusal: str = ""


@dataclass(frozen=True)
class MeanDifference:
    """Mean over seeds of one variant minus that of another; low, high and p_value None where there is no interval."""

    difference: float
    by_seed: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def jackknife(source: PairSource, seed: int = 0, *, intervals: bool = True) -> JackknifedRun:
    """A run's figures, and those without each family where intervals are wanted.

    Args: seed: of groups of families, where there are very many; the same for runs that are to be compared.
    """
    counts = count_pairs(source)
    sections = [name for name in SECTIONS if counts.has(name)]
    exact = compared_exactly(counts, sections)
    if not intervals:
        return JackknifedRun(exact, {}, {}, 0, "intervals are switched off")
    if source.families is None or counts.other.size:
        return JackknifedRun(exact, {}, {}, 0, "the families of the pairs are not known")
    families = families_of(source)
    if families.size < MIN_FAMILIES:
        why = f"only {plural(families.size, 'family', 'families')}; an interval needs {MIN_FAMILIES} or more"
        return JackknifedRun(exact, {}, {}, families.size, why)
    without = leave_out_each(source, counts, families, None, seed)
    units = {name: units_behind("", name, without) for name in sections}
    return JackknifedRun(exact, compared_without(without, sections), units, families.size)


def mean_difference(
    ours: Sequence[JackknifedRun], theirs: Sequence[JackknifedRun], key: Key, level: float = 0.95
) -> MeanDifference:
    """Mean over seeds of ours minus that of theirs; runs of one position share a seed.

    The interval is estimate ± t standard errors within [-1, 1], the p-value that of the same t (see `confidence`).
    """
    by_seed = tuple(one.exact[key] - other.exact[key] for one, other in zip(ours, theirs, strict=True))
    estimate = float(np.mean(by_seed))
    num_units = ours[0].num_units.get(key[0], 0)
    if num_units < MIN_FAMILIES:
        return MeanDifference(estimate, by_seed)
    left_out = np.mean(
        [one.left_out[key] - other.left_out[key] for one, other in zip(ours, theirs, strict=True)], axis=0
    )
    ends = plain_interval(estimate, left_out, num_units=num_units, level=level)
    p_value = p_value_of_zero(estimate, left_out, num_units=num_units)
    return MeanDifference(estimate, by_seed, max(ends.low, -1.0), min(ends.high, 1.0), p_value)
