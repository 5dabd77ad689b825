"""The figures of `metrics`, of many jackknife replicates at once: the pairs that are left without each family.

A replicate has a number of pairs in every score bin and for each class; thresholds are the bins' lower ends. Where bins
are the distinct scores, a figure is exactly that of the pairs. Every function returns one number per replicate, NaN
where a class is empty. Legend: R replicates, B bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .family_jackknife import BinnedPairs

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replicates:
    """Two classes of R replicates, cumulated from the strictest threshold to the loosest.

    matches, false_matches: (R, B + 1) weight at or above each threshold; column 0 rejects every pair, column k accepts
    the k highest bins. num_genuine, num_impostors: (R,) total weight, NaN in place of zero.
    """

    matches: Floats
    false_matches: Floats
    num_genuine: Floats
    num_impostors: Floats
    genuine_moments: Floats
    impostor_moments: Floats

    @property
    def fmr(self) -> Floats:
        """(R, B + 1)"""
        return self.false_matches / self.num_impostors[:, None]

    @property
    def fnmr(self) -> Floats:
        """(R, B + 1)"""
        return (self.num_genuine[:, None] - self.matches) / self.num_genuine[:, None]


def replicates(genuine: BinnedPairs, impostor: BinnedPairs) -> Replicates:
    """Both classes of every replicate, ready for the figures."""
    matches, false_matches = _from_the_top(genuine.bins), _from_the_top(impostor.bins)
    num_genuine, num_impostors = _or_nan(matches[:, -1]), _or_nan(false_matches[:, -1])
    return Replicates(matches, false_matches, num_genuine, num_impostors, genuine.moments, impostor.moments)


def eer(these: Replicates) -> Floats:
    """As `metrics.eer`: linear between the two operating points where FNMR - FMR changes sign."""
    fmr, gap = these.fmr, these.fnmr - these.fmr
    after = np.argmax(gap <= 0, axis=1)
    rows = np.arange(len(gap))
    gap_before, gap_after = gap[rows, after - 1], gap[rows, after]
    share = gap_before / (gap_before - gap_after)
    return np.asarray(fmr[rows, after - 1] + share * (fmr[rows, after] - fmr[rows, after - 1]))


def roc_auc(these: Replicates) -> Floats:
    """As `metrics.auc`; pairs of one bin count one half."""
    gained = np.diff(these.false_matches, axis=1)
    won = np.einsum("rb,rb->r", gained, these.matches[:, 1:] + these.matches[:, :-1])
    return np.asarray(won / (2 * these.num_genuine * these.num_impostors))


def best_accuracy(these: Replicates) -> Floats:
    right = these.matches - these.false_matches + these.num_impostors[:, None]
    return np.asarray(right.max(axis=1) / (these.num_genuine + these.num_impostors))


def best_f1(these: Replicates) -> Floats:
    return np.asarray(_f1(these).max(axis=1))


def d_prime(these: Replicates) -> Floats:
    """As `metrics.d_prime`, from sums of the scores: no bin error. NaN where no class has any spread."""
    means, variances = [], []
    for total, moments in (
        (these.num_genuine, these.genuine_moments),
        (these.num_impostors, these.impostor_moments),
    ):
        mean = moments[:, 0] / total
        means.append(mean)
        variances.append(np.maximum(moments[:, 1] / total - mean**2, 0))
    spread = np.sqrt((variances[0] + variances[1]) / 2)
    return np.asarray((means[0] - means[1]) / np.where(spread > 0, spread, np.nan))


def average_precision(these: Replicates) -> Floats:
    gained = np.diff(these.matches, axis=1)
    return np.asarray(np.einsum("rb,rb->r", gained, _precision(these)[:, 1:]) / these.num_genuine)


def pr_auc(these: Replicates) -> Floats:
    gained, precision = np.diff(these.matches, axis=1), _precision(these)
    area = np.einsum("rb,rb->r", gained, precision[:, 1:] + precision[:, :-1])
    return np.asarray(area / (2 * these.num_genuine))


def at_column(these: Replicates, column: int) -> dict[str, Floats]:
    """accuracy, fmr, fnmr, tar and f1 at one threshold, that of a column of `matches`."""
    matches, false_matches = these.matches[:, column], these.false_matches[:, column]
    right = matches + these.num_impostors - false_matches
    return {
        "accuracy": right / (these.num_genuine + these.num_impostors),
        "fmr": false_matches / these.num_impostors,
        "fnmr": (these.num_genuine - matches) / these.num_genuine,
        "tar": matches / these.num_genuine,
        "f1": 2 * matches / (matches + false_matches + these.num_genuine),
    }


def column_at_fmr(fmr: Floats, asked: float) -> NDArray[np.intp]:
    """(R,) the loosest column of FMRs (R, B + 1) that does not exceed the asked one, as `metrics.operating_point`."""
    return np.asarray((fmr <= asked).sum(axis=1) - 1)


def fnmr_at_fmr(these: Replicates, whole: Replicates, asked: float) -> Floats:
    """(R,) FNMR at the threshold where the FMR is at most the one asked; `whole` is all pairs in one row."""
    return _moved_along("fnmr", these, whole, these, whole, asked)


def twin_fmr_at_fmr(
    twin: Replicates, whole_twin: Replicates, these: Replicates, whole: Replicates, asked: float
) -> Floats:
    """(R,) FMR of twins at the threshold where that of other impostors is at most the one asked."""
    return _moved_along("fmr", twin, whole_twin, these, whole, asked)


def _moved_along(
    name: str, of: Replicates, whole_of: Replicates, these: Replicates, whole: Replicates, asked: float
) -> Floats:
    """A rate where the FMR of `these` is at most the one asked, to first order in what each replicate changes.

    The threshold is that of all pairs. Where a replicate's FMR differs there, its rate is moved along the curve of all
    pairs: on logit scales, by the secant between half and twice the odds of the FMR asked. Each replicate's own
    threshold would jump from score to score instead, and the jackknife of a quantile does not converge (Shao & Wu, "A
    general theory for jackknife variance estimation", Annals of Statistics 17, 1989). No error, or nothing else, stays
    what it is.
    """
    at = int(column_at_fmr(whole.fmr, asked)[0])
    slope = slope_at(name, whole_of, whole, at, asked)
    fmr, fmr_of_whole = logit_rate("fmr", these, at), logit_rate("fmr", whole, at)
    found = at_column(of, at)[name]
    moved = logit_rate(name, of, at) - slope * (fmr - fmr_of_whole)
    return np.asarray(np.where((found > 0) & (found < 1), 1 / (1 + np.exp(-moved)), found))


def slope_at(name: str, whole_of: Replicates, whole: Replicates, at: int, fmr: float | None = None) -> float:
    """How the logit of a rate of `whole_of` changes with that of the FMR of `whole`, from half to twice its odds.

    Args: at: the column; fmr: the rate it stands for, None for the one it has. 0 where the curve has no slope on this
        scale.
    """
    fmr = float(whole.fmr[0, at]) if fmr is None else fmr
    levels = (fmr / (2 - fmr), 2 * fmr / (1 + fmr))  # half and twice its odds
    # Where all pairs show no error, or nothing else, the curve has no slope on this scale.
    ends = [
        column if 0 < at_column(whole_of, column)[name][0] < 1 else at
        for column in (int(column_at_fmr(whole.fmr, level)[0]) for level in levels)
    ]
    run, rise = (
        float(np.subtract(*(logit_rate(rate, of, column)[0] for column in reversed(ends))))
        for rate, of in (("fmr", whole), (name, whole_of))
    )
    return rise / run if run > 0 else 0.0


def logit_rate(name: str, these: Replicates, column: int) -> Floats:
    """(R,) of the FMR or FNMR at a column; no case counts as half a case."""
    half = 0.5 / (these.num_impostors if name == "fmr" else these.num_genuine)
    rate = np.clip(at_column(these, column)[name], half, 1 - half)
    return np.asarray(np.log(rate) - np.log1p(-rate))


def _or_nan(totals: Floats) -> Floats:
    return np.asarray(np.where(totals > 0, totals, np.nan))


def _from_the_top(bins: Floats | NDArray[np.int32]) -> Floats:
    out = np.zeros((bins.shape[0], bins.shape[1] + 1))
    np.cumsum(bins[:, ::-1], axis=1, out=out[:, 1:])
    return out


def _f1(these: Replicates) -> Floats:
    return np.asarray(2 * these.matches / (these.matches + these.false_matches + these.num_genuine[:, None]))


def _precision(these: Replicates) -> Floats:
    """(R, B + 1); 1 where nothing is accepted."""
    declared = these.matches + these.false_matches
    return np.asarray(np.where(declared > 0, these.matches / np.where(declared > 0, declared, 1), 1.0))
