"""Everything a report shows, from scored pairs: figures, intervals, curves, histograms, tables, the worst pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.calibration import Calibration
from twin_dcal.metrics.costs import cllr
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.metrics.intervals import HEADLINE_FMR, Intervals, family_intervals
from twin_dcal.metrics.pair_stream import SECTIONS, CountedPairs, PairSource, count_pairs
from twin_dcal.metrics.pairs import PairKind, normalize_rows
from twin_dcal.metrics.person_weights import PersonWeighted
from twin_dcal.metrics.score_counts import CountedScores
from twin_dcal.metrics.thresholds import choose_threshold, requested_far

from .achieved import achieved_fmr
from .behind import behind
from .breakdown import MIN_PAIRS, MIN_PEOPLE, break_down
from .error_analysis import ErrorAnalysis, analyze_errors
from .failures import failure_figures
from .folds import cross_validate, cross_validate_listed
from .identification import Template
from .metadata import Metadata
from .protocol import Comparisons
from .reliability import reliability
from .report_schema import evaluation_figures
from .result import Curve, Evaluation, Figures, Histograms, Points, Reliability
from .watched import WatchedPairs

Weights = Literal["pairs", "people"]

NUM_BINS = 200
MAX_POINTS = 6_000
"""Embeddings handed to a projection plot; of more every k-th."""


@dataclass(frozen=True)
class Decision:
    """How pairs are decided: a threshold and calibration, and where they are from; None where there is none. origin:
    plain values of what the threshold was chosen on, and the error rates it had there; may be empty."""

    threshold: float | None = None
    source: str | None = None
    calibration: Calibration | None = None
    warnings: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(cls, threshold: Threshold | None, calibration: Calibration | None) -> Self:
        """As a model file says."""
        if threshold is None:
            return cls()
        origin = threshold.origin
        warnings = (str(origin["warning"]),) if origin.get("warning") else ()
        return cls(threshold.value, threshold.chosen_by(), calibration, warnings, origin)


@dataclass(frozen=True)
class EvaluationOptions:
    """How much to compute.

    num_replicates: 0 leaves out intervals, any other number makes them; num_folds: 0 leaves out k-fold figures, unless
    the pairs come with folds; fold_metric: None chooses thresholds by eer, on folds of a list by accuracy;
    identification: how people are enrolled in a gallery that is searched, None for no search; weights: whether every
    pair counts the same, or every person (`person_weights`).
    """

    num_replicates: int = 1000
    seed: int = 0
    num_folds: int = 0
    fold_metric: str | None = None
    num_worst: int = 24
    identification: Template | None = None
    weights: Weights = "pairs"

    def __post_init__(self) -> None:
        for name in ("num_replicates", "seed", "num_folds", "num_worst"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:  # True is the number 1
                raise ConfigError(f"{name} {value!r}: give a whole number, 0 or more")
        if self.fold_metric is not None:
            requested_far(self.fold_metric)
        if self.weights == "people" and self.num_folds:
            raise ConfigError("--weights people and --folds exclude each other: folds count every pair alike")


def evaluate(
    source: PairSource,
    comparisons: Comparisons,
    decision: Decision,
    effort: EvaluationOptions,
    vectors: NDArray[np.float32] | None = None,
    about: Mapping[str, Any] | None = None,
    metadata: Metadata | None = None,
) -> Evaluation:
    """Evaluate scored pairs. MetricError for scores that carry no figure.

    Args: vectors (N, D): for the projection plot; about: plain values to store with the figures (model, data);
    metadata: what is known of the images, for error rates by it.
    """
    source = WatchedPairs(source)
    pairs = count_pairs(source)
    weighing, counts = weighted(source, pairs, effort.weights)
    threshold = decision.threshold
    if threshold is None:
        threshold = choose_threshold(counts, "eer").threshold
    intervals = intervals_of(weighing, counts, threshold, effort)
    given = None if decision.threshold is None else threshold
    found = analyze_errors(source, comparisons, threshold, effort.num_worst)
    figures = evaluation_figures(counts, given, decision.source, intervals, behind(found.people), pairs=pairs)
    figures = _in_order(figures, comparisons, effort, about or {})
    figures["achieved_fmr"] = achieved_fmr(decision.origin, figures, intervals)
    figures["failures"] = failure_figures(comparisons.failures, figures)
    figures["warnings"] += [f"threshold: {text}" for text in decision.warnings]
    told, figures["calibration"] = _calibrated(decision.calibration, pairs)
    listed = _own_folds(comparisons)
    if effort.num_folds or listed is not None:
        figures["folds"] = _folds(source, listed, effort)
        figures["notes"] += figures["folds"].pop("notes")
    figures["animals"] = _animals(found)
    if metadata is not None:
        figures["metadata"] = _about_metadata(metadata)
        kinds = [kind for kind in PairKind if pairs.of(kind).size]
        figures["breakdowns"] = break_down(source, metadata, threshold, kinds)
        figures["notes"] += metadata.notes
    return Evaluation(
        figures=figures,
        curves={name: _curve(counts.section(name), intervals, name) for name in SECTIONS if counts.has(name)},
        histograms=_histograms(pairs),
        reliability=told,
        false_matches=found.false_matches,
        false_non_matches=found.false_non_matches,
        families=found.families,
        people=found.people,
        points=_points(comparisons, vectors),
    )


def _own_folds(comparisons: Comparisons) -> NDArray[np.int64] | None:
    """The folds of a list; None where it has none, or all pairs are in one."""
    folds = None if comparisons.pairs is None else comparisons.pairs.folds
    return None if folds is None or np.unique(folds).size < 2 else folds


def _folds(source: PairSource, listed: NDArray[np.int64] | None, effort: EvaluationOptions) -> Figures:
    """The list's own folds where it has some, else families dealt into folds. MetricError where both are asked for."""
    if listed is None:
        return cross_validate(source, effort.num_folds, effort.fold_metric or "eer", effort.seed)
    num_folds = np.unique(listed).size
    if effort.num_folds not in (0, num_folds):
        raise MetricError(
            f"{effort.num_folds} folds: the list has {num_folds} of its own, which are used; leave out --folds."
        )
    return cross_validate_listed(source, listed, effort.fold_metric or "accuracy")


def _calibrated(
    calibration: Calibration | None, counts: CountedPairs
) -> tuple[Reliability | None, Figures | None]:
    """Reliability on twin impostors, on all where there are none, and its figures."""
    if calibration is None:
        return None, None
    on = "twin" if counts.has("twin") else "all"
    told = reliability(calibration, counts.section(on))
    return told, {
        "method": told.method, "on": on, "source": calibration.source, "ece": told.ece,
        "brier": told.brier, "num_bins": int(told.num_pairs.size),
        "cllr": {name: cllr(counts.section(name), calibration) for name in SECTIONS if counts.has(name)},
    }  # fmt: skip


def weighted(source: PairSource, pairs: CountedPairs, weights: Weights) -> tuple[PairSource, CountedPairs]:
    """A source and its counted scores as figures are to be made of them. MetricError where people are to count the
    same and are not known."""
    if weights == "pairs":
        return source, pairs
    weighing = PersonWeighted(source)
    return weighing, count_pairs(weighing)


def intervals_of(
    source: PairSource, counts: CountedPairs, threshold: float | None, effort: EvaluationOptions
) -> Intervals | None:
    """Intervals by leaving out families; None where they are switched off."""
    if not effort.num_replicates:
        return None
    return family_intervals(
        source, counts=counts, threshold=threshold, headline_fmr=HEADLINE_FMR, seed=effort.seed
    )


def _in_order(
    figures: Figures, comparisons: Comparisons, effort: EvaluationOptions, about: Mapping[str, Any]
) -> Figures:
    """The figures with what they are of in front."""
    notes = figures["notes"]
    if not effort.num_replicates:
        notes = [*notes, "no intervals: switched off."]
    warnings = [*figures["warnings"], *comparisons.warnings]
    first = {"schema_version": figures["schema_version"], **about, "protocol": _protocol(comparisons)}
    return {**first, **figures, "notes": notes, "warnings": warnings, "calibration": None, "folds": None}


def _protocol(comparisons: Comparisons) -> Figures:
    known = {"num_people": comparisons.people, "num_families": comparisons.families}
    counts = {name: None if labels is None else int(np.unique(labels).size) for name, labels in known.items()}
    return {**comparisons.protocol, "num_images": len(comparisons.names), **counts}


def _about_metadata(metadata: Metadata) -> Figures:
    return {
        "path": metadata.file,
        "columns": [*metadata.texts, *metadata.numbers],
        "num_images_known": metadata.num_images_known,
        "min_people": MIN_PEOPLE,
        "min_pairs": MIN_PAIRS,
    }


def _animals(found: ErrorAnalysis) -> Figures:
    """Ids of the people who stand out, by animal."""
    return {f"{animal}s" if animal != "wolf" else "wolves": [p.person for p in found.people if p.animal == animal]
            for animal in ("goat", "lamb", "wolf")}  # fmt: skip


def _curve(scores: CountedScores, intervals: Intervals | None, name: str) -> Curve:
    corners = error_rates.roc(scores, corners_only=True)
    band = intervals.bands.get(name) if intervals else None
    nothing = np.empty(0)
    return Curve(
        fmr=corners.fmr,
        fnmr=corners.fnmr,
        band_fmr=nothing if band is None else band.fmr,
        fnmr_low=nothing if band is None else band.fnmr_low,
        fnmr_high=nothing if band is None else band.fnmr_high,
    )


def _histograms(counts: CountedPairs) -> Histograms:
    """Equal bins from the lowest to the highest score; the last holds its upper edge."""
    parts = {kind.name.lower(): counts.of(kind) for kind in PairKind}
    filled = [part for part in parts.values() if part.size]
    low, high = min(part.lowest for part in filled), max(part.highest for part in filled)
    edges = np.linspace(low, high, NUM_BINS + 1)
    edges[0], edges[-1] = low, high
    binned = {}
    for name, part in parts.items():
        below = part.num_below(edges) if part.size else np.zeros(edges.size, np.int64)
        below[-1] = part.size
        binned[name] = np.diff(below).astype(np.int64)
    return Histograms(edges, binned)


def _points(comparisons: Comparisons, vectors: NDArray[np.float32] | None) -> Points | None:
    if vectors is None or comparisons.people is None or comparisons.families is None:
        return None
    every = max(1, -(-len(vectors) // MAX_POINTS))
    unit = normalize_rows(vectors[::every])
    people, families = (labels[::every].tolist() for labels in (comparisons.people, comparisons.families))
    return Points(unit, people, families, [Path(name) for name in comparisons.names[::every]])
