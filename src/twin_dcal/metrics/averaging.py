"""Differences of means over seeds, with intervals of a paired family bootstrap; numpy only.

Every run scores the same pairs, and the same families are drawn for every run in each replicate (the draw depends on
families, seed and number alone). So a replicate of a mean over seeds is the mean of the runs' replicates, and the
spread of a difference of two such means is that of the differences. With one seed it is `paired_bootstrap`.

The interval tells how the difference of these trained models would vary with other test families. What other seeds
would change is the standard deviation over seeds, given apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.plural import plural

from .confidence import p_value_of_zero, plain_interval
from .family_bootstrap import Drawn, WeightedCounts, draw, families_of
from .intervals import COMPARED, FIGURES, MIN_FAMILIES
from .pair_stream import SECTIONS, PairSource, count_pairs
from .pairs import PairKind
from .replicates import replicates

Key = tuple[str, str]
"""Section and figure."""

_KINDS = {
    "twin": (PairKind.TWIN,),
    "unrelated": (PairKind.UNRELATED,),
    "all": (PairKind.TWIN, PairKind.UNRELATED),
}


@dataclass(frozen=True, eq=False)
class Resampled:
    """EER and AUC of one run: of all pairs, and of every replicate.

    exact: (section, figure) → value. again: the same keys → (R,), empty where there are no intervals. num_units:
    section → families behind its figures. refusal: why there are no intervals, "" if there are.
    """

    exact: Mapping[Key, float]
    again: Mapping[Key, NDArray[np.float64]]
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


def resample(source: PairSource, num_replicates: int, seed: int) -> Resampled:
    """A run's figures and their replicates; 0 replicates leave out the latter."""
    counts = count_pairs(source)
    sections = [name for name in SECTIONS if counts.has(name)]
    exact = {
        (name, figure): FIGURES[figure][0](counts.section(name)) for name in sections for figure in COMPARED
    }
    if not num_replicates:
        return Resampled(exact, {}, {}, 0, "intervals are switched off (0 replicates)")
    if source.families is None or counts.other.size:
        return Resampled(exact, {}, {}, 0, "the families of the pairs are not known")
    families = families_of(source)
    if families.size < MIN_FAMILIES:
        why = f"only {plural(families.size, 'family', 'families')}; an interval needs {MIN_FAMILIES} or more"
        return Resampled(exact, {}, {}, families.size, why)
    drawn = draw(source, counts, families, None, num_replicates, seed)
    again: dict[Key, NDArray[np.float64]] = {}
    for name in sections:
        these = replicates(drawn.counts[PairKind.GENUINE], _impostors(drawn, name))
        again |= {(name, figure): FIGURES[figure][1](these) for figure in COMPARED}
    return Resampled(exact, again, {name: _units(drawn, name) for name in sections}, families.size)


def mean_difference(
    ours: Sequence[Resampled], theirs: Sequence[Resampled], key: Key, level: float = 0.95
) -> MeanDifference:
    """Mean over seeds of ours minus that of theirs; runs of one position share a seed.

    The interval is estimate ± t spreads within [-1, 1], the p-value that of the same t (see `bounds`).
    """
    by_seed = tuple(one.exact[key] - other.exact[key] for one, other in zip(ours, theirs, strict=True))
    estimate = float(np.mean(by_seed))
    num_units = ours[0].num_units.get(key[0], 0)
    if num_units < MIN_FAMILIES:
        return MeanDifference(estimate, by_seed)
    again = np.mean(
        [one.again[key] - other.again[key] for one, other in zip(ours, theirs, strict=True)], axis=0
    )
    ends = plain_interval(estimate, again, num_units=num_units, level=level)
    p_value = p_value_of_zero(estimate, again, num_units=num_units)
    return MeanDifference(estimate, by_seed, max(ends.low, -1.0), min(ends.high, 1.0), p_value)


def _impostors(drawn: Drawn, section: str) -> WeightedCounts:
    first, *rest = (drawn.counts[kind] for kind in _KINDS[section])
    return first + rest[0] if rest else first


def _units(drawn: Drawn, section: str) -> int:
    """Units that have pairs of both classes."""
    return min(max(drawn.having[kind] for kind in _KINDS[section]), drawn.having[PairKind.GENUINE])
