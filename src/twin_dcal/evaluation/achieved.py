"""What became of the false match rate that a threshold was chosen for, on other people."""

from collections.abc import Mapping
from typing import Any

from twin_dcal.metrics.carried import achieved_interval
from twin_dcal.metrics.confidence import Spread
from twin_dcal.metrics.intervals import Intervals
from twin_dcal.metrics.thresholds import impostor_words
from twin_dcal.percent import percent

from .result import Figures


def achieved_fmr(origin: Mapping[str, Any], figures: Figures, intervals: Intervals | None) -> Figures | None:
    """The FMR that was expected of the decision threshold and the one it has here, with an interval.

    The interval holds the error of the choice and that of these pairs.

    Args: origin: of the threshold, as in `ThresholdChoice.origin`; figures: those of `evaluation_figures`.
    Returns: `impostors, criterion, expected, fmr, interval, sentence`; None without both errors: a threshold of
        unknown origin, or by best accuracy or F1, no interval of the FMR here, no such impostors.
    """
    on, chosen = str(origin.get("impostors")), origin.get("error_of_choice")
    here = intervals.errors_of_choice.get(on, {}).get("far") if intervals else None
    if not intervals or not chosen or here is None:
        return None
    expected, fmr = chosen["expected_fmr"], figures[on]["fmr"]
    error = Spread(chosen["error"], chosen["freedom"], chosen["skewness"])
    interval = achieved_interval(fmr, here, error, intervals.level)
    criterion = str(origin.get("criterion"))
    where = f"for FMR {percent(expected)}"
    if not criterion.startswith("far="):
        where = f"where their FMR equals FNMR ({percent(expected)})"
    chance = "may be chance" if interval.low <= expected <= interval.high else "is more than chance"
    return {
        "impostors": on,
        "criterion": criterion,
        "expected": expected,
        "fmr": fmr,
        "interval": [interval.low, interval.high],
        "sentence": (
            f"The threshold was chosen on {impostor_words(on)} of other people {where}; here FMR is {percent(fmr)} "
            f"[{percent(interval.low).removesuffix(' %')}–{percent(interval.high)} with the error of the choice]: the "
            f"difference {chance}."
        ),
    }
