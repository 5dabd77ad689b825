"""What decides: a threshold, with calibration and error rates from the same pairs. No torch here."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.metrics.calibration import Calibration, Platt, fit_platt, score_reaching
from twin_dcal.metrics.error_curve import ErrorCurve, Rates
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.templates import Rule, TemplateDecision, decision_for
from twin_dcal.metrics.thresholds import ThresholdChoice, choose_threshold, counted
from twin_dcal.model_file.provenance import attention_warnings, training_warnings
from twin_dcal.percent import percent

from .aligning import FaceInfo
from .backend import ModelSource
from .result import VerificationResult

_LOWEST, _HIGHEST = -1.0, 1.0


@dataclass(frozen=True, eq=False)
class Deciding:
    """A threshold (None where none was ever set) and where it is from; calibration and error curve are of one set of
    pairs, so that everything in a result is from one source. templates: the same for several photographs of each;
    notes: why it may decide badly, beside what its origin says."""

    model: str
    threshold: float | None
    origin: Mapping[str, Any]
    calibration: Calibration | None
    error_curve: ErrorCurve | None
    templates: tuple[TemplateDecision, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_model(cls, source: ModelSource) -> Self:
        """As the model file says."""
        stored = source.threshold
        origin = {} if stored is None else {"set_by": "checkpoint", **stored.origin}
        value = None if stored is None else stored.value
        return cls(
            source.path, value, origin, source.calibration, _with_told(source.error_curve, value, origin),
            source.templates,
        )  # fmt: skip

    def of_pairs(self, scores: PairScores, metric: str, data: str) -> tuple[Self, ThresholdChoice]:
        """Chosen on scores of labelled pairs, which calibration and error rates are then from as well. data: what they
        are, in words. MetricError for pairs of one class only."""
        choice = choose_threshold(scores, metric)
        curve = ErrorCurve.of(counted(scores), data, choice.threshold)
        hardest = scores.twin if len(scores.twin) else scores.impostors
        calibration = fit_platt(scores.genuine, hardest, source=data)
        origin = {"set_by": "optimize_threshold", **choice.origin(data)}
        return replace(
            self, threshold=choice.threshold, origin=origin, calibration=calibration, error_curve=curve,
            templates=(),  # those of the model are of other pairs
        ), choice  # fmt: skip

    def of_templates(self, rule: Rule, sizes: tuple[int, int]) -> Self:
        """What decides on so many photographs of each; of one each that is this.

        A threshold that was set by hand stays, with the rates it has for so many. Without any for more than one, what
        is known of single photographs stays, and says so.
        """
        if sizes == (1, 1):
            return self
        found = decision_for(self.templates, rule, sizes)
        given = f"{sizes[0]} and {sizes[1]} photographs"
        if found is None:
            note = f"that of single photographs, and so are score and error rates: none are known for {given}"
            return replace(self, notes=(*self.notes, note))
        notes = self.notes
        if found.sizes != tuple(sorted(sizes)):
            note = f"that of {found.sizes[0]} and {found.sizes[1]} photographs, the nearest to {given} that is known"
            notes = (*notes, note)
        origin = {"set_by": "checkpoint", **found.threshold.origin, "photographs": list(found.sizes)}
        curve = _with_told(found.error_curve, found.threshold.value, origin)
        stored = replace(
            self, threshold=found.threshold.value, origin=origin, calibration=found.calibration, error_curve=curve,
            notes=notes,
        )  # fmt: skip
        set_by = str(self.origin.get("set_by"))
        if set_by == "checkpoint":
            return stored
        if "probability" in self.origin:
            moved = stored.moved_to_probability(self.origin["probability"], set_by)
        else:
            moved = stored.moved(self.required(), set_by)
        return replace(
            moved, origin={**moved.origin, "photographs": list(found.sizes)}
        )  # whose rates these are

    def moved(self, threshold: float, set_by: str = "user") -> Self:
        """The same at another threshold, with the rates it has on the same pairs. ConfigError outside [-1, 1]."""
        value = checked_similarity(threshold)
        return replace(self, threshold=value, origin={"set_by": set_by, **self._told_rates(value)})

    def moved_to_probability(self, probability: float, set_by: str = "user") -> Self:
        """The same at the lowest similarity whose calibrated probability is at least this. ConfigError where the model
        has no calibration, MetricError for a probability that none reaches."""
        _check_number("threshold probability", probability, "0 and 1")
        if not 0 <= probability <= 1:
            raise ConfigError(f"threshold probability {probability}: a probability lies between 0 and 1")
        if self.calibration is None:
            raise ConfigError(
                f"{self.model}: no calibration is stored, so no probability is known; give a similarity"
            )
        found = self.moved(score_reaching(self.calibration, float(probability), _LOWEST, _HIGHEST), set_by)
        return replace(found, origin={**found.origin, "probability": float(probability)})

    def required(self) -> float:
        """The threshold. ModelError where none was ever set."""
        if self.threshold is None:
            raise ModelError(
                f"{self.model}: no threshold is stored; give one, or set it with "
                "dcal-evaluate --optimize_threshold --save"
            )
        return self.threshold

    def rates(self, similarity: float) -> Rates | None:
        """Error rates of a threshold there; None where no error curve is known."""
        return None if self.error_curve is None else self.error_curve.at(similarity)

    def decide(
        self, similarity: float, source: ModelSource, seen: tuple[FaceInfo, FaceInfo], began: float,
        attention: Mapping[str, Any] | None = None, *, with_attention: bool = False,
    ) -> VerificationResult:  # fmt: skip
        """The decision on a pair. ModelError where no threshold was ever set.

        Args: similarity: of the pair, in [-1, 1]; source: the model it is from; seen: in the two pictures; began:
        `time.perf_counter()` when the work on them began; attention: maps for the result; with_attention: whether
        attention is shown, in the result or beside it, so that warnings about it are due.
        """
        threshold, rates = self.required(), self.rates(similarity)
        calibration = self.calibration
        return VerificationResult(
            verification_score=None if calibration is None else float(calibration(similarity)),
            verification_decision=similarity >= threshold,
            similarity=similarity,
            threshold=threshold,
            threshold_source=self.origin,
            estimated_fmr=None if rates is None else rates.fmr,
            estimated_fnmr=None if rates is None else rates.fnmr,
            model=source.described(),
            warnings=(
                *training_warnings(source.training),
                *(attention_warnings(source.training) if with_attention else ()),
                *self.warnings(rates),
                *_of_pictures(seen),
            ),
            faces=(seen[0].face, seen[1].face),
            familiarity=(seen[0].familiarity, seen[1].familiarity),
            elapsed_ms=1000 * (time.perf_counter() - began),
            attention_maps=attention,
        )

    def applied(self, result: VerificationResult) -> VerificationResult:
        """A result of the same pairs' calibration and rates, decided at this threshold instead."""
        threshold = self.required()
        others = [text for text in result.warnings if not text.startswith(_OF_THRESHOLD)]
        return replace(
            result, threshold=threshold, threshold_source=self.origin, warnings=(*self.about_threshold(), *others),
            verification_decision=result.similarity >= threshold,
        )  # fmt: skip

    def warnings(self, rates: Rates | None) -> tuple[str, ...]:
        """What a reader of a decision should know. Args: rates: at the pair's similarity."""
        told = self.about_threshold()
        if self.calibration is None:
            told.append("the model has no calibration, so there is no verification_score")
        elif isinstance(self.calibration, Platt) and self.calibration.slope == 0:
            told.append(
                "genuine pairs were not more alike than impostors, so every verification_score is 0.5"
            )
        if rates is None:
            told.append("the model has no error curve, so error rates at this similarity are unknown")
        elif rates.weak:
            names = " and ".join({"fmr": "FMR", "fnmr": "FNMR"}[name] for name in rates.weak)
            told.append(f"fewer than 30 validation errors stand behind the {names} at this similarity")
        return tuple(told)

    def about_threshold(self) -> list[str]:
        """Why it may decide badly, if anything is known; a threshold that decides nothing is called that."""
        told = [str(self.origin["warning"])] if self.origin.get("warning") else []
        return [f"{_OF_THRESHOLD}{text}" for text in [*told, *self.notes, *self._useless()]]

    def _useless(self) -> list[str]:
        threshold, curve = self.required(), self.error_curve
        if threshold <= _LOWEST:
            return ["it accepts everybody"]
        if curve is None:
            return []
        accepted, refused = curve.at_least(threshold)  # what is sure, also between two stored scores
        if accepted >= _PRACTICALLY:
            whom = "everybody" if accepted == 1 else "nearly everybody"
            return [f"it accepts {whom}: {percent(accepted)} of pairs of two people reach it"]
        if refused >= _PRACTICALLY:
            whom = "everybody" if refused == 1 else "nearly everybody"
            return [f"it refuses {whom}: {percent(refused)} of pairs of one person do not reach it"]
        return []

    def _told_rates(self, threshold: float) -> dict[str, Any]:
        rates = self.rates(threshold)
        if self.error_curve is None or rates is None:
            return {}
        data = {"data": self.error_curve.data, "impostors": rates.on}
        return {**data, "fmr": rates.fmr, "fnmr": rates.fnmr}


def checked_similarity(threshold: float) -> float:
    """A threshold as a float. ConfigError for what is no number between -1 and 1."""
    _check_number("threshold", threshold, "-1 and 1")
    if not _LOWEST <= threshold <= _HIGHEST:
        raise ConfigError(f"threshold {threshold}: a similarity lies between -1 and 1")
    return float(threshold)


def _of_pictures(seen: tuple[FaceInfo, FaceInfo]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {text}" for name, one in zip(("img1", "img2"), seen, strict=True) for text in one.warnings
    )


def _check_number(what: str, value: object, ends: str) -> None:
    """ConfigError for what is no number, such as text with one in it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ConfigError(f"{what} {value!r:.60}: a {type(value).__name__}; give a number between {ends}")


def _with_told(
    curve: ErrorCurve | None, threshold: float | None, origin: Mapping[str, Any]
) -> ErrorCurve | None:
    """The curve with the rates that the threshold was chosen for, where it was stored without them."""
    on, fmr, fnmr = (origin.get(key) for key in ("impostors", "fmr", "fnmr"))
    if (
        curve is None
        or threshold is None
        or not (isinstance(fmr, int | float) and isinstance(fnmr, int | float))
    ):
        return curve
    return curve.with_rates(threshold, str(on), fmr, fnmr)


_PRACTICALLY = 0.99
_OF_THRESHOLD = "threshold: "
