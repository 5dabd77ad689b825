"""Several photographs of one person taken as one, a template: its score, and the thresholds for so many photographs.

Legend: N images, E feature width, M and N photographs of two templates, P people. numpy only.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

from .calibration import Calibration, Platt, fit_platt
from .error_curve import ErrorCurve, Threshold
from .fusion import Fusion, similarity_matrix, similarity_rows
from .pairs import PairKind, PairScores, image_labels, split_by_kind
from .thresholds import choose_threshold, counted

logger = logging.getLogger(__name__)

Features = NDArray[np.float32]
Rule = Literal["mean", "max", "scores"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""What makes one score of M x N: the cosine of mean features, the highest of all pair scores, or their mean."""

SIZES = (1, 2, 3, 5, 10)
"""Photographs of a template that thresholds are set for, on either side."""
DRAWS = 20
MAX_PEOPLE = 60
"""In one draw, family by family; of more, each draw takes others."""
MIN_GENUINE = 30
_PER_TAIL = 24
_SMALLEST = 1e-12


def fused_features(
    features_NE: Features, weights: ArrayLike | None = None, fusion: Fusion | None = None
) -> Features:
    """The weighted mean of unit features, of unit length again, (E,) float32; a single feature comes back as it is.

    Args: weights (N,), positive; fusion: of a model whose features are two embeddings side by side, each of which is
    averaged alone, so that each keeps its share of the length.
    """
    weights_1N = None if weights is None else np.asarray(weights, np.float64)[None]
    return np.asarray(_fused(features_NE[None], weights_1N, fusion)[0])


def _fused(features_PNE: Features, weights_PN: NDArray[np.float64] | None, fusion: Fusion | None) -> Features:
    """Likewise for P templates of as many photographs each, (P, E)."""
    if features_PNE.shape[1] == 1:
        return np.asarray(features_PNE[:, 0])
    if weights_PN is None:
        means = features_PNE.sum(axis=1, dtype=np.float64)
    else:
        means = np.einsum("pn,pne->pe", weights_PN, features_PNE.astype(np.float64))
    parts = ((slice(None), 1.0),) if fusion is None else fusion.shares()
    for part, share in parts:
        lengths = np.linalg.norm(means[:, part], axis=1, keepdims=True)
        means[:, part] *= np.sqrt(share) / np.maximum(lengths, _SMALLEST)
    return np.asarray(means, np.float32)


def template_score(
    one_ME: Features, two_NE: Features, rule: Rule = "mean", fusion: Fusion | None = None,
    weights: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
) -> float:  # fmt: skip
    """The score of two templates, in [-1, 1]; of one photograph each it is the pair's score, to the last digit.

    Args: weights: of the photographs of either, for the rule "mean".
    """
    if rule == "mean" or len(one_ME) == len(two_NE) == 1:
        one, two = (
            fused_features(each, weight, fusion)
            for each, weight in zip((one_ME, two_NE), weights, strict=True)
        )
        score = float(similarity_rows(one[None], two[None], fusion)[0])
    else:
        scores = similarity_matrix(one_ME, two_NE, fusion)
        score = float(scores.max() if rule == "max" else scores.mean(dtype=np.float64))
    return float(np.clip(score, -1, 1))


@dataclass(frozen=True, eq=False)
class TemplateDecision:
    """Threshold, calibration and error rates of comparing templates of so many photographs.

    sizes: photographs of both, the smaller number first.
    """

    rule: Rule
    sizes: tuple[int, int]
    threshold: Threshold
    calibration: Calibration
    error_curve: ErrorCurve

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        return {
            "rule": self.rule, "sizes": list(self.sizes),
            "threshold": {"value": self.threshold.value, "origin": dict(self.threshold.origin)},
            "calibration": self.calibration.to_dict(), "error_curve": self.error_curve.to_dict(),
        }  # fmt: skip


def decision_for(
    decisions: Iterable[TemplateDecision], rule: Rule, sizes: tuple[int, int]
) -> TemplateDecision | None:
    """The decision for so many photographs, or for the most that are no more on either side; None where there is none.

    Of two that are as many, the one whose sides are more alike.
    """
    small, large = sorted(sizes)
    fitting = [
        each for each in decisions
        if each.rule == rule and each.sizes[0] <= small and each.sizes[1] <= large
    ]  # fmt: skip
    return max(fitting, key=lambda each: (sum(each.sizes), each.sizes[0]), default=None)


def calibrate_templates(
    features_NE: Features, person_of: ArrayLike, family_of_image: ArrayLike, source: str, *,
    fusion: Fusion | None = None, metric: str = "eer", seed: int = 0, rules: Sequence[Rule] = RULES,
    sizes: Sequence[int] = SIZES,
) -> tuple[TemplateDecision, ...]:  # fmt: skip
    """Thresholds for templates of every two of these numbers of photographs but (1, 1), as far as people have so many.

    Args: features (N, E), unit rows; person_of, family_of_image (N,): labels of any sortable type; source: what they
    are, in words; metric: as in `choose_threshold`. Two disjoint templates of each person are drawn DRAWS times. A
    number for which there are fewer than 30 genuine comparisons, or nothing to choose, is left out.
    """
    people, families = image_labels(person_of, family_of_image)
    made = []
    for small, large in [(m, n) for n in sizes for m in sizes if m <= n and n > 1]:
        drawn = list(drawn_people(people, families, small + large, seed))
        if sum(len(rows) for rows, _ in drawn) < MIN_GENUINE:
            continue
        for rule in rules:
            scores = drawn_scores(features_NE, drawn, small, rule, fusion)
            told = f"{source}, templates of {small} and {large} photographs"
            try:
                choice = choose_threshold(scores, metric)
                curve = ErrorCurve.of(counted(scores), told, choice.threshold, _PER_TAIL)
                hardest = scores.twin if len(scores.twin) else scores.impostors
                calibration = fit_platt(scores.genuine, hardest, source=told, quiet=True)
            except MetricError:  # one kind of pair only, or all scores the same
                continue
            threshold = Threshold(choice.threshold, choice.origin(told))
            made.append(TemplateDecision(rule, (small, large), threshold, calibration, curve))
    flat = sum(isinstance(each.calibration, Platt) and each.calibration.slope == 0 for each in made)
    if flat:
        logger.warning(
            "%d of %s for several photographs of each: genuine scores are not higher than impostor scores, and every "
            "calibrated score is 0.5", flat, plural(len(made), "threshold"),
        )  # fmt: skip
    return tuple(made)


def drawn_people(
    people: NDArray[np.intp], families: NDArray[np.intp], size: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows (P, size) of as many images of each of P people, and the people's families (P,), DRAWS times.

    Args: people, families (N,): numbers from 0 on.
    """
    counts = np.bincount(people)
    having = np.flatnonzero(counts >= size)
    if having.size < 2:
        return
    family_of = np.zeros(counts.size, np.intp)
    family_of[people] = families
    for number in range(DRAWS):
        rng = np.random.default_rng((seed, number))
        order = np.lexsort((rng.random(people.size), people))  # of each person in a row, shuffled
        begins = np.concatenate([[0], np.cumsum(counts)])
        place = rng.random(families.max() + 1)  # families in an order of their own, so that none is cut
        chosen = having[np.argsort(place[family_of[having]], kind="stable")][:MAX_PEOPLE]
        yield order[begins[chosen][:, None] + np.arange(size)], family_of[chosen]


def drawn_scores(
    features_NE: Features, drawn: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], small: int, rule: Rule,
    fusion: Fusion | None, weights_N: NDArray[np.float64] | None = None,
) -> PairScores:  # fmt: skip
    """Scores of the first templates, of `small` photographs, with all second ones, of the rest.

    Args: drawn: of `drawn_people`; weights (N,): of the images, for the rule "mean".
    """
    scores, kinds = [], []
    for rows, families in drawn:
        one, two = features_NE[rows[:, :small]], features_NE[rows[:, small:]]
        if rule == "mean":
            first, second = (
                _fused(each, None if weights_N is None else weights_N[part], fusion)
                for each, part in ((one, rows[:, :small]), (two, rows[:, small:]))
            )
            found = similarity_matrix(first, second, fusion)
        else:
            width = features_NE.shape[1]
            found = similarity_matrix(one.reshape(-1, width), two.reshape(-1, width), fusion)
            found = found.reshape(len(rows), one.shape[1], len(rows), two.shape[1])
            found = found.max(axis=(1, 3)) if rule == "max" else found.mean(axis=(1, 3))
        kind = np.where(families[:, None] == families, PairKind.TWIN, PairKind.UNRELATED)
        np.fill_diagonal(kind, PairKind.GENUINE)
        scores.append(np.clip(found, -1, 1).ravel())
        kinds.append(kind.ravel())
    return split_by_kind(np.concatenate(scores), np.concatenate(kinds))
