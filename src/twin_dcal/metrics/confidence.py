"""From a figure and its values without each family to a confidence interval, and from a difference to a p-value.

The method was chosen by measured coverage (docs/intervals.md). Sources: jackknife variance, Efron & Tibshirani, An
Introduction to the Bootstrap, 11.5; degrees of freedom, Satterthwaite, Biometrics Bulletin 2 (1946), with the fourth
moment of a normal distribution; skewness, Hall, "On the removal of skewness by transformation", JRSS B 54 (1992).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MANY = 100  # errors from which the Poisson distribution is as good as normal
_FARTHEST_MOVED = 1.5  # near its point of inflection the inverse of Hall's cubic runs away
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Interval:
    """`estimate`: the exact figure of all pairs; [low, high]: its interval; `num_undefined` replicates had none."""

    estimate: float
    low: float
    high: float
    num_undefined: int


@dataclass(frozen=True)
class Spread:
    """What leaving out one unit at a time tells of a figure: its standard error, how well that is known (degrees of
    freedom, fewer where a few units carry it), and the skewness of the figure's distribution."""

    error: float
    freedom: float
    skewness: float


def spread(left_out: Floats, num_units: int) -> Spread:
    """Args: left_out (U,): the figure without each unit, NaN where it has none; num_units: those that it rests on.

    The degrees of freedom are 3 (Σd²)² / Σd⁴ - 2 for deviations d, between 1 and num_units - 1: near the upper end
    where all units pull alike, near 1 where one of them decides.
    """
    values = left_out[~np.isnan(left_out)]
    away = values - values.mean()
    total = float(np.sum(away**2))
    if total == 0 or num_units < 2:
        return Spread(0.0, max(num_units - 1, 1), 0.0)
    freedom = 3 * total**2 / float(np.sum(away**4)) - 2
    skewness = -float(np.sum(away**3)) / total**1.5
    error = math.sqrt((num_units - 1) / num_units * total)
    return Spread(error, min(max(freedom, 1.0), num_units - 1.0), skewness)


def rate_interval(
    estimate: float, left_out: Floats, *, num_units: int, num_trials: int, level: float
) -> Interval:
    """Interval of a figure in [0, 1], on the logit scale, with Student's t and Hall's correction for skewness.

    A figure of 0 or 1 has no spread; its far bound is that of Clopper and Pearson with one trial per unit. Where all
    errors are those of one unit, it is theirs for one error, and 1 (or 0) if that unit is too large for it.

    Args: left_out (U,): the figure without each unit, NaN where it has none; num_units: independent units behind it;
        num_trials: units that could each have shown an error, for a figure of 0 or 1.
    """
    undefined = int(np.isnan(left_out).sum())
    least, most = np.nanmin(left_out, initial=1.0), np.nanmax(left_out, initial=0.0)
    if estimate <= 0 or (estimate < 1 and least <= 0):
        return Interval(estimate, 0.0, _farthest(estimate, num_trials, level), undefined)
    if estimate >= 1 or most >= 1:
        return Interval(estimate, 1 - _farthest(1 - estimate, num_trials, level), 1.0, undefined)
    found = logit_interval(estimate, spread(np.log(left_out) - np.log1p(-left_out), num_units), level)
    return Interval(estimate, found.low, found.high, undefined)


def logit_interval(estimate: float, of: Spread, level: float) -> Interval:
    """Interval of a figure in (0, 1) from the spread of its logit, with Student's t and Hall's correction."""
    quantile, centre = t_quantile(level, of.freedom), math.log(estimate) - math.log1p(-estimate)
    low, high = (centre - of.error * _unskewed(end, of.skewness) for end in (quantile, -quantile))
    return Interval(estimate, _logistic(low), _logistic(high), 0)


def plain_interval(estimate: float, left_out: Floats, *, num_units: int, level: float) -> Interval:
    """Interval of a figure without limits, such as a difference: ± t standard errors."""
    of = spread(left_out, num_units)
    reach = t_quantile(level, of.freedom) * of.error
    return Interval(estimate, estimate - reach, estimate + reach, int(np.isnan(left_out).sum()))


def p_value_of_zero(estimate: float, left_out: Floats, *, num_units: int) -> float:
    """Two-sided p-value of "the true figure is 0": below 1 - level just where `plain_interval` of that level leaves out
    0."""
    of = spread(left_out, num_units)
    if estimate == 0:
        return 1.0
    return two_sided_p(estimate / of.error, of.freedom) if of.error > 0 else 0.0


def highest_rate(num_errors: int, num_trials: int) -> float:
    """The upper end of a one-sided 95 % interval of an error rate, for independent trials; 3 / num_trials for no error.

    By the Poisson distribution, a little above Clopper-Pearson's; by bisection.
    """
    if num_errors > _MANY:
        return min((num_errors + 1.645 * math.sqrt(num_errors)) / num_trials, 1.0)
    low, high = 0.0, 4.0 * (num_errors + 4)
    while (middle := (low + high) / 2) not in (low, high):
        term = at_most = math.exp(-middle)
        for count in range(1, num_errors + 1):
            term *= middle / count
            at_most += term
        low, high = (middle, high) if at_most > 0.05 else (low, middle)
    return min(high / num_trials, 1.0)


def two_sided_p(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t with df >= 1 degrees of freedom, not necessarily whole; to 1e-12.

    With t = √df tan θ the density is proportional to cos^(df - 1) θ (Abramowitz & Stegun 26.7.2), which Gauss and
    Legendre's rule integrates.
    """
    angle = math.atan(abs(t) / math.sqrt(df))
    inside = angle / 2 * float(_WEIGHTS @ np.cos(angle / 2 * (_NODES + 1)) ** (df - 1))
    log_constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
    return max(1 - 2 / math.sqrt(math.pi) * math.exp(log_constant) * inside, 0.0)


@lru_cache(maxsize=4096)
def t_quantile(level: float, df: float) -> float:
    """The t with P(|T| <= t) = level, for level in (0, 1); by bisection."""
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - level else (low, middle)
    return high


def _unskewed(quantile: float, skewness: float) -> float:
    """The t of a skewed figure that is at a quantile of Student's: the inverse of Hall's cubic, in closed form, but no
    farther than by a factor of 1.5, which costs no coverage and saves a third of the width (docs/intervals.md)."""
    if abs(skewness) < 1e-9:
        return quantile
    moved = 3 / skewness * (math.cbrt(1 + skewness * (quantile - skewness / 6)) - 1)
    size = min(max(moved / quantile, 1 / _FARTHEST_MOVED), _FARTHEST_MOVED)
    return size * quantile


def _farthest(share: float, num_trials: int, level: float) -> float:
    """The upper end of Clopper and Pearson's interval for no error in so many trials, or for one if the share is above
    0; 1 where the share is not below that."""
    tail = (1 - level) / 2
    if share <= 0:
        return float(1 - tail ** (1 / num_trials))
    low, high = 1 / num_trials, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        at_most_one = (1 - middle) ** num_trials + num_trials * middle * (1 - middle) ** (num_trials - 1)
        low, high = (middle, high) if at_most_one > tail else (low, middle)
    return high if share < high else 1.0


def _logistic(value: float) -> float:
    small = math.exp(-abs(value))
    return (1.0 if value >= 0 else small) / (1.0 + small)
