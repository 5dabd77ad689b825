"""How good a calibrated probability is, and which calibration to take (docs/metrics.md)."""

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.metrics.calibration import Calibration, FloatArray, fit_isotonic, fit_platt
from twin_dcal.metrics.pair_stream import PairSource
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.score_counts import ScoreArray, ScoreCounts, TwoClasses
from twin_dcal.plural import plural

from .protocol import family_folds
from .result import Reliability

logger = logging.getLogger(__name__)

NUM_BINS = 15
"""Equal bins of probability, as in Guo et al., "On calibration of modern neural networks" (ICML 2017)."""
NUM_FOLDS = 5
MIN_FAMILIES = 20
"""Fewer families than this cannot speak for isotonic regression, whatever the number of their pairs."""
MAX_PAIRS = 2_000_000
SCORES_AT_ONCE = 1 << 20
LEAST = 1e-15


@dataclass(frozen=True, eq=False)
class KnownScores:
    """Scores of one class (P,) and the numbers of the families of both images (P, 2)."""

    scores: ScoreArray
    families: NDArray[np.intp]

    def within(self, chosen: NDArray[np.bool_]) -> ScoreArray:
        """The scores of pairs whose families are both chosen. Args: chosen (F,)."""
        return self.scores[chosen[self.families].all(axis=1)]


@dataclass(frozen=True, eq=False)
class CalibrationChoice:
    """A calibration, the impostors it is for, and why its method was taken."""

    calibration: Calibration
    on: str
    reason: str


def reliability(calibration: Calibration, scores: TwoClasses, num_bins: int = NUM_BINS) -> Reliability:
    """Calibrated probability against what was observed, both classes weighing the same (the stored prior of ½).

    ECE is the mean over bins of |observed - predicted|, weighted by the bins' share of the weight; Brier the mean
    squared difference between probability and truth.
    """
    mass = np.zeros((2, num_bins))
    promised, pairs = np.zeros(num_bins), np.zeros(num_bins, np.int64)
    brier = 0.0
    for same, parts in ((1, (scores.genuine_counts,)), (0, scores.impostor_counts)):
        weight = 0.5 / sum(part.size for part in parts)
        for part in parts:
            for values, counts in _chunks(part):
                probability = calibration(values)
                at = np.minimum((probability * num_bins).astype(np.intp), num_bins - 1)
                mass[same] += weight * np.bincount(at, counts, num_bins)
                promised += weight * np.bincount(at, counts * probability, num_bins)
                pairs += np.bincount(at, counts, num_bins).astype(np.int64)
                brier += weight * float(counts @ (probability - same) ** 2)
    total = mass.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted, observed = promised / total, mass[1] / total
    ece = float(np.abs(mass[1] - promised).sum())
    return Reliability(predicted, observed, pairs, ece, brier, calibration.method)


def choose_calibration(source: PairSource, on: str, origin: str, seed: int) -> CalibrationChoice:
    """Platt, or isotonic regression where held-out families speak for it.

    Isotonic regression is taken if its log loss on held-out families (5 folds by family, classes weighing the same)
    is lower than Platt's by more than the standard error of the difference over folds. With fewer than 20 families that
    have genuine pairs, or impostor pairs, or none known, it is Platt.

    Args: on: "twin" or "all", the impostors to calibrate for; origin: stored as the calibration's source.
    """
    genuine, impostor = collect(source, on)
    platt = fit_platt(genuine.scores, impostor.scores, source=origin)
    if source.families is None:
        return CalibrationChoice(platt, on, "platt: families are not known")
    for known, kind in ((genuine, "genuine"), (impostor, "impostor")):
        num_families = np.unique(known.families).size
        if num_families < MIN_FAMILIES:
            families = plural(num_families, "family has", "families have")
            reason = f"platt: {families} {kind} pairs, fewer than {MIN_FAMILIES}"
            return CalibrationChoice(platt, on, reason)
    gain = _held_out_gain(genuine, impostor, source, seed)
    if gain.size < 2:
        return CalibrationChoice(platt, on, "platt: too few folds hold genuine and impostor pairs")
    mean, error = float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(gain.size)
    better = mean > error
    reason = (
        f"{'isotonic' if better else 'platt'}: held-out log loss of isotonic regression is lower by {mean:.4f} "
        f"(standard error {error:.4f}, {gain.size} folds by family)"
    )
    isotonic = fit_isotonic(genuine.scores, impostor.scores, source=origin) if better else platt
    return CalibrationChoice(isotonic, on, reason)


def collect(source: PairSource, on: str) -> tuple[KnownScores, KnownScores]:
    """Genuine and impostor ("twin" or "all") scores; of more than 2 million of a class every k-th pair."""
    wanted = {0: [PairKind.GENUINE], 1: [PairKind.TWIN] if on == "twin" else list(PairKind)[1:]}
    steps = _steps(source, wanted)
    seen = [0, 0]
    found: dict[int, list[tuple[ScoreArray, NDArray[np.intp]]]] = {0: [], 1: []}
    for block in source.blocks():
        for which, kinds in wanted.items():
            chosen = np.flatnonzero(np.isin(block.kind, kinds))
            picked = chosen[-seen[which] % steps[which] :: steps[which]]
            seen[which] += chosen.size
            rows = np.stack([block.first[picked], block.second[picked]], axis=1)
            families = rows if source.families is None else source.families[rows]
            found[which].append((block.score[picked], families.astype(np.intp)))
    genuine, impostor = (
        KnownScores(*(np.concatenate(each) for each in zip(*parts, strict=True))) for parts in found.values()
    )
    return genuine, impostor


def log_loss(calibration: Calibration, genuine: ScoreArray, impostor: ScoreArray) -> float:
    """Cross-entropy in nats, both classes weighing the same."""
    same = np.clip(calibration(genuine), LEAST, 1)
    different = np.clip(1 - calibration(impostor), LEAST, 1)
    return -0.5 * float(np.log(same).mean()) - 0.5 * float(np.log(different).mean())


def _steps(source: PairSource, wanted: dict[int, list[PairKind]]) -> list[int]:
    """Every how manieth pair of each class to keep."""
    if source.num_pairs <= MAX_PAIRS:
        return [1, 1]
    counts = np.zeros(len(PairKind), np.int64)
    for block in source.blocks():
        counts += np.bincount(block.kind, minlength=len(PairKind))
    return [max(1, math.ceil(int(counts[kinds].sum()) / MAX_PAIRS)) for kinds in wanted.values()]


def _held_out_gain(genuine: KnownScores, impostor: KnownScores, source: PairSource, seed: int) -> FloatArray:
    """Log loss of Platt minus that of isotonic regression on each fold's families."""
    assert source.families is not None
    num_families = int(source.families.max()) + 1
    fold_of_image = family_folds(source.families, source.people, NUM_FOLDS, seed)
    fold = np.full(num_families, -1)
    fold[source.families] = fold_of_image
    gains = []
    for held_out in range(NUM_FOLDS):
        fitting = [part.within((fold != held_out) & (fold >= 0)) for part in (genuine, impostor)]
        judging = [part.within(fold == held_out) for part in (genuine, impostor)]
        if not all(part.size for part in judging):
            continue
        try:
            losses = [log_loss(fit(*fitting), *judging) for fit in (fit_platt, fit_isotonic)]
        except MetricError:
            continue  # nothing to fit outside the fold, or equal scores
        gains.append(losses[0] - losses[1])
    return np.array(gains)


def _chunks(part: ScoreCounts) -> list[tuple[ScoreArray, NDArray[np.intp]]]:
    values, counts = part.distinct()
    starts = range(0, values.size, SCORES_AT_ONCE)
    return [(values[at : at + SCORES_AT_ONCE], counts[at : at + SCORES_AT_ONCE]) for at in starts]
