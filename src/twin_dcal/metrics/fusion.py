"""One score from two cosines: that of a face network as it was, which knows strangers, and that of the trained model,
which knows twins. numpy only.

A sum of the two trades one kind of error for the other. Here each kind of impostor has a say of its own: a pair counts
as one person only if neither "twins" nor "strangers" explains its two cosines better (docs/method.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError

Coefficients = tuple[float, float, float]
"""(a, b, c) of log odds a · untouched cosine + b · own cosine + c."""

PRIOR = 3.0
"""Natural logarithm of how many times more a stranger weighs than a twin. Chosen on training and validation families of
edited twins: 0 helps twins by half a per cent of EER and doubles that of strangers (docs/results.md)."""
_SPREAD = 8.0
_RIDGE = 1e-3
_MAX_STEPS = 100
_LARGEST = 1e4


@dataclass(frozen=True)
class Fusion:
    """How a pair's score comes from its two features.

    split: the first columns of a combined feature that are the untouched network's embedding. share: its share in the
    cosine of combined features. twins, strangers: log odds of one person against each kind of impostor; None where
    validation had no such pairs. At least one is there. data: what they were fitted on.
    """

    split: int
    share: float
    twins: Coefficients | None
    strangers: Coefficients | None
    data: str = ""

    def matrix(self, one_MD: NDArray[np.float32], two_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of all pairs of combined features with unit rows, (M, N) float32 in [-1, 1]."""
        cosines = (one_MD[:, part] @ two_ND[:, part].T / share for part, share in self.shares())
        return self.score(*cosines)

    def rows(self, one_PD: NDArray[np.float32], two_PD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of features side by side, (P,) float32 in [-1, 1]."""
        cosines = (
            np.einsum("pd,pd->p", one_PD[:, part], two_PD[:, part]) / share for part, share in self.shares()
        )
        return self.score(*cosines)

    def score(self, untouched: ArrayLike, own: ArrayLike) -> NDArray[np.float32]:
        """From two cosines, of any one shape: higher is more alike, in [-1, 1].

        With l_t and l_s the log odds of one person against twins and strangers, −log(e^−l_t + 20 e^−l_s) is a soft
        minimum of both; tanh takes it to [-1, 1] and keeps the order.
        """
        untouched, own = (np.asarray(values, np.float64) for values in (untouched, own))
        against = [
            weight - (a * untouched + b * own + c)
            for weight, kind in ((0.0, self.twins), (PRIOR, self.strangers))
            if kind is not None
            for a, b, c in (kind,)
        ]
        return np.asarray(np.tanh(-np.logaddexp.reduce(against, axis=0) / _SPREAD), np.float32)

    def shares(self) -> tuple[tuple[slice, float], tuple[slice, float]]:
        """Columns of both embeddings, the untouched network's first, and each one's share in the squared length."""
        return (slice(0, self.split), self.share), (slice(self.split, None), 1 - self.share)

    def to_dict(self) -> dict[str, Any]:
        twins, strangers = (None if kind is None else list(kind) for kind in (self.twins, self.strangers))
        return {
            "split": self.split,
            "share": self.share,
            "twins": twins,
            "strangers": strangers,
            "data": self.data,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        split, share = values["split"], float(values["share"])
        twins, strangers = (_coefficients(values[kind]) for kind in ("twins", "strangers"))
        if type(split) is not int or not 0 < split < 100_000 or not 0 < share < 1:
            raise ValueError(f"fusion of {split!r:.20} columns with share {share}")
        if twins is None and strangers is None:
            raise ValueError("fusion without coefficients")
        return cls(split, share, twins, strangers, str(values.get("data", "")))


def similarity_matrix(
    one_MD: NDArray[np.float32], two_ND: NDArray[np.float32], fusion: Fusion | None = None
) -> NDArray[np.float32]:
    """Scores of all pairs of features with unit rows, (M, N): cosines, or what `fusion` makes of them."""
    return one_MD @ two_ND.T if fusion is None else fusion.matrix(one_MD, two_ND)


def similarity_rows(
    one_PD: NDArray[np.float32], two_PD: NDArray[np.float32], fusion: Fusion | None = None
) -> NDArray[np.float32]:
    """The same of features side by side, (P,)."""
    return np.einsum("pd,pd->p", one_PD, two_PD) if fusion is None else fusion.rows(one_PD, two_PD)


def fit_fusion(
    untouched: Mapping[str, ArrayLike], own: Mapping[str, ArrayLike], *, split: int, share: float, data: str = ""
) -> Fusion:  # fmt: skip
    """Set both log odds by logistic regression, with equal weight for genuine pairs and impostors of a kind.

    Args: untouched, own: "genuine", "twin" and "unrelated" to cosines (P,), in the same order. MetricError without a
    genuine pair, or without impostors of either kind.
    """
    kinds = {
        kind: np.stack([np.asarray(cosines[kind], np.float64) for cosines in (untouched, own)], axis=1)
        for kind in ("genuine", "twin", "unrelated")
    }
    if not len(kinds["genuine"]) or not (len(kinds["twin"]) or len(kinds["unrelated"])):
        raise MetricError("fusion needs genuine pairs, and twin or unrelated impostors, on validation")
    twins, strangers = (
        _logistic(kinds["genuine"], kinds[kind]) if len(kinds[kind]) else None
        for kind in ("twin", "unrelated")
    )
    return Fusion(split, share, twins, strangers, data)


def _logistic(genuine_P2: NDArray[np.float64], impostors_P2: NDArray[np.float64]) -> Coefficients:
    """Coefficients of a class-balanced logistic regression with a slight ridge, by damped Newton steps."""
    design = np.concatenate([genuine_P2, impostors_P2])
    design = np.column_stack([design, np.ones(len(design))])
    target = np.repeat([1.0, 0.0], [len(genuine_P2), len(impostors_P2)])
    weight = np.where(target == 1, 0.5 / len(genuine_P2), 0.5 / len(impostors_P2))
    ridge = _RIDGE * np.diag([1.0, 1.0, 0.0]) / 100

    def loss(at: NDArray[np.float64]) -> float:
        logits = design @ at
        return float(weight @ (np.logaddexp(0, logits) - target * logits) + at @ ridge @ at / 2)

    at = np.zeros(3)
    for _ in range(_MAX_STEPS):
        probability = 0.5 * (1 + np.tanh(0.5 * (design @ at)))
        gradient = design.T @ (weight * (probability - target)) + ridge @ at
        curvature = (design * (weight * probability * (1 - probability))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature + 1e-12 * np.eye(3), gradient)
        size = 1.0
        while size > 1e-8 and not loss(at - size * step) < loss(at):
            size /= 2
        if size <= 1e-8:
            break
        at = at - size * step
    a, b, c = (float(value) for value in at)
    return a, b, c


def _coefficients(values: Any) -> Coefficients | None:
    if values is None:
        return None
    a, b, c = (float(value) for value in values)
    if not all(abs(value) <= _LARGEST for value in (a, b, c)):
        raise ValueError(f"{values!r:.60} are no coefficients")
    return a, b, c
