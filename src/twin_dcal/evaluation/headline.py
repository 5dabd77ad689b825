"""What a report says first: error rates at the decision threshold in use, then those where few strangers match."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twin_dcal.metrics import error_rates
from twin_dcal.metrics.error_rates import MIN_ERRORS
from twin_dcal.metrics.intervals import HEADLINE_FMR, Interval, Intervals, supported_fmr
from twin_dcal.metrics.score_counts import CountedScores
from twin_dcal.percent import percent
from twin_dcal.plural import plural

from .result import Figures

_WORDS = {"twin": "twin pairs", "unrelated": "unrelated pairs", "all": "impostor pairs"}


@dataclass(frozen=True, eq=False)
class Section:
    """Genuine pairs against one kind of impostor: `scores`, which rates are made of, and `pairs`, the same without
    weights, which are counted."""

    scores: CountedScores
    pairs: CountedScores

    def counts_at(self, threshold: float) -> error_rates.Confusion:
        return error_rates.error_rates_at(self.pairs, threshold)

    def operating_point(self, fmr: float) -> error_rates.OperatingPoint:
        """As in `error_rates`, with the numbers of pairs and errors that are behind it."""
        point = error_rates.operating_point(self.scores, fmr)
        if self.scores is self.pairs:
            return point
        at = self.counts_at(point.threshold)
        return replace(
            point,
            num_impostors=at.num_impostors,
            num_genuine=at.num_genuine,
            num_false_matches=at.num_false_matches,
            num_false_non_matches=at.num_false_non_matches,
            warning=error_rates.weakness(at, fmr, supported=point.supported),
        )


def opening(
    threshold: float | None,
    sections: Mapping[str, Figures | None],
    headline: Figures | None,
    weights: str = "pairs",
) -> str:
    """The sentences that a report begins with, all rates in per cent.

    First twin FMR and FNMR at the decision threshold (without twins: the FMR of unrelated or of all impostors), then
    `headline`. Where most decisions of a kind are wrong, that is said, so that the other rate does not read as success.
    """
    name, section = next((name, sections[name]) for name in _WORDS if sections.get(name))
    assert section is not None
    fmr, fnmr, ends = section["fmr"], section["fnmr"], section["intervals"]
    where = (
        "No threshold accepts a pair:" if threshold is None else f"At the decision threshold {threshold:.4g},"
    )
    kind = "twin FMR" if name == "twin" else "FMR"
    told = (
        f"{where} {_rate(fmr, ends.get('fmr'))} of {_WORDS[name]} are accepted as one person ({kind}) and "
        f"{_rate(fnmr, ends.get('fnmr'))} of genuine pairs are rejected (FNMR)."
    )
    if fnmr >= 0.5:
        told += " Most genuine pairs are rejected, so a low FMR is no success here."
    elif fmr >= 0.5:
        told += f" Most {_WORDS[name]} are accepted: this threshold does not tell them from genuine ones."
    if headline is not None:
        told += f" {headline['sentence']}"
    return f"Every person counts the same. {told}" if weights == "people" else told


def headline(ordered: Mapping[str, Section], intervals: Intervals | None) -> Figures | None:
    """Twin FMR and FNMR at the threshold that gives FMR 1e-4 on unrelated people (NIST's twins figure).

    With fewer than 10,000 unrelated pairs the smallest rate they support takes its place (`fmr_used`).
    """
    if not {"twin", "unrelated"} <= ordered.keys():
        return None
    used = supported_fmr(HEADLINE_FMR, ordered["unrelated"].pairs.num_impostors)
    point = ordered["unrelated"].operating_point(used)
    twin = error_rates.error_rates_at(ordered["twin"].scores, point.threshold)
    counts = ordered["twin"].counts_at(point.threshold)
    ends = interval_ends(intervals.headline if intervals else {})
    asked = f"At the threshold where at most {percent(used)} of unrelated pairs match"
    if used > HEADLINE_FMR:
        few = plural(point.num_impostors, "unrelated pair is", "unrelated pairs are")
        asked += f" ({few} too few for {percent(HEADLINE_FMR)})"
    sentence = (
        f"{asked}, twin FMR is {_rate(twin.fmr, ends.get('twin_fmr'))} and FNMR {_rate(twin.fnmr, ends.get('fnmr'))}"
        f"{': most genuine pairs are rejected' if twin.fnmr >= 0.5 else ''}."
    )
    return {
        "fmr_requested": HEADLINE_FMR,
        "fmr_used": used,
        "fmr_achieved": point.fmr_achieved,
        "threshold": finite(point.threshold),
        "twin_fmr": twin.fmr,
        "fnmr": twin.fnmr,
        "intervals": {name: ends[name] for name in ("twin_fmr", "fnmr") if name in ends},
        "num_unrelated": point.num_impostors,
        "num_twin": counts.num_impostors,
        "num_genuine": counts.num_genuine,
        "num_unrelated_false_matches": point.num_false_matches,
        "num_twin_false_matches": counts.num_false_matches,
        "num_false_non_matches": counts.num_false_non_matches,
        "sentence": sentence,
        "warnings": _warnings(used, point, counts),
    }


def too_few(number: int, what: str) -> str:
    return plural(number, f"{what} pair is too few", f"{what} pairs are too few")


def interval_ends(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    """name -> [low, high], null for an end that is not a finite number."""
    return {name: [finite(each.low), finite(each.high)] for name, each in intervals.items()}


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _warnings(used: float, point: error_rates.OperatingPoint, twin: error_rates.Confusion) -> list[str]:
    warnings = []
    if used > HEADLINE_FMR:
        warnings.append(
            f"headline: {too_few(point.num_impostors, 'unrelated')} for FMR {HEADLINE_FMR:g}; "
            f"it uses {used:.2g}, the smallest rate they support."
        )
    counts = (
        (point.num_false_matches, "unrelated false match", "unrelated false matches"),
        (twin.num_false_matches, "twin false match", "twin false matches"),
        (twin.num_false_non_matches, "false non-match", "false non-matches"),
    )
    few = [plural(number, *names) for number, *names in counts if number < MIN_ERRORS]
    if few:
        warnings.append(f"headline: only {', '.join(few)} behind it (rule of {MIN_ERRORS}).")
    return warnings


def _rate(share: float, ends: Sequence[float | None] | None) -> str:
    """`12 % [8.1–17 %]`; without an interval `12 %`."""
    low, high = ends or (None, None)
    if low is None or high is None:
        return percent(share)
    return f"{percent(share)} [{percent(low).removesuffix(' %')}–{percent(high)}]"
