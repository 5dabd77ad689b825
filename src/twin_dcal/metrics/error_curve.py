"""What a model file says about deciding: a threshold with its origin, and the error rates at any other score.

Measured on validation pairs when the threshold is set. numpy only, so that an exported model needs no torch to use it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError

from .error_rates import MIN_ERRORS
from .pair_stream import SECTIONS, CountedPairs
from .score_counts import ScoreCounts
from .thresholds import impostor_words

Floats = NDArray[np.float64]

SCORES_PER_TAIL = 128


@dataclass(frozen=True)
class Threshold:
    """A decision threshold on the similarity, and where it came from (data, criterion, achieved rates)."""

    value: float
    origin: Mapping[str, Any]

    def chosen_by(self) -> str:
        """In words; a model file need not say all of it, or any."""
        criterion, impostors, data = (self.origin.get(key) for key in ("criterion", "impostors", "data"))
        if not criterion:
            return "the model file, which does not say how it was chosen"
        on = f" on {impostor_words(impostors)}" if impostors else ""
        return f"{criterion}{on}{f' of {data}' if data else ''}"


@dataclass(frozen=True)
class Rates:
    """Error rates of deciding at one score, shares in [0, 1].

    `fmr` is against the impostors named by `on`; the others are None where validation had none of that kind.
    `weak` names the rates with fewer than 30 errors behind them.
    """

    fmr: float
    fnmr: float
    twin_fmr: float | None
    unrelated_fmr: float | None
    on: str
    weak: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """Error rates of validation pairs at some of their scores, and at the threshold that was chosen on them.

    thresholds (T,): ascending, distinct. fnmr (T,): share of genuine pairs below each. fmr: by kind of impostor
    ("twin", "unrelated", "all"), (T,) share at or above each. data: which validation pairs, in words.
    """

    thresholds: Floats
    fnmr: Floats
    fmr: Mapping[str, Floats]
    num_genuine: int
    num_impostors: Mapping[str, int]
    data: str

    @classmethod
    def of(
        cls, pairs: CountedPairs, data: str, threshold: float | None = None, per_tail: int = SCORES_PER_TAIL
    ) -> Self:
        """Exact rates at up to a few hundred observed scores, densest in the tails. MetricError if a class is empty.

        Args: threshold: the one in use, whose rates are exact too: it may lie between two scores; per_tail: scores that
        are kept towards either end of each kind.
        """
        sections = {name: pairs.section(name) for name in SECTIONS if pairs.has(name)}
        if "all" not in sections:
            raise MetricError(f"{data}: no impostor pair, so there is no error curve")
        kept = [
            _tails(kind_counts, per_tail)
            for kind_counts in (pairs.genuine, pairs.twin, pairs.unrelated, pairs.other)
            if kind_counts.size
        ]
        thresholds = np.unique(np.concatenate([*kept, [] if threshold is None else [threshold]]))
        fmr: dict[str, Floats] = {
            name: np.sum([part.num_at_or_above(thresholds) for part in scores.impostor_counts], axis=0)
            / scores.num_impostors
            for name, scores in sections.items()
        }
        return cls(
            thresholds, pairs.genuine.num_below(thresholds) / pairs.genuine.size, fmr, pairs.genuine.size,
            {name: scores.num_impostors for name, scores in sections.items()}, data,
        )  # fmt: skip

    @property
    def on(self) -> str:
        """The impostors that decisions are judged by: twins where there were any, else all."""
        return "twin" if "twin" in self.fmr else "all"

    def with_rates(self, score: float, on: str, fmr: float, fnmr: float) -> Self:
        """The same with the rates that were measured at `score`, between two stored scores, on the impostors named by
        `on`; unchanged where they contradict what is stored."""
        at = int(np.searchsorted(self.thresholds, score))
        if on not in self.fmr or score in self.thresholds:
            return self
        higher = self.fmr_at(score)
        lower = {name: float(rates[at]) if at < rates.size else 0.0 for name, rates in self.fmr.items()}
        fits = lower[on] <= fmr <= higher[on]
        if not (fits and self._least_fnmr(score) <= fnmr <= self.at(score).fnmr):
            return self
        here = {**higher, on: fmr}
        if on != "all":  # of all impostors, those of `on` are known
            fewer = (higher[on] - fmr) * self.num_impostors[on] / max(1, self.num_impostors["all"])
            here["all"] = max(lower["all"], higher["all"] - fewer)
        return replace(
            self, thresholds=np.insert(self.thresholds, at, score), fnmr=np.insert(self.fnmr, at, fnmr),
            fmr={name: np.insert(rates, at, here[name]) for name, rates in self.fmr.items()},
        )  # fmt: skip

    def at_least(self, score: float) -> tuple[float, float]:
        """FMR on all impostors and FNMR at `score`, the lower of both sides between two stored scores."""
        above = int(np.searchsorted(self.thresholds, score, side="left"))
        return float(self.fmr["all"][above]) if above < self.fnmr.size else 0.0, self._least_fnmr(score)

    def _least_fnmr(self, score: float) -> float:
        if score > self.thresholds[-1]:
            return 1.0  # the highest score is stored, so no pair reaches this one
        below = int(np.searchsorted(self.thresholds, score, side="right")) - 1
        return float(self.fnmr[below]) if below >= 0 else 0.0

    def fmr_at(self, score: float) -> dict[str, float]:
        """FMR by kind of impostor of a threshold at `score`; the higher of both sides between two stored scores."""
        below = int(np.searchsorted(self.thresholds, score, side="right")) - 1
        return {name: float(rates[below]) if below >= 0 else 1.0 for name, rates in self.fmr.items()}

    def at(self, score: float) -> Rates:
        """Rates of a threshold at `score`. Between two stored scores each rate is the higher of both sides."""
        above = int(np.searchsorted(self.thresholds, score, side="left"))
        fmr = self.fmr_at(score)
        fnmr = float(self.fnmr[above]) if above < self.fnmr.size else 1.0
        errors = {"fnmr": fnmr * self.num_genuine, "fmr": fmr[self.on] * self.num_impostors[self.on]}
        weak = tuple(name for name, count in errors.items() if round(count) < MIN_ERRORS)
        return Rates(fmr[self.on], fnmr, fmr.get("twin"), fmr.get("unrelated"), self.on, weak)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        return {
            "thresholds": self.thresholds.tolist(), "fnmr": self.fnmr.tolist(),
            "fmr": {name: rates.tolist() for name, rates in self.fmr.items()}, "num_genuine": self.num_genuine,
            "num_impostors": dict(self.num_impostors), "data": self.data,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. MetricError for damaged values."""
        try:
            thresholds, fnmr = _shares(values["thresholds"], None), _shares(values["fnmr"], (0, 1))
            fmr = {str(name): _shares(rates, (0, 1)) for name, rates in values["fmr"].items()}
            counts = {str(name): int(count) for name, count in values["num_impostors"].items()}
            made = cls(thresholds, fnmr, fmr, int(values["num_genuine"]), counts, str(values["data"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MetricError(f"an error curve cannot be read ({type(error).__name__}: {error})") from error
        sizes = {thresholds.size, fnmr.size, *(rates.size for rates in fmr.values())}
        if (
            sizes != {thresholds.size}
            or not (np.diff(thresholds) > 0).all()
            or "all" not in fmr
            or set(fmr) != set(counts)
        ):
            raise MetricError("an error curve cannot be read: its parts do not fit each other")
        return made


def _tails(kind_counts: ScoreCounts, per_tail: int) -> Floats:
    """Scores of a class at ranks that grow geometrically from both ends, the ends included."""
    ranks = np.unique(np.geomspace(1, kind_counts.size, per_tail).round().astype(np.intp)) - 1
    return np.asarray(kind_counts.at_ranks(np.concatenate([ranks, kind_counts.size - 1 - ranks])), np.float64)


def _shares(values: ArrayLike, within: tuple[float, float] | None) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError("expected a list of numbers")
    if within is not None and not ((array >= within[0]) & (array <= within[1])).all():
        raise ValueError("a rate lies outside [0, 1]")
    return array
