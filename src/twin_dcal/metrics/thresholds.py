"""Choosing the score from which a pair counts as the same person; on validation pairs, never on those of the test."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from twin_dcal.errors import MetricError
from twin_dcal.percent import percent
from twin_dcal.plural import plural

from . import error_rates
from .confidence import Spread, highest_rate
from .pair_stream import CountedPairs
from .pairs import PairKind, PairScores
from .score_counts import ScoreArray, ScoreCounts, TwoClasses, refuse_not_finite


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold to store with a checkpoint: how it was chosen and what it gives on the scores it came from.

    `fmr` and `fnmr` are shares in [0, 1]; `on` names the impostors: "twin", "unrelated" or "all". warning: why the
    choice may be worse on others, None where many errors stand behind it. gap: the highest impostor and the lowest
    genuine score, where the former is lower and the threshold is their middle. fmr_upper: how high the FMR may be on
    others at this threshold, by the number of `pairs` as if they were independent (one-sided 95 %, no error in n pairs:
    3 / n) or by the 95 % interval over `families` (`fmr_upper_by`). error_of_choice: of the logit of the FMR on others
    (`carried.errors_of_choice`), where families are known and the criterion has one.
    """

    threshold: float
    metric: str
    fmr: float
    fnmr: float
    num_genuine: int
    num_impostors: int
    on: str
    warning: str | None
    gap: tuple[float, float] | None = None
    fmr_upper: float = 1.0
    fmr_upper_by: Literal["pairs", "families"] = "pairs"
    error_of_choice: Spread | None = None

    @property
    def pairs_needed(self) -> int | None:
        """How many impostor pairs a requested FMR needs so that one false match is not more; None where none was."""
        far = requested_far(self.metric)
        return None if far is None else math.ceil(1 / far)

    def described(self, data: str) -> str:
        """The choice in three lines: how it was made, what it gives there, what the pairs support."""
        by = "over families" if self.fmr_upper_by == "families" else "as if no two pairs shared a person"
        need = ""
        if self.pairs_needed is not None:
            need = f"; {self.metric} needs {plural(self.pairs_needed, 'pair')} or more"
        return (
            f"threshold {self.threshold:.4f} by {self.metric}, on {self.num_genuine:,} genuine and "
            f"{plural(self.num_impostors, f'impostor ({self.on}) pair')} of {data}\n"
            f"there: FMR {percent(self.fmr)}, FNMR {percent(self.fnmr)}\n"
            f"these pairs support: FMR up to {percent(self.fmr_upper)} (95 %, {by}){need}"
        )

    def origin(self, data: str) -> Mapping[str, Any]:
        """What a checkpoint stores beside the threshold: data, criterion, and what it achieved there."""
        more: dict[str, Any] = {} if self.warning is None else {"warning": self.warning}
        if self.pairs_needed is not None:
            more["pairs_needed"] = self.pairs_needed
        if self.gap is not None:
            more["gap"] = list(self.gap)
        if self.error_of_choice is not None:
            far = requested_far(self.metric)
            expected = self.fmr if far is None else far
            more["error_of_choice"] = {"expected_fmr": expected, **asdict(self.error_of_choice)}
        return {
            "data": data, "criterion": self.metric, "impostors": self.on, "fmr": self.fmr, "fnmr": self.fnmr,
            "num_genuine": self.num_genuine, "num_impostors": self.num_impostors,
            "fmr_upper": self.fmr_upper, "fmr_upper_by": self.fmr_upper_by, **more,
        }  # fmt: skip


def counted(scores: PairScores | CountedPairs) -> CountedPairs:
    """Scores by kind, sorted or counted, ready for metrics. MetricError for NaN or infinite scores."""
    if isinstance(scores, CountedPairs):
        return scores
    parts = {}
    for kind in PairKind:
        name = kind.name.lower()
        ordered = scores.of(kind).copy()
        ordered.sort()
        if ordered.size:
            refuse_not_finite(name, ordered)
        parts[name] = ScoreCounts(ordered)
    return CountedPairs(**parts)


def choose_threshold(scores: PairScores | CountedPairs, metric: str) -> ThresholdChoice:
    """The threshold that is best by `metric`: "eer", "accuracy", "f1", or "far=1e-3" for a requested FMR.

    Chosen on twin impostors if there are any, else on all; "far=" on unrelated impostors if there are any,
    else on all. Use validation scores, never those of the test set. MetricError for another metric, for
    scores that carry no figure, and where only "reject every pair" meets the request.
    """
    preferred = "twin" if requested_far(metric) is None else "unrelated"
    pairs = counted(scores)
    on = preferred if pairs.has(preferred) else "all"
    return choose_on(pairs.section(on), metric, on)


def choose_on(scores: TwoClasses, metric: str, on: str) -> ThresholdChoice:
    """As `choose_threshold`, on the scores given; `on` names their impostors."""
    far = requested_far(metric)
    warning = None
    if far is not None:
        point = error_rates.operating_point(scores, far)
        threshold, warning = point.threshold, point.warning
    elif metric == "eer":
        threshold = error_rates.eer(scores).threshold
    else:
        best = error_rates.best_accuracy if metric == "accuracy" else error_rates.best_f1
        threshold = best(scores).threshold
    gap = separation(scores)
    if gap is not None and not gap[0] < threshold <= gap[1]:
        gap = None
    if gap is not None:
        threshold = (gap[0] + gap[1]) / 2
    if math.isinf(threshold):
        raise MetricError(
            f"threshold by '{metric}': on {plural(scores.num_impostors, f'{on} impostor')} only rejecting every pair "
            "meets it. Choose by 'eer', or train further."
        )
    at = error_rates.error_rates_at(scores, threshold)
    told = _doubts(at, warning, gap)
    return ThresholdChoice(
        threshold, metric, at.fmr, at.fnmr, at.num_genuine, at.num_impostors, on, told, gap,
        highest_rate(at.num_false_matches, at.num_impostors),
    )  # fmt: skip


def separation(scores: TwoClasses) -> tuple[float, float] | None:
    """The highest impostor and the lowest genuine score, where every genuine pair is more alike; else None."""
    highest = max(part.highest for part in scores.impostor_counts if part.size)
    lowest = scores.genuine_counts.lowest
    return (highest, lowest) if highest < lowest else None


def _doubts(at: error_rates.Confusion, weak: str | None, gap: tuple[float, float] | None) -> str | None:
    """Why a choice may be worse on others, in words."""
    told = [] if weak is None else [weak]
    if gap is not None:
        told.append(
            f"these pairs are separated without an error: any threshold above {gap[0]:.3f} and up to {gap[1]:.3f} does "
            "the same, the middle is taken"
        )
    if not told:
        return None
    fmr = highest_rate(at.num_false_matches, at.num_impostors)
    fnmr = highest_rate(at.num_false_non_matches, at.num_genuine)
    told.append(
        f"on other people FMR may be up to {percent(fmr)} and FNMR up to {percent(fnmr)} (95 %, as if no two pairs "
        "shared a person)"
    )
    return "; ".join(told)


def requested_far(metric: str) -> float | None:
    """The rate behind "far=", None for the other known metrics. MetricError for an unknown one."""
    if not isinstance(metric, str):
        raise MetricError(f"threshold metric: a {type(metric).__name__}; give eer, accuracy, f1, or far=1e-3")
    if metric in ("eer", "accuracy", "f1"):
        return None
    name, _, value = metric.partition("=")
    try:
        if name != "far":
            raise ValueError(name)
        return float(value)
    except ValueError:
        raise MetricError(
            f"threshold metric '{metric}' is unknown. Use eer, accuracy, f1, or a rate such as far=1e-3."
        ) from None


def impostor_words(on: str) -> str:
    """`the twin impostors`, `the unrelated impostors`, `all impostors`."""
    return "all impostors" if on == "all" else f"the {on} impostors"


def exact_limit(threshold: float, scores: ScoreArray) -> ScoreArray:
    """The threshold in the scores' own type, rounded up: `scores >= limit` says what exact comparison says."""
    limit = np.asarray(threshold, dtype=np.float64).astype(scores.dtype)
    if float(limit) < threshold:
        limit = np.asarray(np.nextafter(limit, np.asarray(np.inf, dtype=scores.dtype)))
    return limit
