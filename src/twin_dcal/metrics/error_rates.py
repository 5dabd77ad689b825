"""Error rates of a verifier, exact with ties, from genuine and impostor scores (docs/metrics.md).

Conventions, everywhere: a higher score means more alike; a pair is declared "same" when score >= threshold.
FMR(t) is the share of impostors with score >= t, FNMR(t) the share of genuine pairs with score < t, and
TAR = 1 - FNMR (ISO/IEC 19795-1; FAR and TAR are the familiar aliases). A threshold is an observed score, or
+inf, which rejects every pair. Nothing here maps, squashes or bins a score: only their order counts (d' apart).

Sorting or counting is the costly step, so it happens once: every function takes the `SortedScores` of `sort_scores`
or the `CountedScores` of `count_scores`. After that a figure needs only a few searches of the genuine scores among
the impostors, because it can only step or peak where a genuine score lies.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.percent import percent
from twin_dcal.plural import plural

from .score_counts import (
    CountedScores,
    Counts,
    ScoreArray,
    ScoreCounts,
    SortedScores,
    TwoClasses,
    count_scores,
    first_observed,
    next_above,
    next_below,
    observed,
    sort_scores,
)

__all__ = [
    "MIN_ERRORS",
    "BestFigure",
    "Confusion",
    "CountedScores",
    "EqualErrorRate",
    "OperatingPoint",
    "RocCurve",
    "ScoreArray",
    "ScoreCounts",
    "SortedScores",
    "accuracy_at",
    "auc",
    "average_precision",
    "best_accuracy",
    "best_f1",
    "count_scores",
    "d_prime",
    "eer",
    "error_rates_at",
    "operating_point",
    "pr_auc",
    "roc",
    "sort_scores",
]  # fmt: skip

Rates = NDArray[np.float64]

MIN_ERRORS = 30
"""Doddington's rule of 30: with 30 errors the true rate is within 30 % of the observed one (90 % sure)."""


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Operating points from strictest to loosest, float64 (K,) each; index 0 is the threshold +inf.

    `fnmr` over `fmr` is the DET curve, `tar` over `fmr` the ROC curve.
    """

    thresholds: Rates
    fmr: Rates
    fnmr: Rates
    num_genuine: int
    num_impostors: int

    @property
    def tar(self) -> Rates:
        return 1.0 - self.fnmr


@dataclass(frozen=True)
class Confusion:
    """Decisions at one threshold, counted. Rates are shares in [0, 1]."""

    threshold: float
    num_true_matches: int
    num_false_matches: int
    num_true_non_matches: int
    num_false_non_matches: int

    @property
    def num_genuine(self) -> int:
        return self.num_true_matches + self.num_false_non_matches

    @property
    def num_impostors(self) -> int:
        return self.num_false_matches + self.num_true_non_matches

    @property
    def fmr(self) -> float:
        return self.num_false_matches / self.num_impostors

    @property
    def fnmr(self) -> float:
        return self.num_false_non_matches / self.num_genuine

    @property
    def tar(self) -> float:
        return self.num_true_matches / self.num_genuine

    @property
    def accuracy(self) -> float:
        right = self.num_true_matches + self.num_true_non_matches
        return right / (self.num_genuine + self.num_impostors)

    @property
    def f1(self) -> float:
        """F1 of the class "same"; 0 where nothing is matched."""
        return 2 * self.num_true_matches / (self.num_true_matches + self.num_false_matches + self.num_genuine)


@dataclass(frozen=True)
class EqualErrorRate:
    """EER in [0, 1] and the observed score whose FMR and FNMR lie closest together."""

    eer: float
    threshold: float


@dataclass(frozen=True)
class BestFigure:
    """The highest value any threshold reaches on these very scores (optimistic), and that threshold."""

    value: float
    threshold: float


@dataclass(frozen=True)
class OperatingPoint:
    """What was asked, what the scores allow, and how many comparisons stand behind it.

    `supported` is False where one false match already exceeds the requested rate; `warning` says why a rate
    is weak. `threshold` is +inf (`tar` 0) where even the highest score has too high an FMR.
    """

    fmr_requested: float
    fmr_achieved: float
    fnmr: float
    tar: float
    threshold: float
    num_impostors: int
    num_genuine: int
    num_false_matches: int
    num_false_non_matches: int
    supported: bool
    warning: str | None


def roc(scores: TwoClasses, *, corners_only: bool = False) -> RocCurve:
    """The exact operating points at every distinct observed score, after +inf (reject all).

    Args: corners_only: drop points on a straight line between their neighbours. The polyline, and so its area
        and its plot, stays the same with at most 2 min(G, I) + 2 points; use it for millions of scores.
    """
    thresholds = np.unique(_corners(scores) if corners_only else _everything(scores))[::-1]
    false_matches = _false_matches(scores, thresholds)
    matches = scores.genuine_counts.num_at_or_above(thresholds)
    return RocCurve(
        thresholds=np.concatenate([[np.inf], thresholds.astype(np.float64)]),
        fmr=np.concatenate([[0.0], false_matches / scores.num_impostors]),
        fnmr=np.concatenate([[1.0], (scores.num_genuine - matches) / scores.num_genuine]),
        num_genuine=scores.num_genuine,
        num_impostors=scores.num_impostors,
    )


def auc(scores: TwoClasses) -> float:
    """Area under the ROC curve in [0, 1]: P(genuine > impostor) + ½ P(equal), the Mann-Whitney statistic."""
    values, counts = scores.genuine_counts.distinct()
    won_halves = 0  # a lower impostor counts two halves, an equal one one
    for part in scores.impostor_counts:
        won_halves += (counts @ (part.num_below(values) + part.num_at_or_below(values))).item()
    return won_halves / (2 * scores.num_genuine * scores.num_impostors)


def d_prime(scores: TwoClasses) -> float:
    """Distance of the class means in units of their pooled spread: (m_g - m_i) / sqrt((s_g^2 + s_i^2) / 2).

    Both classes weigh the same in the spread; variances are over n. The only figure here that depends on more than the
    order of the scores. Negative where genuine pairs score lower; ±inf where no class has any spread.
    Source: Daugman, "The importance of being random", Pattern Recognition 36 (2003), decidability d'.
    """
    genuine, impostor = _moments((scores.genuine_counts,)), _moments(scores.impostor_counts)
    distance, spread = genuine[0] - impostor[0], math.sqrt((genuine[1] + impostor[1]) / 2)
    return distance / spread if spread > 0 else math.copysign(math.inf, distance)


def average_precision(scores: TwoClasses) -> float:
    """Σ (R_n - R_{n-1}) P_n over descending distinct scores, no interpolation; in [0, 1].

    Source: the definition of sklearn.metrics.average_precision_score.
    """
    gained, precision, _ = _precision_steps(scores)
    return float(np.sum(gained * precision) / scores.num_genuine)


def pr_auc(scores: TwoClasses) -> float:
    """Trapezoidal area under precision over recall, starting at (recall 0, precision 1); in [0, 1].

    Slightly optimistic, as precision is not linear between points: quote `average_precision` instead.
    Source: sklearn.metrics.auc over sklearn.metrics.precision_recall_curve.
    """
    gained, precision, precision_before = _precision_steps(scores)
    return float(np.sum(gained * (precision + precision_before)) / (2 * scores.num_genuine))


def eer(scores: TwoClasses) -> EqualErrorRate:
    """Equal error rate: where FNMR - FMR changes sign, linear between the two neighbouring operating points.

    The threshold is the one of those two (an observed score) where FMR and FNMR lie closer; the stricter one
    if both lie equally close.
    """
    strict = first_observed(scores, lambda score: _misses_dominate(scores, score))
    loose = next_below(scores, strict)
    before, after = error_rates_at(scores, strict), error_rates_at(scores, loose)
    gap_before, gap_after = before.fnmr - before.fmr, after.fnmr - after.fmr
    share = gap_before / (gap_before - gap_after)
    rate = before.fmr + share * (after.fmr - before.fmr)
    return EqualErrorRate(rate, strict if gap_before <= -gap_after else loose)  # never +inf: its gap is 1


def error_rates_at(scores: TwoClasses, threshold: float) -> Confusion:
    """Counts of right and wrong decisions at any threshold (±inf too). MetricError for NaN."""
    if math.isnan(threshold):
        raise MetricError("threshold is NaN; give the score from which a pair counts as the same person.")
    matches = scores.genuine_counts.num_at_or_above(threshold).item()
    false_matches = _false_matches(scores, threshold).item()
    non_matches = scores.num_impostors - false_matches
    return Confusion(float(threshold), matches, false_matches, non_matches, scores.num_genuine - matches)


def accuracy_at(scores: TwoClasses, threshold: float) -> float:
    """Share of all pairs decided rightly at `threshold`; every pair weighs the same, whatever its class."""
    return error_rates_at(scores, threshold).accuracy


def best_accuracy(scores: TwoClasses) -> BestFigure:
    """Highest accuracy of any threshold, and the strictest threshold that reaches it (+inf: reject all)."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    right = matches + (scores.num_impostors - false_matches)
    best = int(np.argmax(right))
    threshold = float(thresholds[best]) if right[best] > scores.num_impostors else math.inf
    return BestFigure(accuracy_at(scores, threshold), threshold)


def best_f1(scores: TwoClasses) -> BestFigure:
    """Highest F1 of the class "same" of any threshold, and the strictest threshold that reaches it."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    f1 = 2 * matches / (matches + false_matches + scores.num_genuine)
    best = int(np.argmax(f1))
    return BestFigure(float(f1[best]), float(thresholds[best]))


def operating_point(scores: TwoClasses, fmr_requested: float) -> OperatingPoint:
    """The loosest observed threshold whose achieved FMR does not exceed the requested one, ties counted.

    Args: fmr_requested: share of impostors that may match, in (0, 1].
    Returns: OperatingPoint with fmr_achieved <= fmr_requested, always. MetricError for a rate outside (0, 1].
    """
    if not 0 < fmr_requested <= 1:
        raise MetricError(f"a false match rate lies in (0, 1]; given {fmr_requested}. Try 0.001.")
    total = scores.num_impostors
    threshold = first_observed(
        scores, lambda score: _false_matches(scores, score).item() / total <= fmr_requested
    )
    is_supported = 1 / round(total) <= fmr_requested
    at = error_rates_at(scores, threshold)
    return OperatingPoint(
        fmr_requested=float(fmr_requested),
        fmr_achieved=at.fmr,
        fnmr=at.fnmr,
        tar=at.tar,
        threshold=threshold,
        num_impostors=scores.num_impostors,
        num_genuine=scores.num_genuine,
        num_false_matches=at.num_false_matches,
        num_false_non_matches=at.num_false_non_matches,
        supported=is_supported,
        warning=weakness(at, fmr_requested, supported=is_supported),
    )


def _false_matches(scores: TwoClasses, thresholds: ArrayLike) -> Counts:
    """How many impostors are at or above each threshold."""
    return np.asarray(sum(part.num_at_or_above(thresholds) for part in scores.impostor_counts))


def _misses_dominate(scores: TwoClasses, threshold: float) -> bool:
    """FNMR > FMR, in whole numbers."""
    at = error_rates_at(scores, threshold)
    return at.num_false_non_matches * at.num_impostors > at.num_false_matches * at.num_genuine


def _moments(parts: tuple[ScoreCounts, ...]) -> tuple[float, float]:
    """Mean and variance (over n) of all scores of some parts together."""
    total = sum(part.size for part in parts)
    each = [(part.size / total, *part.moments()) for part in parts]
    mean = sum(share * part_mean for share, part_mean, _ in each)
    return mean, sum(share * (variance + (part_mean - mean) ** 2) for share, part_mean, variance in each)


def _everything(scores: TwoClasses) -> ScoreArray:
    return np.concatenate([part.values for part in observed(scores)])


def _corners(scores: TwoClasses) -> ScoreArray:
    """Thresholds between which one rate rests: the smaller class's scores and the next score above each."""
    genuine = scores.genuine_counts.values
    impostor = [part.values for part in scores.impostor_counts]
    steps = np.unique(genuine if genuine.size <= sum(map(len, impostor)) else np.concatenate(impostor))
    above = next_above(scores, steps)
    return np.concatenate([steps, above[np.isfinite(above)], *(part.values[:1] for part in observed(scores))])


def _genuine_steps(scores: TwoClasses) -> tuple[ScoreArray, Counts, Counts]:
    """Distinct genuine scores, descending (K,), and the matches and false matches at each.

    Lowering a threshold between two of them adds false matches only, so accuracy and F1 peak at one of them.
    """
    thresholds = scores.genuine_counts.distinct()[0][::-1]
    return thresholds, scores.genuine_counts.num_at_or_above(thresholds), _false_matches(scores, thresholds)


def _precision_steps(scores: TwoClasses) -> tuple[Counts, Rates, Rates]:
    """At each distinct genuine score (K,): genuine pairs gained, precision there, precision just above."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    gained = np.diff(matches, prepend=0)
    matches_before = matches - gained
    false_before = sum(part.size - part.num_at_or_below(thresholds) for part in scores.impostor_counts)
    declared = matches_before + false_before
    precision_before = np.where(declared > 0, matches_before / np.maximum(declared, 1), 1.0)
    return gained, matches / (matches + false_matches), precision_before


def weakness(at: Confusion, fmr_requested: float, *, supported: bool) -> str | None:
    """Why the rates at an operating point rest on too little, in words; None where they do not."""
    reasons = []
    if not supported:
        reasons.append(
            f"FMR {percent(fmr_requested)} needs {math.ceil(1 / fmr_requested):,} impostor pairs or more, there are "
            f"{at.num_impostors:,}"
        )
    if math.isinf(at.threshold):
        reasons.append("no threshold is strict enough, every pair is rejected")
    counted = few_errors(at.num_false_matches, at.num_false_non_matches)
    if counted:
        reasons.append(f"only {counted} (rule of 30: fewer than {MIN_ERRORS} errors)")
    return "; ".join(reasons) or None


def few_errors(num_false_matches: int, num_false_non_matches: int) -> str:
    """Which counts of errors are below `MIN_ERRORS`, as in "1 false match and 3 false non-matches"; "" if none is."""
    counts = {"match": num_false_matches, "non-match": num_false_non_matches}
    return " and ".join(
        plural(count, f"false {name}", f"false {name}es")
        for name, count in counts.items()
        if count < MIN_ERRORS
    )
