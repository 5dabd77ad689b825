"""From a raw score to a probability that a user can read: Platt scaling with a stated prior (METHOD §4).

Source: Platt, "Probabilistic outputs for support vector machines" (1999), with its smoothed targets; Newton's
method as in Lin, Lin, Weng, "A note on Platt's probabilistic outputs for support vector machines" (2007).
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError

from .metrics import ScoreArray, sort_scores

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

PRIOR = 0.5
MAX_SCORES = 200_000
MAX_STEPS = 100
SMALLEST_STEP = 2.0**-40


@dataclass(frozen=True)
class Calibration:
    """P(same | score) = sigmoid(slope * score + intercept), where a share `prior` of the pairs is genuine.

    `slope` is at least 0, so a higher score never gets a lower probability; 0 means that the scores told
    nothing. `num_genuine` and `num_impostors` are the scores behind the fit, `source` tells their origin.
    For another prior p add log(p / (1 - p)) - log(prior / (1 - prior)) to the intercept.
    """

    slope: float
    intercept: float
    prior: float
    num_genuine: int
    num_impostors: int
    source: str

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Probabilities in [0, 1], float64, of the shape of `scores`. MetricError for NaN."""
        values = np.asarray(scores, dtype=np.float64)
        if np.isnan(values).any():
            raise MetricError(f"calibration: {int(np.isnan(values).sum())} of {values.size} scores are NaN.")
        return np.asarray(_sigmoid(self.slope * values + self.intercept))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`. MetricError for missing or unknown keys and values out of range."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise MetricError(
                f"calibration: missing keys {sorted(names - set(values))}, unknown keys "
                f"{sorted(set(values) - names)}. Use what Calibration.to_dict wrote."
            )
        made = cls(**values)
        numbers = (made.slope, made.intercept, made.prior)
        if any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers):
            raise MetricError(f"calibration: slope, intercept and prior must be numbers, given {numbers}.")
        if not (all(map(math.isfinite, numbers)) and made.slope >= 0 and 0 < made.prior < 1):
            raise MetricError(
                f"calibration: slope {made.slope}, intercept {made.intercept} and prior {made.prior} must be "
                "finite, slope at least 0 and prior between 0 and 1. Fit it again."
            )
        return made


def fit_platt(genuine: ArrayLike, impostor: ArrayLike, *, source: str = "") -> Calibration:
    """Logistic regression of the score on "same person", both classes weighing the same (prior ½).

    The share of impostors in a list of pairs says how the list was made and nothing about the pair a user
    holds; so the prior is fixed and stored instead of read off the data. Smoothed targets keep the slope
    finite where the classes do not overlap. More than 200,000 scores of a class are thinned to evenly spaced
    ranks, so neither chance nor order plays a part.

    Args: genuine (G,), impostor (I,): finite scores of any range; source: where they came from.
    Returns: Calibration. MetricError for what `sort_scores` refuses. Where genuine scores are not higher than
        impostor ones the slope is 0 and every probability ½ (a warning is logged).
    """
    scores = sort_scores(genuine, impostor)
    same, different = _thin(scores.genuine), _thin(scores.impostor)
    values = np.concatenate([same, different])
    targets = np.repeat(_smoothed_targets(same.size, different.size), [same.size, different.size])
    weights = np.repeat([PRIOR / same.size, (1 - PRIOR) / different.size], [same.size, different.size])
    centre = float(weights @ values)
    spread = math.sqrt(float(weights @ (values - centre) ** 2)) or 1.0
    slope, intercept = _fit_logistic((values - centre) / spread, targets, weights)
    if slope <= 0:
        logger.warning("Genuine scores are not higher than impostor scores: every calibrated score is 0.5.")
        slope, intercept = 0.0, math.log(PRIOR / (1 - PRIOR))
    return Calibration(
        slope=slope / spread,
        intercept=intercept - slope * centre / spread,
        prior=PRIOR,
        num_genuine=same.size,
        num_impostors=different.size,
        source=source,
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
