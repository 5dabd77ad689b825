"""Thresholds carried from validation to other people: the error of the choice, and the FMR with it.

A threshold that is chosen on few families lies too high or too low by chance, and with it the FMR of other people. To
first order, on the logit scale, with e and e' the errors of FMR and FNMR of the validation pairs at the threshold:

- chosen at a requested FMR, the FMR of others is moved by -e;
- chosen where FMR and FNMR are equal, by w (e' - e), with w the FMR's share of the slopes where the two curves cross.

Leaving out each family shows these errors (`family_jackknife`). Best accuracy and F1 have no such expansion: the place
of a maximum does not move in proportion to its curve (Kim & Pollard, "Cube root asymptotics", Annals of Statistics 18,
1990).
"""

import math

import numpy as np

from .confidence import Interval, Spread, logit_interval, spread
from .replicates import Floats, Replicates, logit_rate, slope_at


def errors_of_choice(
    these: Replicates, whole: Replicates, column: int, *, num_impostor_units: int, num_units: int
) -> dict[str, Spread]:
    """How far the logit of the FMR on others is moved by the error of a threshold chosen on these pairs.

    Args: these: the pairs without each unit; whole: all of them, in one row; column: that of the threshold;
        num_impostor_units, num_units: units with impostor pairs, and with genuine ones too.
    Returns: "far" and "eer" -> Spread, by how the threshold was chosen; without one where a rate that it rests on is 0
        or 1, also without one of the units: then its logit has no spread.
    """
    made = {}
    if _within(these.fmr, whole.fmr, column):
        fmr = logit_rate("fmr", these, column) - logit_rate("fmr", whole, column)
        made["far"] = spread(-fmr, num_impostor_units)
        if _within(these.fnmr, whole.fnmr, column):
            fnmr = logit_rate("fnmr", these, column) - logit_rate("fnmr", whole, column)
            share = 1 / (1 - slope_at("fnmr", whole, whole, column))
            made["eer"] = spread(share * (fnmr - fmr), num_units)
    return made


def _within(these: Floats, whole: Floats, column: int) -> bool:
    rates = np.append(these[:, column], whole[:, column])
    return bool(np.all((rates > 0) & (rates < 1)))


def achieved_interval(estimate: float, here: Spread, chosen: Spread, level: float) -> Interval:
    """Interval of the FMR at a threshold from other people, with the error of both sets of families.

    Args: estimate: the FMR of these pairs, in (0, 1). here: the "far" of `errors_of_choice` on these pairs, at the same
        threshold; its opposite is the error of their FMR. chosen: that of the validation pairs, by the threshold's
        criterion.
    """
    variances = here.error**2, chosen.error**2
    error = math.sqrt(sum(variances))
    if error == 0:
        return Interval(estimate, estimate, estimate, 0)
    freedom = error**4 / (variances[0] ** 2 / here.freedom + variances[1] ** 2 / chosen.freedom)
    skewness = (chosen.skewness * chosen.error**3 - here.skewness * here.error**3) / error**3
    return logit_interval(estimate, Spread(error, freedom, skewness), level)
