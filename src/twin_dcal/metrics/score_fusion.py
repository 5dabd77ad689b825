"""One score from those of several systems: a logistic regression set on validation pairs. numpy only.

The usual fusion of biometric scores (Brümmer et al., "Fusion of heterogeneous speaker recognition systems", IEEE TASLP
15(7), 2007). Legend: S systems, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError

from .pairs import PairKind

Floats = NDArray[np.float64]

RIDGE = 1e-4
"""Of the weights of standardised scores: keeps them finite where the systems make no error on validation."""
_MAX_STEPS = 100


@dataclass(frozen=True)
class ScoreFusion:
    """Log odds of one person: Σ weight · score + intercept, where genuine pairs and impostors weigh the same."""

    weights: tuple[float, ...]
    intercept: float
    num_genuine: int
    num_impostors: int

    def __call__(self, scores_SP: ArrayLike) -> Floats:
        """(P,) from scores (S, P)."""
        return np.asarray(np.asarray(self.weights) @ np.asarray(scores_SP, np.float64) + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "weights": list(self.weights)}


def fit_score_fusion(scores_SP: ArrayLike, kinds: ArrayLike) -> ScoreFusion:
    """Weights that minimise the cross-entropy, with a slight ridge on standardised scores.

    Args: scores_SP: of each system (S, P); kinds (P,): PairKind. Genuine pairs have half of the weight; the other half
    is shared equally by the kinds of impostors there are, so that twins count as much as the many strangers.
    MetricError without genuine or impostor pairs, and for a system whose scores are all the same.
    """
    scores, kind = np.asarray(scores_SP, np.float64), np.asarray(kinds)
    same = kind == PairKind.GENUINE
    impostors = [value for value in np.unique(kind) if value != PairKind.GENUINE]
    if not same.any() or not impostors:
        raise MetricError("fusion of scores needs genuine and impostor pairs on validation.")
    weight = np.where(same, 0.5 / max(same.sum(), 1), 0.0)
    for value in impostors:
        weight[kind == value] = 0.5 / len(impostors) / (kind == value).sum()
    with np.errstate(over="ignore", invalid="ignore"):
        centre, spread = scores.mean(axis=1), scores.std(axis=1)
    if not np.isfinite(spread).all():
        raise MetricError("fusion of scores: the scores of one system are too large to be added up.")
    if not spread.all():
        raise MetricError("fusion of scores: all scores of one system are the same on validation.")
    design = np.vstack([(scores - centre[:, None]) / spread[:, None], np.ones(kind.size)])
    at = _newton(design, same.astype(np.float64), weight)
    weights = at[:-1] / spread
    return ScoreFusion(
        tuple(weights.tolist()), float(at[-1] - weights @ centre), int(same.sum()), int((~same).sum())
    )


def _newton(design: Floats, target: Floats, weight: Floats) -> Floats:
    """(S + 1,) the minimum of a convex function, by damped Newton steps; the last coefficient has no ridge."""
    ridge = RIDGE * np.diag([1.0] * (len(design) - 1) + [0.0])

    def loss(at: Floats) -> float:
        logits = at @ design
        return float(weight @ (np.logaddexp(0, logits) - target * logits) + at @ ridge @ at / 2)

    at = np.zeros(len(design))
    for _ in range(_MAX_STEPS):
        probability = 0.5 * (1 + np.tanh(0.5 * (at @ design)))
        gradient = design @ (weight * (probability - target)) + ridge @ at
        if float(np.abs(gradient).max()) < 1e-12:
            break
        curvature = (design * (weight * probability * (1 - probability))) @ design.T + ridge
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(at)), gradient)
        size, before = 1.0, loss(at)
        while size > 1e-10 and not loss(at - size * step) < before:
            size /= 2
        if size <= 1e-10:
            break  # at the rounding floor
        at = at - size * step
    return at


def named(names: Sequence[str]) -> str:
    """What the fusion of some systems is called."""
    return f"fusion of {', '.join(names)}"
