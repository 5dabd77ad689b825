"""From a raw score to a probability that a user can read: Platt scaling or isotonic regression (docs/metrics.md).

Sources: Platt, "Probabilistic outputs for support vector machines" (1999), with its smoothed targets; Newton's
method as in Lin, Lin, Weng, "A note on Platt's probabilistic outputs for support vector machines" (2007); isotonic
regression by pooling adjacent violators, Ayer et al. (1955), for probabilities Zadrozny and Elkan (2002).
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

from .error_rates import ScoreArray, sort_scores

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

PRIOR = 0.5
MAX_SCORES = 200_000
MAX_STEPS = 100
SMALLEST_STEP = 2.0**-40


@dataclass(frozen=True)
class Platt:
    """P(same | score) = sigmoid(slope * score + intercept), where a share `prior` of the pairs is genuine.

    `slope` is at least 0, so a higher score never gets a lower probability; 0 means that the scores told
    nothing. `num_genuine` and `num_impostors` are the scores behind the fit, `source` tells their origin.
    For another prior p add log(p / (1 - p)) - log(prior / (1 - prior)) to the intercept.
    """

    method: ClassVar[str] = "platt"

    slope: float
    intercept: float
    prior: float
    num_genuine: int
    num_impostors: int
    source: str

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Probabilities in [0, 1], float64, of the shape of `scores`. MetricError for NaN."""
        return np.asarray(_sigmoid(self.slope * _without_nan(scores) + self.intercept))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        return {"method": self.method, **asdict(self)}


@dataclass(frozen=True)
class Isotonic:
    """P(same | score) as a line through knots that never falls; level outside them.

    `scores` rise strictly, `probabilities` never fall and stay within (0, 1), as Platt's smoothed targets do.
    Everything else as in `Platt`; for another prior shift the log odds of the probability.
    """

    method: ClassVar[str] = "isotonic"

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    prior: float
    num_genuine: int
    num_impostors: int
    source: str

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Probabilities in (0, 1), float64, of the shape of `scores`. MetricError for NaN."""
        values = _without_nan(scores)
        levels = np.array(self.probabilities)
        above = np.minimum(np.searchsorted(self.scores, values, side="right"), levels.size - 1)
        # Rounding may carry a line past its upper knot: the next line must not begin lower.
        return np.asarray(np.minimum(np.interp(values, self.scores, levels), levels[above]))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        values = {"method": self.method, **asdict(self)}
        return {**values, "scores": list(self.scores), "probabilities": list(self.probabilities)}


Calibration = Platt | Isotonic


def calibration_from_dict(values: Mapping[str, Any]) -> Calibration:
    """The inverse of `to_dict`; without a "method" it is Platt's, as in files of earlier releases.

    MetricError for missing or unknown keys, an unknown method, and values out of range.
    """
    given = dict(values)
    method = given.pop("method", Platt.method)
    if method not in (Platt.method, Isotonic.method):
        raise MetricError(f"calibration: method {method!r} is unknown; this release has platt and isotonic.")
    kind = Platt if method == Platt.method else Isotonic
    names = {field.name for field in fields(kind)}
    if set(given) != names:
        raise MetricError(
            f"calibration: missing keys {sorted(names - set(given))}, unknown keys "
            f"{sorted(set(given) - names)}. Use what to_dict wrote."
        )
    return _checked_platt(Platt(**given)) if kind is Platt else _checked_isotonic(given)


def score_reaching(calibration: Calibration, probability: float, low: float, high: float) -> float:
    """The lowest score in [low, high] with at least this probability; by bisection, since calibrations never fall.

    MetricError for a probability that none has.
    """
    most = float(calibration(high))
    if most < probability:
        raise MetricError(f"no score has the probability {probability:g}; the highest is {most:.4f}")
    if float(calibration(low)) >= probability:
        return low
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if float(calibration(middle)) >= probability else (middle, high)
    return high


def _checked_platt(made: Platt) -> Platt:
    numbers = (made.slope, made.intercept, made.prior)
    if not all(map(_is_number, numbers)):
        raise MetricError(f"calibration: slope, intercept and prior must be numbers, given {numbers}.")
    if not (all(map(math.isfinite, numbers)) and made.slope >= 0 and 0 < made.prior < 1):
        raise MetricError(
            f"calibration: slope {made.slope}, intercept {made.intercept} and prior {made.prior} must be "
            "finite, slope at least 0 and prior between 0 and 1. Fit it again."
        )
    return made


def _checked_isotonic(given: Mapping[str, Any]) -> Isotonic:
    lists = (given["scores"], given["probabilities"])
    if not all(isinstance(each, list | tuple) and all(map(_is_number, each)) for each in lists):
        raise MetricError("calibration: scores and probabilities must be lists of numbers. Fit it again.")
    scores, probabilities = (np.asarray(each, dtype=np.float64) for each in lists)
    sound = scores.size == probabilities.size > 0 and bool(np.isfinite(scores).all())
    sound = sound and bool((np.diff(scores) > 0).all() and (np.diff(probabilities) >= 0).all())
    prior = given["prior"]
    if not (
        sound and probabilities[0] >= 0 and probabilities[-1] <= 1 and _is_number(prior) and 0 < prior < 1
    ):
        raise MetricError(
            f"calibration: {plural(scores.size, 'score')} must rise, {probabilities.size} probabilities in [0, "
            "1] must not "
            f"fall, and prior {prior!r} must lie between 0 and 1. Fit it again."
        )
    return Isotonic(
        **{**given, "scores": tuple(scores.tolist()), "probabilities": tuple(probabilities.tolist())}
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_nan(scores: ArrayLike) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise MetricError(
            f"calibration: {int(np.isnan(values).sum())} of {plural(values.size, 'score')} NaN."
        )
    return values


def fit_platt(genuine: ArrayLike, impostor: ArrayLike, *, source: str = "", quiet: bool = False) -> Platt:
    """Logistic regression of the score on "same person", both classes weighing the same (prior ½).

    The share of impostors in a list of pairs says how the list was made and nothing about the pair a user
    holds; so the prior is fixed and stored instead of read off the data. Smoothed targets keep the slope
    finite where the classes do not overlap. More than 200,000 scores of a class are thinned to evenly spaced
    ranks, so neither chance nor order plays a part.

    Args: genuine (G,), impostor (I,): finite scores of any range; source: where they came from; quiet: for who fits
        many and says once what there is to say.
    Returns: Platt. MetricError for what `sort_scores` refuses. Where genuine scores are not higher than
        impostor ones the slope is 0 and every probability ½ (a warning is logged).
    """
    examples = _examples(genuine, impostor)
    values, targets, weights = examples.values, examples.targets, examples.weights
    centre = float(weights @ values)
    spread = math.sqrt(float(weights @ (values - centre) ** 2)) or 1.0
    slope, intercept = _fit_logistic((values - centre) / spread, targets, weights)
    if slope <= 0:
        if not quiet:
            logger.warning(
                "Genuine scores are not higher than impostor scores: every calibrated score is 0.5."
            )
        slope, intercept = 0.0, math.log(PRIOR / (1 - PRIOR))
    return Platt(
        slope=slope / spread,
        intercept=intercept - slope * centre / spread,
        prior=PRIOR,
        num_genuine=examples.num_genuine,
        num_impostors=examples.num_impostors,
        source=source,
    )


def fit_isotonic(genuine: ArrayLike, impostor: ArrayLike, *, source: str = "") -> Isotonic:
    """The non-decreasing function of the score closest to "same person" in squared error, classes weighing alike.

    Prior, smoothed targets (so no probability is 0 or 1), thinning and errors as in `fit_platt`; equal scores count
    as one example. It needs many pairs: prefer Platt where held-out pairs do not speak for it.
    """
    examples = _examples(genuine, impostor)
    scores, group = np.unique(examples.values, return_inverse=True)
    weights = np.asarray(np.bincount(group, examples.weights), dtype=np.float64)
    means = np.bincount(group, examples.weights * examples.targets) / weights
    levels, sizes = pool_adjacent_violators(means, weights)
    last = np.cumsum(sizes) - 1
    first = last - sizes + 1
    keep = np.unique(np.concatenate([first, last]))  # both ends of every level; once where they are one score
    return Isotonic(
        scores=tuple(scores[keep].tolist()),
        probabilities=tuple(np.repeat(levels, sizes)[keep].tolist()),
        prior=PRIOR,
        num_genuine=examples.num_genuine,
        num_impostors=examples.num_impostors,
        source=source,
    )


def pool_adjacent_violators(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """The non-decreasing sequence closest to `values` (N,) in weighted squares, as levels and their lengths.

    Returns: levels (K,), strictly rising weighted means, and sizes (K,), whose sum is N. Linear time.
    """
    levels: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for new, weight in zip(values.tolist(), weights.tolist(), strict=True):
        level, mass, size = new, weight, 1
        while levels and levels[-1] >= level:
            total = masses[-1] + mass
            level = (levels.pop() * masses[-1] + level * mass) / total
            size += sizes.pop()
            masses.pop()
            mass = total
        levels.append(level)
        masses.append(mass)
        sizes.append(size)
    return np.array(levels), np.array(sizes, dtype=np.intp)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Thinned scores of both classes (N,) with Platt's targets and weights that sum to ½ per class."""

    values: FloatArray
    targets: FloatArray
    weights: FloatArray
    num_genuine: int
    num_impostors: int


def _examples(genuine: ArrayLike, impostor: ArrayLike) -> _Examples:
    scores = sort_scores(genuine, impostor)
    same, different = _thin(scores.genuine), _thin(scores.impostor)
    sizes = [same.size, different.size]
    return _Examples(
        values=np.concatenate([same, different]),
        targets=np.repeat(_smoothed_targets(same.size, different.size), sizes),
        weights=np.repeat([PRIOR / same.size, (1 - PRIOR) / different.size], sizes),
        num_genuine=same.size,
        num_impostors=different.size,
    )


def _thin(ascending: ScoreArray) -> FloatArray:
    """At most MAX_SCORES of the scores, float64, at evenly spaced ranks."""
    if ascending.size > MAX_SCORES:
        ranks = (np.arange(MAX_SCORES) + 0.5) * (ascending.size / MAX_SCORES)
        ascending = ascending[ranks.astype(np.intp)]
    return ascending.astype(np.float64)


def _smoothed_targets(num_genuine: int, num_impostors: int) -> tuple[float, float]:
    """Platt's targets for genuine and impostor pairs: one invented pair of the other class beside each."""
    return (num_genuine + 1) / (num_genuine + 2), 1 / (num_impostors + 2)


def _fit_logistic(values: FloatArray, targets: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Slope and intercept that minimise the weighted cross-entropy: damped Newton on a convex function."""
    design = np.stack([values, np.ones_like(values)])
    at = np.zeros(2)
    loss = _cross_entropy(at @ design, targets, weights)
    for _ in range(MAX_STEPS):
        probability = _sigmoid(at @ design)
        gradient = design @ (weights * (probability - targets))
        if float(np.abs(gradient).max()) < 1e-12:
            break
        curvature = (design * (weights * probability * (1 - probability))) @ design.T
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        size, lowered = 1.0, math.inf
        while size > SMALLEST_STEP and not lowered < loss:
            trial = at - size * step
            lowered = _cross_entropy(trial @ design, targets, weights)
            size /= 2
        if not lowered < loss:
            break  # at the rounding floor
        at, loss = trial, lowered
    return float(at[0]), float(at[1])


def _cross_entropy(logits: FloatArray, targets: FloatArray, weights: FloatArray) -> float:
    return float(weights @ (np.logaddexp(0, logits) - targets * logits))


def _sigmoid(logits: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
