"""Error rates of a verifier, exact with ties, from genuine and impostor scores (METHOD §5).

Conventions, everywhere: a higher score means more alike; a pair is declared "same" when score >= threshold.
FMR(t) is the share of impostors with score >= t, FNMR(t) the share of genuine pairs with score < t, and
TAR = 1 - FNMR (ISO/IEC 19795-1; FAR and TAR are the familiar aliases). A threshold is an observed score, or
+inf, which rejects every pair. Nothing here maps, squashes or bins a score: only their order counts.

Sorting is the costly step, so it happens once: every function takes the `SortedScores` that `sort_scores`
makes. After that a figure needs only a few searches of the genuine scores among the impostors, because it can
only step or peak where a genuine score lies. 18 million float32 impostors cost one 72 MB copy.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError

ScoreArray = NDArray[np.floating[Any]]
Rates = NDArray[np.float64]
Counts = NDArray[np.intp]

MIN_ERRORS = 30
"""Doddington's rule of 30: with 30 errors the true rate is within 30 % of the observed one (90 % sure)."""


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


def sort_scores(genuine: ArrayLike, impostor: ArrayLike) -> SortedScores:
    """Check and sort the scores of both classes, once; inputs stay as they are.

    Args: genuine (G,), impostor (I,): similarity scores of any range; float32 stays float32.
    Returns: SortedScores. MetricError for an empty class, NaN or infinite scores, scores that are all equal,
        or an array that is not one-dimensional and numeric.
    """
    given = {"genuine": _score_array("genuine", genuine), "impostor": _score_array("impostor", impostor)}
    dtype = np.result_type(*given.values())
    ordered = {name: np.sort(values.astype(dtype, copy=False)) for name, values in given.items()}
    for name, values in ordered.items():  # NaN sorts last, so the two ends tell
        if not (np.isfinite(values[0]) and np.isfinite(values[-1])):
            bad = values.size - int(np.isfinite(values).sum())
            raise MetricError(
                f"{name} scores: {bad} of {values.size} are NaN or infinite. Look for zero or NaN "
                "embeddings, or a diverged training run."
            )
    scores = SortedScores(ordered["genuine"], ordered["impostor"])
    if min(scores.genuine[0], scores.impostor[0]) == max(scores.genuine[-1], scores.impostor[-1]):
        raise MetricError(
            f"all {scores.num_genuine} genuine and {scores.num_impostors} impostor scores are the same: "
            "no threshold can tell them apart. Look for a collapsed model (every embedding the same)."
        )
    return scores


def roc(scores: SortedScores, *, corners_only: bool = False) -> RocCurve:
    """The exact operating points at every distinct observed score, after +inf (reject all).

    Args: corners_only: drop points on a straight line between their neighbours. The polyline, and so its area
        and its plot, stays the same with at most 2 min(G, I) + 2 points; use it for millions of scores.
    """
    everything = (scores.genuine, scores.impostor)
    thresholds = np.unique(_corners(scores) if corners_only else np.concatenate(everything))[::-1]
    false_matches = _num_at_or_above(scores.impostor, thresholds)
    matches = _num_at_or_above(scores.genuine, thresholds)
    return RocCurve(
        thresholds=np.concatenate([[np.inf], thresholds.astype(np.float64)]),
        fmr=np.concatenate([[0.0], false_matches / scores.num_impostors]),
        fnmr=np.concatenate([[1.0], (scores.num_genuine - matches) / scores.num_genuine]),
        num_genuine=scores.num_genuine,
        num_impostors=scores.num_impostors,
    )


def auc(scores: SortedScores) -> float:
    """Area under the ROC curve in [0, 1]: P(genuine > impostor) + ½ P(equal), the Mann-Whitney statistic."""
    below = np.searchsorted(scores.impostor, scores.genuine, side="left")
    at_or_below = np.searchsorted(scores.impostor, scores.genuine, side="right")
    won_halves = int(below.sum() + at_or_below.sum())  # a lower impostor counts two halves, an equal one one
    return won_halves / (2 * scores.num_genuine * scores.num_impostors)


def average_precision(scores: SortedScores) -> float:
    """Σ (R_n - R_{n-1}) P_n over descending distinct scores, no interpolation; in [0, 1].

    Source: the definition of sklearn.metrics.average_precision_score.
    """
    gained, precision, _ = _precision_steps(scores)
    return float(np.sum(gained * precision) / scores.num_genuine)


def pr_auc(scores: SortedScores) -> float:
    """Trapezoidal area under precision over recall, starting at (recall 0, precision 1); in [0, 1].

    Slightly optimistic, as precision is not linear between points: quote `average_precision` instead.
    Source: sklearn.metrics.auc over sklearn.metrics.precision_recall_curve.
    """
    gained, precision, precision_before = _precision_steps(scores)
    return float(np.sum(gained * (precision + precision_before)) / (2 * scores.num_genuine))


def eer(scores: SortedScores) -> EqualErrorRate:
    """Equal error rate: where FNMR - FMR changes sign, linear between the two neighbouring operating points.

    The threshold is the one of those two (an observed score) where FMR and FNMR lie closer; the stricter one
    if both lie equally close.
    """
    loose = max(_last_with_more_false_matches(scores, values) for values in (scores.genuine, scores.impostor))
    strict = float(_next_above(scores, np.asarray([loose], dtype=scores.genuine.dtype))[0])
    before, after = error_rates_at(scores, strict), error_rates_at(scores, loose)
    gap_before, gap_after = before.fnmr - before.fmr, after.fnmr - after.fmr
    share = gap_before / (gap_before - gap_after)
    rate = before.fmr + share * (after.fmr - before.fmr)
    return EqualErrorRate(rate, strict if gap_before <= -gap_after else loose)  # never +inf: its gap is 1


def error_rates_at(scores: SortedScores, threshold: float) -> Confusion:
    """Counts of right and wrong decisions at any threshold (±inf too). MetricError for NaN."""
    if math.isnan(threshold):
        raise MetricError("threshold is NaN; give the score from which a pair counts as the same person.")
    matches = int(_num_at_or_above(scores.genuine, threshold))
    false_matches = int(_num_at_or_above(scores.impostor, threshold))
    non_matches = scores.num_impostors - false_matches
    return Confusion(float(threshold), matches, false_matches, non_matches, scores.num_genuine - matches)


def accuracy_at(scores: SortedScores, threshold: float) -> float:
    """Share of all pairs decided rightly at `threshold`; every pair weighs the same, whatever its class."""
    return error_rates_at(scores, threshold).accuracy


def best_accuracy(scores: SortedScores) -> BestFigure:
    """Highest accuracy of any threshold, and the strictest threshold that reaches it (+inf: reject all)."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    right = matches + (scores.num_impostors - false_matches)
    best = int(np.argmax(right))
    threshold = float(thresholds[best]) if right[best] > scores.num_impostors else math.inf
    return BestFigure(accuracy_at(scores, threshold), threshold)


def best_f1(scores: SortedScores) -> BestFigure:
    """Highest F1 of the class "same" of any threshold, and the strictest threshold that reaches it."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    f1 = 2 * matches / (matches + false_matches + scores.num_genuine)
    best = int(np.argmax(f1))
    return BestFigure(float(f1[best]), float(thresholds[best]))


def operating_point(scores: SortedScores, fmr_requested: float) -> OperatingPoint:
    """The loosest observed threshold whose achieved FMR does not exceed the requested one, ties counted.

    Args: fmr_requested: share of impostors that may match, in (0, 1].
    Returns: OperatingPoint with fmr_achieved <= fmr_requested, always. MetricError for a rate outside (0, 1].
    """
    if not 0 < fmr_requested <= 1:
        raise MetricError(f"a false match rate lies in (0, 1]; given {fmr_requested}. Try 0.001.")
    allowed = _num_allowed(fmr_requested, scores.num_impostors)
    if allowed == scores.num_impostors:
        threshold = float(min(scores.genuine[0], scores.impostor[0]))
    else:  # just above the highest impostor that must not match
        barred = scores.impostor[scores.num_impostors - 1 - allowed]
        threshold = float(_next_above(scores, barred[None])[0])
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
        supported=allowed >= 1,
        warning=_weakness(at, fmr_requested, supported=allowed >= 1),
    )


def _score_array(name: str, values: ArrayLike) -> ScoreArray:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise MetricError(
            f"{name} scores: expected a one-dimensional array of numbers, given shape {array.shape} of type "
            f"{array.dtype}. Pass one score per pair."
        )
    if array.size == 0:
        raise MetricError(
            f"{name} scores: there are none. Error rates need at least one genuine and one impostor pair; "
            f"add {name} pairs to the evaluation data."
        )
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)


def _num_at_or_above(ascending: ScoreArray, thresholds: ArrayLike) -> Counts:
    """How many scores are >= each threshold, exactly.

    A float64 threshold goes up to the scores' type: the answer is that of the exact comparison, and
    searchsorted need not copy millions of float32 scores to float64.
    """
    wanted = np.asarray(thresholds)
    if wanted.dtype != ascending.dtype:
        exact = wanted.astype(np.float64)
        with np.errstate(over="ignore"):
            rounded = exact.astype(ascending.dtype)
        up = np.nextafter(rounded, np.asarray(np.inf, dtype=ascending.dtype))
        wanted = np.where(rounded < exact, up, rounded)
    return np.asarray(ascending.size - np.searchsorted(ascending, wanted, side="left"))


def _next_above(scores: SortedScores, values: ScoreArray) -> ScoreArray:
    """(K,) the smallest observed score above each value, +inf where there is none."""
    nearest = np.full(values.shape, np.inf, dtype=values.dtype)
    for ascending in (scores.genuine, scores.impostor):
        at = np.searchsorted(ascending, values, side="right")
        inside = at < ascending.size
        nearest[inside] = np.minimum(nearest[inside], ascending[at[inside]])
    return nearest


def _corners(scores: SortedScores) -> ScoreArray:
    """Thresholds between which one rate rests: the smaller class's scores and the next score above each."""
    smaller = min(scores.genuine, scores.impostor, key=len)
    steps = np.unique(smaller)
    above = _next_above(scores, steps)
    return np.concatenate([steps, above[np.isfinite(above)], scores.genuine[:1], scores.impostor[:1]])


def _genuine_steps(scores: SortedScores) -> tuple[ScoreArray, Counts, Counts]:
    """Distinct genuine scores, descending (K,), and the matches and false matches at each.

    Lowering a threshold between two of them adds false matches only, so accuracy and F1 peak at one of them.
    """
    thresholds = np.unique(scores.genuine)[::-1]
    matches = _num_at_or_above(scores.genuine, thresholds)
    return thresholds, matches, _num_at_or_above(scores.impostor, thresholds)


def _precision_steps(scores: SortedScores) -> tuple[Counts, Rates, Rates]:
    """At each distinct genuine score (K,): genuine pairs gained, precision there, precision just above."""
    thresholds, matches, false_matches = _genuine_steps(scores)
    gained = np.diff(matches, prepend=0)
    matches_before = matches - gained
    false_before = scores.num_impostors - np.searchsorted(scores.impostor, thresholds, side="right")
    declared = matches_before + false_before
    precision_before = np.where(declared > 0, matches_before / np.maximum(declared, 1), 1.0)
    return gained, matches / (matches + false_matches), precision_before


def _last_with_more_false_matches(scores: SortedScores, values: ScoreArray) -> float:
    """The highest of `values` at which FMR >= FNMR, or -inf. FMR falls and FNMR rises with the threshold."""

    def misses_dominate(index: int) -> bool:
        at = error_rates_at(scores, float(values[index]))
        return at.num_false_non_matches * at.num_impostors > at.num_false_matches * at.num_genuine

    first = bisect_left(range(values.size), True, key=misses_dominate)
    return float(values[first - 1]) if first else -math.inf


def _num_allowed(rate: float, total: int) -> int:
    """The largest count with count / total <= rate in floating point (rate * total may round either way)."""
    allowed = min(math.floor(rate * total), total)
    while allowed < total and (allowed + 1) / total <= rate:
        allowed += 1
    while allowed / total > rate:
        allowed -= 1
    return allowed


def _weakness(at: Confusion, fmr_requested: float, *, supported: bool) -> str | None:
    """Why the rates at an operating point rest on too little, in words; None where they do not."""
    reasons = []
    if not supported:
        reasons.append(
            f"FMR {fmr_requested:g} needs {math.ceil(1 / fmr_requested):,} impostor pairs or more, there are "
            f"{at.num_impostors:,}"
        )
    if math.isinf(at.threshold):
        reasons.append("no threshold is strict enough, every pair is rejected")
    few = {"false matches": at.num_false_matches, "false non-matches": at.num_false_non_matches}
    counted = [f"{count} {name}" for name, count in few.items() if count < MIN_ERRORS]
    if counted:
        reasons.append(f"only {' and '.join(counted)} (rule of 30: fewer than {MIN_ERRORS} errors)")
    return "; ".join(reasons) or None
