"""What errors cost: detection cost, the convex hull of the ROC curve, and the cost of log-likelihood ratios.

All rest on one hull: of the operating points (false matches, false non-matches), the corners that some prior or cost
makes the best. Along it scores are as good as they can be made by any rescaling that keeps their order, which is what
pooling adjacent violators finds (Fawcett and Niculescu-Mizil, "PAV and the ROC convex hull", Machine Learning 68,
2007).

Sources: minDCF, NIST Speaker Recognition Evaluation plans (2008 to 2019), normalised by the better of accepting and
rejecting every pair; Cllr and minCllr, Brümmer and du Preez, "Application-independent evaluation of speaker detection",
Computer Speech and Language 20 (2006), with natural log-likelihood ratios; the EER of the convex hull as in
bob.measure's `rocch2eer`. Legend: K corners.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .error_rates import Confusion, roc
from .score_counts import ScoreArray, ScoreCounts, TwoClasses

Counts = NDArray[Any]
Floats = NDArray[np.float64]

TARGET_PRIORS = (1e-2, 1e-3)
"""Shares of genuine pairs for which minDCF is given, with both errors costing the same."""
SCORES_AT_ONCE = 1 << 20
LARGEST_ODDS = 700.0
"""Natural log odds that a calibrated probability of 0 or 1 stands for; e^700 is near the largest double."""
_FEW = 1000


@dataclass(frozen=True, eq=False)
class Hull:
    """Corners of the lower convex hull from "reject every pair" to "accept every pair": false matches, which rise, and
    false non-matches, which fall, (K,) counts; and the threshold of each, +inf first."""

    false_matches: Counts
    false_non_matches: Counts
    thresholds: Floats
    num_genuine: int
    num_impostors: int

    @property
    def fmr(self) -> Floats:
        return self.false_matches / self.num_impostors

    @property
    def fnmr(self) -> Floats:
        return self.false_non_matches / self.num_genuine


@dataclass(frozen=True)
class DetectionCost:
    """The lowest cost of any threshold, normalised, and the strictest threshold that has it (+inf: reject all)."""

    cost: float
    threshold: float


def convex_hull(scores: TwoClasses) -> Hull:
    """The hull of all operating points, exact: in whole numbers, equal scores together."""
    curve = roc(scores, corners_only=True)
    false_matches: NDArray[Any] = curve.fmr * scores.num_impostors
    missed: NDArray[Any] = curve.fnmr * scores.num_genuine
    if isinstance(scores.num_impostors, int):  # sums of weights otherwise (`person_weights`)
        false_matches, missed = (np.rint(each).astype(np.int64) for each in (false_matches, missed))
    corner = _corners(false_matches, missed)
    return Hull(
        false_matches[corner],
        missed[corner],
        curve.thresholds[corner],
        scores.num_genuine,
        scores.num_impostors,
    )


def hull_eer(hull: Hull) -> float:
    """Where the hull crosses FMR = FNMR: the EER that a random choice between two thresholds reaches; at most the EER,
    and the highest over all priors of the lowest expected error."""
    fmr, fnmr = hull.fmr, hull.fnmr
    after = int(np.argmax(fnmr <= fmr))
    gap_before, gap_after = fnmr[after - 1] - fmr[after - 1], fnmr[after] - fmr[after]
    share = gap_before / (gap_before - gap_after)
    return float(fmr[after - 1] + share * (fmr[after] - fmr[after - 1]))


def min_detection_cost(
    hull: Hull, target_prior: float, cost_miss: float = 1.0, cost_false_match: float = 1.0
) -> DetectionCost:
    """The lowest over all thresholds of cost_miss · prior · FNMR + cost_false_match · (1 − prior) · FMR, divided by the
    cost of the better of accepting and rejecting every pair; in [0, 1]."""
    costs = _cost(hull.fmr, hull.fnmr, target_prior, cost_miss, cost_false_match)
    best = int(np.argmin(costs))
    return DetectionCost(float(costs[best]), float(hull.thresholds[best]))


def detection_cost(
    at: Confusion, target_prior: float, cost_miss: float = 1.0, cost_false_match: float = 1.0
) -> float:
    """The cost at one threshold, normalised as in `min_detection_cost`; above 1 where a constant answer is cheaper."""
    return float(_cost(at.fmr, at.fnmr, target_prior, cost_miss, cost_false_match))


def min_cllr(hull: Hull) -> float:
    """Cllr of the best log-likelihood ratios that keep the order of the scores, in bits, in [0, 1].

    Every straight piece of the hull is one level of pooled adjacent violators, without smoothing: its likelihood ratio
    is the share of genuine pairs on it by that of impostors.
    """
    genuine = -np.diff(hull.false_non_matches) / hull.num_genuine
    impostor = np.diff(hull.false_matches) / hull.num_impostors
    with np.errstate(divide="ignore", invalid="ignore"):
        of_genuine = np.where(genuine > 0, genuine * np.log2(1 + impostor / genuine), 0)
        of_impostor = np.where(impostor > 0, impostor * np.log2(1 + genuine / impostor), 0)
    return float(of_genuine.sum() + of_impostor.sum()) / 2


def cllr(scores: TwoClasses, calibration: Calibration) -> float:
    """Cost of a calibration's log-likelihood ratios in bits: 0 is perfect, 1 knows nothing, more misleads."""
    genuine = _mean_cost((scores.genuine_counts,), calibration, -1)
    return (genuine + _mean_cost(scores.impostor_counts, calibration, 1)) / 2


def _mean_cost(parts: tuple[ScoreCounts, ...], calibration: Calibration, sign: int) -> float:
    """Mean of log2(1 + e^(sign · log-likelihood ratio))."""
    total = 0.0
    for part in parts:
        values, counts = part.distinct()
        for start in range(0, values.size, SCORES_AT_ONCE):
            some = slice(start, start + SCORES_AT_ONCE)
            total += float(
                counts[some] @ np.logaddexp(0, sign * log_likelihood_ratio(calibration, values[some]))
            )
    return total / sum(part.size for part in parts) / math.log(2)


def log_likelihood_ratio(calibration: Calibration, scores: ScoreArray) -> Floats:
    """Natural log-likelihood ratios of a calibration: its log odds less those of its prior."""
    probability = calibration(scores)
    with np.errstate(divide="ignore"):
        odds = np.log(probability) - np.log1p(-probability)
    prior = math.log(calibration.prior / (1 - calibration.prior))
    return np.asarray(np.clip(odds, -LARGEST_ODDS, LARGEST_ODDS) - prior)


def _cost(fmr: Any, fnmr: Any, prior: float, cost_miss: float, cost_false_match: float) -> Any:
    missed, matched = cost_miss * prior, cost_false_match * (1 - prior)
    return (missed * fnmr + matched * fmr) / min(missed, matched)


def _corners(false_matches: Counts, missed: Counts) -> NDArray[np.intp]:
    """Indices of the corners of the lower hull of points sorted along the curve; both ends are corners.

    A point on or above the line between its neighbours is no corner, and all such points can go at once: the neighbours
    are points too. When few are left to go, they go one by one.
    """
    kept = np.arange(false_matches.size)
    while kept.size > _FEW:
        x, y = false_matches[kept], missed[kept]
        turn = np.diff(x[:-1]) * np.diff(y[1:]) - np.diff(y[:-1]) * np.diff(x[1:])
        stays = np.concatenate([[True], turn > 0, [True]])
        removed = kept.size - int(stays.sum())
        kept = kept[stays]
        if removed < kept.size // _FEW:
            break
    chain: list[int] = []
    points = list(zip(false_matches[kept].tolist(), missed[kept].tolist(), strict=True))
    for index, (x_new, y_new) in enumerate(points):
        while len(chain) > 1:
            (x_one, y_one), (x_two, y_two) = points[chain[-2]], points[chain[-1]]
            if (x_two - x_one) * (y_new - y_two) - (y_two - y_one) * (x_new - x_two) > 0:
                break
            chain.pop()
        chain.append(index)
    return kept[chain]
