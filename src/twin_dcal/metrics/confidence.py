"""From a figure and its replicates to a confidence interval, and from a difference to a p-value.

Source of Student's t in closed form for whole degrees of freedom (numpy has none): Abramowitz & Stegun, Handbook of
Mathematical Functions, 26.7.3 and 26.7.4.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MANY = 100  # errors from which the Poisson distribution is as good as normal


@dataclass(frozen=True)
class Interval:
    """`estimate`: the exact figure of all pairs; [low, high]: its interval; `num_undefined` replicates had none."""

    estimate: float
    low: float
    high: float
    num_undefined: int


def rate_interval(
    estimate: float, values: Floats, *, num_units: int, num_trials: int, level: float
) -> Interval:
    """Interval of a figure in [0, 1]: ± t standard deviations of the replicates on the logit scale.

    Args: values (R,): the figure of every replicate, NaN where it has none; num_units: independent units behind it, one
        more than the degrees of freedom; num_trials: units that could each have shown an error, for a figure of 0 or 1.
    """
    undefined = int(np.isnan(values).sum())
    if not 0 < estimate < 1:
        far = 1 - ((1 - level) / 2) ** (
            1 / num_trials
        )  # Clopper-Pearson with no error, or nothing but errors
        return Interval(estimate, 0.0 if estimate <= 0 else 1 - far, far if estimate <= 0 else 1.0, undefined)
    variance = estimate * (1 - estimate)
    reach = t_quantile(level, num_units - 1) * float(np.nanstd(values)) / variance
    centre = math.log(estimate / (1 - estimate))
    return Interval(estimate, _logistic(centre - reach), _logistic(centre + reach), undefined)


def plain_interval(estimate: float, values: Floats, *, num_units: int, level: float) -> Interval:
    """Interval of a figure without limits: ± t standard deviations of the replicates."""
    reach = t_quantile(level, num_units - 1) * float(np.nanstd(values))
    return Interval(estimate, estimate - reach, estimate + reach, int(np.isnan(values).sum()))


def p_value_of_zero(estimate: float, values: Floats, *, num_units: int) -> float:
    """Two-sided p-value of "the true figure is 0", at least 1 / (R + 1): below 1 - level where `plain_interval` of that
    level leaves out 0."""
    spread = float(np.nanstd(values))
    if estimate == 0:
        return 1.0
    p = two_sided_p(estimate / spread, num_units - 1) if spread > 0 else 0.0
    return max(p, 1 / (values.size + 1))


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


def two_sided_p(t: float, df: int) -> float:
    """P(|T| >= |t|) of Student's t with df >= 1 degrees of freedom."""
    angle = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    first, term = (1, 1.0) if df % 2 == 0 else (2, cosine)
    total = term
    for step in range(first, df - 2, 2):  # terms 1, (1/2) c², (1·3/2·4) c⁴, … or c, (2/3) c³, …
        term *= cosine * cosine * step / (step + 1)
        total += term
    if df % 2 == 0:
        return max(1 - sine * total, 0.0)
    return max(1 - 2 / math.pi * (angle + (sine * total if df > 1 else 0.0)), 0.0)


@lru_cache(maxsize=64)
def t_quantile(level: float, df: int) -> float:
    """The t with P(|T| <= t) = level, for level in (0, 1); by bisection."""
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - level:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - level else (low, middle)
    return high


def _logistic(value: float) -> float:
    small = math.exp(-abs(value))
    return (1.0 if value >= 0 else small) / (1.0 + small)
