"""Differences of two systems at a false match rate: FNMR, TAR and the headline, with intervals; and Holm's correction
where several systems are compared with one. Beside `intervals.paired_intervals`, which has EER and AUC."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import error_rates, replicates
from .confidence import p_value_of_zero, plain_interval
from .family_jackknife import LeftOut, families_of, leave_out_each
from .intervals import MIN_FAMILIES, Difference, units_behind
from .pair_stream import SECTIONS, CountedPairs, PairSource, count_pairs
from .pairs import PairKind
from .replicates import Replicates

Floats = NDArray[np.float64]
Key = tuple[str, str]

FMR_LEVELS = (1e-2, 1e-3, 1e-4)
HEADLINE_FMR = 1e-4


def rates_of(counts: CountedPairs) -> dict[Key, float]:
    """(section, figure) to value: `fnmr_at_fmr_x` and `tar_at_far_x` of the levels that the pairs support, and of
    "headline" `twin_fmr` and `fnmr`, at each system's own threshold for that rate on unrelated pairs."""
    told: dict[Key, float] = {}
    for name in filter(counts.has, SECTIONS):
        for asked in FMR_LEVELS:
            point = error_rates.operating_point(counts.section(name), asked)
            if point.supported:
                told[name, f"fnmr_at_fmr_{asked:g}"] = point.fnmr
                told[name, f"tar_at_far_{asked:g}"] = point.tar
    if counts.has("twin") and counts.has("unrelated"):
        point = error_rates.operating_point(counts.section("unrelated"), headline_rate(counts))
        at = error_rates.error_rates_at(counts.section("twin"), point.threshold)
        told |= {("headline", "twin_fmr"): at.fmr, ("headline", "fnmr"): at.fnmr}
    return told


def headline_rate(counts: CountedPairs) -> float:
    """1e-4, or the smallest rate that so many unrelated pairs support."""
    return max(HEADLINE_FMR, 1 / counts.unrelated.size)


def paired_rates(
    a: PairSource, b: PairSource, *, seed: int = 0, level: float = 0.95
) -> dict[Key, Difference]:
    """Differences a − b of `rates_of`, the same families left out for both, as in `paired_intervals`.

    Args: sources of the same pairs in the same order. Returns: those figures that rest on enough families; none where
    families are unknown.
    """
    counts_a, counts_b = count_pairs(a), count_pairs(b)
    if a.families is None or counts_a.other.size:
        return {}
    families = families_of(a)
    if families.size < MIN_FAMILIES:
        return {}
    exact_a, exact_b = rates_of(counts_a), rates_of(counts_b)
    left_out = leave_out_each(a, counts_a, families, None, seed)
    without_a = _without(left_out, exact_a, counts_a)
    left_out = leave_out_each(b, counts_b, families, None, seed)  # the same units
    without_b = _without(left_out, exact_b, counts_b)
    made = {}
    for key in exact_a:
        num_units = units_behind("", key[0], left_out)
        if num_units < MIN_FAMILIES:
            continue
        difference, without = exact_a[key] - exact_b[key], without_a[key] - without_b[key]
        around = plain_interval(difference, without, num_units=num_units, level=level)
        made[key] = Difference(
            exact_a[key], exact_b[key], difference, max(around.low, -1.0), min(around.high, 1.0),
            p_value_of_zero(difference, without, num_units=num_units), around.num_undefined,
        )  # fmt: skip
    return made


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


def _without(left_out: LeftOut, exact: dict[Key, float], counts: CountedPairs) -> dict[Key, Floats]:
    """Each rate without each unit, (U,)."""
    these = {name: _samples(left_out, name, whole=False) for name in SECTIONS if counts.has(name)}
    whole = {name: _samples(left_out, name, whole=True) for name in these}
    told: dict[Key, Floats] = {}
    for name in these:
        for asked in FMR_LEVELS:
            if (name, f"fnmr_at_fmr_{asked:g}") in exact:
                missed = replicates.fnmr_at_fmr(these[name], whole[name], asked)
                told[name, f"fnmr_at_fmr_{asked:g}"] = missed
                told[name, f"tar_at_far_{asked:g}"] = 1 - missed
    if ("headline", "fnmr") in exact:
        rate, unrelated = headline_rate(counts), (these["unrelated"], whole["unrelated"])
        told["headline", "twin_fmr"] = replicates.twin_fmr_at_fmr(
            these["twin"], whole["twin"], *unrelated, rate
        )
        told["headline", "fnmr"] = replicates.fnmr_at_fmr(*unrelated, rate)
    return told


def _samples(left_out: LeftOut, section: str, *, whole: bool) -> Replicates:
    counts = left_out.whole if whole else left_out.counts
    kinds = {"twin": [PairKind.TWIN], "unrelated": [PairKind.UNRELATED]}
    first, *more = kinds.get(section, [PairKind.TWIN, PairKind.UNRELATED])
    impostor = counts[first]
    for kind in more:
        impostor = impostor + counts[kind]
    return replicates.replicates(counts[PairKind.GENUINE], impostor)
