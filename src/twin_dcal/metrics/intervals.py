"""Confidence intervals by leaving out families. Method, coverage and speed: docs/intervals.md.

The standard error of a figure comes from its values without each family in turn (`family_jackknife`), the interval from
these on the logit scale for figures in [0, 1] (`confidence`). Nothing is drawn at random: the same pairs give the same
interval. The EER and the best accuracy are found anew without each family; a rate at an FMR (TAR@FAR, the headline)
moves along the curve of all pairs (`replicates.fnmr_at_fmr`); the decision threshold stays.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

from . import error_rates, replicates
from .carried import errors_of_choice
from .confidence import Interval, Spread, plain_interval, rate_interval
from .family_jackknife import BinnedPairs, LeftOut, families_of, leave_out_each
from .pair_stream import SECTIONS, CountedPairs, PairSource, count_pairs
from .pairs import PairKind
from .replicates import Replicates
from .score_counts import TwoClasses
from .thresholds import ThresholdChoice

__all__ = [
    "Band",
    "Interval",
    "Intervals",
    "family_intervals",
]

FMR_LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)
HEADLINE_FMR = 1e-4
MIN_FAMILIES = 5
BAND_LOWEST, BAND_POINTS_PER_DECADE, BAND_FALSE_MATCHES = 1e-6, 10, 10
METHOD = "family jackknife, Student t, logit scale, corrected for skewness"

Floats = NDArray[np.float64]

# Each figure of a whole section: on all pairs, and on what is left without each family.
FIGURES: Mapping[str, tuple[Callable[[TwoClasses], float], Callable[[Replicates], Floats]]] = {
    "eer": (lambda scores: error_rates.eer(scores).eer, replicates.eer),
    "roc_auc": (error_rates.auc, replicates.roc_auc),
    "best_accuracy": (lambda scores: error_rates.best_accuracy(scores).value, replicates.best_accuracy),
    "best_f1": (lambda scores: error_rates.best_f1(scores).value, replicates.best_f1),
    "d_prime": (error_rates.d_prime, replicates.d_prime),
    "pr_auc": (error_rates.pr_auc, replicates.pr_auc),
    "average_precision": (error_rates.average_precision, replicates.average_precision),
}
AT_THRESHOLD = ("accuracy", "fmr", "fnmr", "tar", "f1")
COMPARED = ("eer", "roc_auc")


@dataclass(frozen=True, eq=False)
class Band:
    """Pointwise interval of FNMR at given FMRs, (J,) each, strictest first."""

    fmr: Floats
    fnmr_low: Floats
    fnmr_high: Floats


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of the figures of every section.

    figures: section ("twin", "unrelated", "all"; those with impostors) -> figure -> Interval. Figures: eer, roc_auc,
        best_accuracy, best_f1, d_prime, pr_auc, average_precision; with a threshold: accuracy, fmr, fnmr, tar, f1;
        tar_at_far_0.1 … tar_at_far_0.0001 and fnmr_at_fmr_0.1 … fnmr_at_fmr_0.0001, of the levels
        the pairs support. A figure without an interval is missing and named in `refusals`.
    headline: "twin_fmr" and "fnmr" at the threshold chosen on unrelated pairs; empty without twin or unrelated pairs.
        headline_fmr: the FMR used there: the asked one, or the smallest supported; else None.
    bands: section -> Band.
    errors_of_choice: section -> criterion -> Spread: the error of a threshold chosen on these pairs (`carried`).
    refusals: section, "section.figure" or "headline" -> why there is no interval; "" if there are none at all.
    num_families: families that have pairs; num_units: what was left out in turn (families, or random groups of them,
        which `seed` chooses).
    """

    level: float
    seed: int = 0
    num_families: int = 0
    num_units: int = 0
    method: str = METHOD
    headline_fmr: float | None = None
    figures: dict[str, dict[str, Interval]] = field(default_factory=dict)
    headline: dict[str, Interval] = field(default_factory=dict)
    bands: dict[str, Band] = field(default_factory=dict)
    errors_of_choice: dict[str, dict[str, Spread]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON: an Interval is {"estimate", "low", "high", "num_undefined"}, a Band three lists."""
        bands = {
            name: {key: values.tolist() for key, values in vars(band).items()}
            for name, band in self.bands.items()
        }
        figures = {name: plain(section) for name, section in self.figures.items()}
        chosen = {name: plain(section) for name, section in self.errors_of_choice.items()}
        return {
            **vars(self), "figures": figures, "headline": plain(self.headline), "bands": bands,
            "errors_of_choice": chosen,
        }  # fmt: skip


def family_intervals(
    source: PairSource, *, threshold: float | None = None, counts: CountedPairs | None = None,
    headline_fmr: float = HEADLINE_FMR, seed: int = 0, level: float = 0.95,
) -> Intervals:  # fmt: skip
    """Intervals of every figure by leaving out each family in turn.

    Args: counts: those of `count_pairs(source)`, if at hand (saves a walk); threshold: the decision threshold, the same
        without any family; None leaves out the figures that need one. seed: of groups of families, where there are very
        many.
    Returns: Intervals; where none can be had (families unknown, fewer than 5), empty with the reason in `refusals`.
        MetricError for bad arguments, no genuine or no impostor pair, or scores that are all the same.
    """
    check_arguments(level, threshold, headline_fmr)
    counts = count_pairs(source) if counts is None else counts
    counts.section("all")
    families, reason = families_or_why(source, counts)
    if reason:
        return Intervals(level, seed, families.size, refusals={"": reason})
    left_out = leave_out_each(source, counts, families, threshold, seed)
    made = Intervals(level, seed, families.size, left_out.units.num_units)
    for name in filter(counts.has, SECTIONS):
        _add_section(made, name, counts.section(name), left_out, threshold)
    if not (counts.has("twin") and counts.has("unrelated")):
        return made
    used = supported_fmr(headline_fmr, counts.unrelated.size)
    _add_headline(made, counts, left_out, used)
    return replace(made, headline_fmr=used)


def over_families(choice: ThresholdChoice, intervals: Intervals | None) -> ThresholdChoice:
    """A choice with what leaving out families tells of it.

    Args: intervals: those of the pairs it was made on, at its threshold; None changes nothing.
    """
    bound = intervals and intervals.figures.get(choice.on, {}).get("fmr")
    if not intervals or not bound:
        return choice
    criterion = choice.metric.partition("=")[0]
    chosen = intervals.errors_of_choice.get(choice.on, {}).get(criterion)
    return replace(choice, fmr_upper=bound.high, fmr_upper_by="families", error_of_choice=chosen)


def supported_fmr(asked: float, num_impostors: int) -> float:
    """The rate that is asked for, or the smallest that so many pairs support."""
    return max(asked, 1 / num_impostors)


def compared_exactly(counts: CountedPairs, sections: Sequence[str]) -> dict[tuple[str, str], float]:
    """EER and AUC of all pairs: (section, figure) to value."""
    return {
        (name, figure): FIGURES[figure][0](counts.section(name)) for name in sections for figure in COMPARED
    }


def compared_without(left_out: LeftOut, sections: Sequence[str]) -> dict[tuple[str, str], Floats]:
    """EER and AUC without each unit: (section, figure) to (U,)."""
    return {
        (name, figure): FIGURES[figure][1](samples_of(left_out.counts, name))
        for name in sections
        for figure in COMPARED
    }


def _add_section(
    made: Intervals, name: str, scores: TwoClasses, left_out: LeftOut, threshold: float | None
) -> None:
    """Put the intervals and the band of a section, or why there is none, into `made`."""
    these, whole = samples_of(left_out.counts, name), samples_of(left_out.whole, name)
    if units_behind("", name, left_out) < MIN_FAMILIES:
        made.refusals[name] = too_few(units_behind("", name, left_out))
    values = {figure: (exact(scores), without(these)) for figure, (exact, without) in FIGURES.items()}
    if threshold is not None:
        column = left_out.column(threshold)
        at, at_without = error_rates.error_rates_at(scores, threshold), replicates.at_column(these, column)
        values |= {figure: (getattr(at, figure), at_without[figure]) for figure in AT_THRESHOLD}
    for asked in FMR_LEVELS:
        point = error_rates.operating_point(scores, asked)
        if point.supported:
            missed = replicates.fnmr_at_fmr(these, whole, asked)
            values[f"fnmr_at_fmr_{asked:g}"] = (point.fnmr, missed)
            values[f"tar_at_far_{asked:g}"] = (point.tar, 1 - missed)
    section: dict[str, Interval] = {}
    for figure, (estimate, without) in values.items():
        _add(section, made, (name, figure), estimate, without, left_out)
    if section:
        made.figures[name] = section
    if threshold is not None and name not in made.refusals:
        made.errors_of_choice[name] = errors_of_choice(
            these, whole, column,
            num_impostor_units=units_behind("fmr", name, left_out), num_units=units_behind("", name, left_out),
        )  # fmt: skip
    if name not in made.refusals:
        made.bands[name] = _band(scores, these, whole, units_behind("", name, left_out), made.level)


def _add(
    to: dict[str, Interval],
    made: Intervals,
    where: tuple[str, str],
    estimate: float,
    without: Floats,
    left_out: LeftOut,
) -> None:
    """One interval into `to`, or the reason why not into the refusals (unless the section's own says it)."""
    name, figure = where
    num_units = units_behind(figure, name, left_out)
    reason = None
    if num_units < MIN_FAMILIES:
        reason = too_few(num_units)
    elif not math.isfinite(estimate):
        reason = "the figure is infinite: no class has any spread."
    if reason is not None:
        if made.refusals.get(name) != reason:
            made.refusals[f"{name}.{figure}"] = reason
    elif figure == "d_prime":
        to[figure] = plain_interval(estimate, without, num_units=num_units, level=made.level)
    else:
        over_pairs = figure == "fmr" and name != "twin"
        trials = max(num_units, left_out.num_unit_pairs) if over_pairs else num_units
        to[figure] = rate_interval(
            estimate, without, num_units=num_units, num_trials=trials, level=made.level
        )


def _add_headline(made: Intervals, counts: CountedPairs, left_out: LeftOut, fmr: float) -> None:
    """Twin FMR and FNMR at the threshold that gives `fmr` on unrelated pairs, with that threshold's own error."""
    threshold = error_rates.operating_point(counts.section("unrelated"), fmr).threshold
    at = error_rates.error_rates_at(counts.section("twin"), threshold)
    twin, unrelated = (samples_of(left_out.counts, name) for name in ("twin", "unrelated"))
    whole_twin, whole_unrelated = (samples_of(left_out.whole, name) for name in ("twin", "unrelated"))
    found = {
        "twin_fmr": (at.fmr, replicates.twin_fmr_at_fmr(twin, whole_twin, unrelated, whole_unrelated, fmr)),
        "fnmr": (at.fnmr, replicates.fnmr_at_fmr(unrelated, whole_unrelated, fmr)),
    }
    if units_behind("", "headline", left_out) < MIN_FAMILIES:
        made.refusals["headline"] = too_few(units_behind("", "headline", left_out))
    for figure, (estimate, without) in found.items():
        _add(made.headline, made, ("headline", figure), estimate, without, left_out)


def _band(scores: TwoClasses, these: Replicates, whole: Replicates, num_units: int, level: float) -> Band:
    """FNMR where the FMR is at most each of a row of FMRs, from ten false matches on to 1 (where it is 0).

    With fewer, the threshold jumps between a few scores and the band is a row of spikes.
    """
    lowest = math.log10(min(max(BAND_FALSE_MATCHES / scores.num_impostors, BAND_LOWEST), 1.0))
    asked = np.minimum(np.logspace(lowest, 0, 1 + math.ceil(-lowest * BAND_POINTS_PER_DECADE)), 1.0)
    low, high = np.zeros(asked.size), np.zeros(asked.size)
    for index, level_asked in enumerate(asked[:-1]):
        estimate = error_rates.operating_point(scores, float(level_asked)).fnmr
        without = replicates.fnmr_at_fmr(these, whole, level_asked)
        interval = rate_interval(estimate, without, num_units=num_units, num_trials=num_units, level=level)
        low[index], high[index] = interval.low, interval.high
    return Band(asked, low, high)


def samples_of(counts: Mapping[PairKind, BinnedPairs], section: str) -> Replicates:
    """A section's two classes. Args: counts: those of a `LeftOut`, without each unit or whole."""
    if section == "all":
        impostor = counts[PairKind.TWIN] + counts[PairKind.UNRELATED]
    else:
        impostor = counts[PairKind.TWIN if section == "twin" else PairKind.UNRELATED]
    return replicates.replicates(counts[PairKind.GENUINE], impostor)


def units_behind(figure: str, section: str, left_out: LeftOut) -> int:
    """How many units have pairs of the kinds that a figure rests on."""
    having = left_out.having
    impostors = {
        "twin": having[PairKind.TWIN],
        "unrelated": having[PairKind.UNRELATED],
        "all": max(having[PairKind.TWIN], having[PairKind.UNRELATED]),
        "headline": min(having[PairKind.TWIN], having[PairKind.UNRELATED]),
    }[section]
    if figure == "fmr":
        return impostors
    if figure in ("fnmr", "tar") and section != "headline":
        return having[PairKind.GENUINE]
    return min(impostors, having[PairKind.GENUINE])


def too_few(num_units: int) -> str:
    have = plural(num_units, "family has", "families have")
    return f"only {have} such pairs; an interval needs {MIN_FAMILIES} or more."


def families_or_why(source: PairSource, counts: CountedPairs) -> tuple[NDArray[np.intp], str | None]:
    """Numbers of the families that have pairs, and the reason why they allow no interval, if any."""
    if source.families is None or counts.other.size:
        reason = "the families of the pairs are not known; intervals leave out families."
        return np.empty(0, np.intp), reason
    families = families_of(source)
    reason = f"only {plural(families.size, 'family', 'families')}; an interval needs {MIN_FAMILIES} or more."
    return families, reason if families.size < MIN_FAMILIES else None


def check_arguments(level: float, threshold: float | None = None, headline_fmr: float = 1.0) -> None:
    if not 0 < level < 1:
        raise MetricError(f"confidence level {level} is not between 0 and 1. Use 0.95.")
    if threshold is not None and math.isnan(threshold):
        raise MetricError("threshold is NaN; give the score from which a pair counts as the same person.")
    if not 0 < headline_fmr <= 1:
        raise MetricError(f"a false match rate lies in (0, 1]; given {headline_fmr}. Try 0.0001.")


def plain(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in section.items()}
