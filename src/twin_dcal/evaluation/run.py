"""One evaluation from beginning to end: scores, threshold, figures, files. What `dcal-evaluate` calls."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError
from twin_dcal.locking import locked
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.intervals import over_families
from twin_dcal.metrics.pair_stream import count_pairs
from twin_dcal.metrics.pairs import normalize_rows
from twin_dcal.metrics.templates import TemplateDecision, calibrate_templates
from twin_dcal.metrics.thresholds import ThresholdChoice, choose_threshold, impostor_words
from twin_dcal.plural import plural

from .earlier import make_room
from .embedding_files import write_embeddings
from .evaluate import Decision, EvaluationOptions, evaluate, intervals_of, weighted
from .identification import Template, identification_figures, search
from .inputs import refuse_shared_families
from .metadata import metadata_of
from .protocol import Comparisons, fingerprint
from .reliability import CalibrationChoice, choose_calibration
from .report_schema import evaluation_figures, write_figures
from .result import Evaluation, Figures
from .score_files import write_scores
from .systems import ModelSystem, Scored, System, decision_to
from .tables import write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """A threshold and calibration chosen on validation pairs, and the error rates there at any score; templates: the
    same for several photographs of each, where it is known whose the images are."""

    choice: ThresholdChoice
    calibration: CalibrationChoice
    error_curve: ErrorCurve
    data: str
    templates: tuple[TemplateDecision, ...] = ()

    def decision(self) -> Decision:
        on = f"{self.choice.metric} on {impostor_words(self.choice.on)} of {self.data}"
        warnings = () if self.choice.warning is None else (self.choice.warning,)
        origin = self.choice.origin(self.data)
        return Decision(self.choice.threshold, on, self.calibration.calibration, warnings, origin)


@dataclass(frozen=True)
class Outputs:
    """Where results go. scores, embeddings: files; None for no scores and for embeddings.npz in the folder."""

    folder: str
    scores: str | None = None
    embeddings: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """An evaluation, what was compared and written, and what the threshold was tuned on."""

    evaluation: Evaluation
    report: Path
    tuning: Tuning | None
    comparisons: Comparisons
    features: Mapping[str, Figures] = field(default_factory=dict)


def run(
    system: System, data: str | None, effort: EvaluationOptions, outputs: Outputs, *,
    given: Decision | None = None, tune: tuple[str | None, str] | None = None, compare_features: bool = False,
    speed: bool = False, metadata: str | None = None,
) -> Outcome:  # fmt: skip
    """Evaluate a system and write its figures, tables and embeddings.

    Args: data: what to evaluate on; given: a threshold to use instead of the stored one; tune: validation data and
    metric, to choose threshold and calibration there; metadata: a table of people and images instead of the one beside
    the data. Another evaluation that the folder holds is moved
    to a folder of its own. ConfigError while another process evaluates into the folder.
    """
    with writing(outputs.folder):
        return _run(system, data, effort, outputs, given, tune, compare_features, speed, metadata)


def writing(folder: str | Path) -> AbstractContextManager[None]:
    """The lock of a folder of results. ConfigError while another process holds it."""
    return locked(Path(folder) / ".evaluation.lock", f"evaluating into {folder}")


def _run(
    system: System, data: str | None, effort: EvaluationOptions, outputs: Outputs, given: Decision | None,
    tune: tuple[str | None, str] | None, compare_features: bool, speed: bool, metadata: str | None,
) -> Outcome:  # fmt: skip
    test = system.scored(data, "test")
    tuning = None if tune is None else tune_on(system, test, *tune, effort)
    decision = given or (tuning.decision() if tuning else system.stored())
    data_summary = {"test_data": test.comparisons.source, "compared_sha256": fingerprint(test.comparisons)}
    about = {"twin_dcal": __version__, **system.about(), **data_summary}
    known, told = metadata_of(
        test.comparisons, metadata, (system.files.data_set, data, test.comparisons.source)
    )
    comparisons = replace(test.comparisons, warnings=(*test.comparisons.warnings, *told))
    evaluation = evaluate(test.source, comparisons, decision, effort, test.vectors, about, known)
    features = _features(system, test, effort) if compare_features else {}
    more: dict[str, Any] = {} if tuning is None else {"tuning": _told(tuning)}
    if features:
        more["features"] = features
    if effort.identification is not None:
        more["identification"] = _identified(test, effort.identification, evaluation.figures["threshold"])
    if speed:
        more["speed"] = _speed(system, test)
    evaluation = replace(evaluation, figures={**evaluation.figures, **more})
    report = _write(evaluation, test, decision, about, outputs)
    return Outcome(evaluation, report, tuning, test.comparisons, features)


def embed_only(
    system: System, data: str | None, validation: str | None, *, compare_features: bool = False
) -> None:
    """What the processes other than rank 0 do of `run`: their part of the embedding, in the same order.

    Args: data: None where only the threshold is chosen.
    """
    if data is None:
        system.scored(validation, "val")
        return
    test = system.scored(data, "test")
    if validation is not None:
        system.scored(validation, "val")
    if compare_features and isinstance(system, ModelSystem):
        system.scored_apart(test)


def tune_on(
    system: System, test: Scored | None, data: str | None, metric: str, effort: EvaluationOptions
) -> Tuning:
    """Choose threshold and calibration on validation pairs. ManifestError where they share a family with the test set.

    How high the FMR may be at the threshold is by the interval over families, where there is one.

    Args: test: None where nothing is tested.
    """
    if data is None:
        raise ConfigError("--optimize_threshold needs --val_data (never the test data)")
    validation = system.scored(data, "val")
    if test is not None:
        if validation.comparisons.people is None or test.comparisons.people is None:
            logger.warning(
                "%s: whether it shares people with the test set cannot be checked; name the data set", data
            )
        refuse_shared_families(test.comparisons, validation.comparisons)
    counts = count_pairs(validation.source)
    choice = choose_threshold(counts, metric)
    choice = over_families(choice, intervals_of(validation.source, counts, choice.threshold, effort))
    on = "twin" if counts.has("twin") else "all"
    told = _described(validation)
    calibration = choose_calibration(validation.source, on, told, effort.seed)
    logger.info("calibration: %s", calibration.reason)
    curve = ErrorCurve.of(counts, told, choice.threshold)
    return Tuning(choice, calibration, curve, told, _templates(validation, told, metric, effort.seed))


def _templates(validation: Scored, told: str, metric: str, seed: int) -> tuple[TemplateDecision, ...]:
    comparisons = validation.comparisons
    if validation.vectors is None or comparisons.people is None or comparisons.families is None:
        return ()
    vectors = normalize_rows(validation.vectors)
    return calibrate_templates(
        vectors,
        comparisons.people,
        comparisons.families,
        told,
        fusion=validation.fusion,
        metric=metric,
        seed=seed,
    )


def _described(validation: Scored) -> str:
    comparisons = validation.comparisons
    people = (
        ""
        if comparisons.people is None
        else f"{plural(len(comparisons.known_people()), 'person', 'people')}, "
    )
    return f"{comparisons.source}: {people}{plural(len(comparisons.names), 'image')}"


def save_tuning(system: System, tuning: Tuning) -> None:
    """Write threshold, calibration, error curve and those of templates into the model's own checkpoint; all else of it
    stays."""
    from twin_dcal.checkpoint import store_decision

    assert isinstance(system, ModelSystem)
    threshold = Threshold(tuning.choice.threshold, tuning.choice.origin(tuning.data))
    store_decision(
        system.path, threshold, tuning.calibration.calibration, tuning.error_curve, tuning.templates,
        expected_sha256=system.loaded.sha256,
    )  # fmt: skip


def _told(tuning: Tuning) -> Figures:
    return {
        "data": tuning.data,
        **tuning.choice.origin(tuning.data),
        "calibration": {"on": tuning.calibration.on, "reason": tuning.calibration.reason},
    }


def _features(system: System, test: Scored, effort: EvaluationOptions) -> dict[str, Figures]:
    """Figures of each feature of a model on the same pairs."""
    if not isinstance(system, ModelSystem):
        raise ConfigError("--compare_features needs --model: embeddings and scores are of one feature")
    told: dict[str, Figures] = {}
    for feature, scored in system.scored_apart(test).items():
        pairs = count_pairs(scored.source)
        source, counts = weighted(scored.source, pairs, effort.weights)
        intervals = intervals_of(source, counts, None, effort)
        figures = evaluation_figures(counts, None, None, intervals, pairs=pairs)
        told[feature] = {name: figures[name] for name in ("twin", "unrelated", "all")}
    return told


def _identified(test: Scored, template: Template, threshold: float | None) -> Figures:
    if test.vectors is None or test.comparisons.people is None:
        raise ConfigError("--identification needs embeddings, and whose images they are")
    families = test.comparisons.people if test.comparisons.families is None else test.comparisons.families
    found = search(test.vectors, test.comparisons.people, families, template, test.fusion)
    return identification_figures(found, template, threshold)


def _speed(system: System, test: Scored) -> Figures:
    if not isinstance(system, ModelSystem):
        raise ConfigError("--benchmark_speed needs --model")
    from .speed import measure_speed

    return measure_speed(system.loaded, test.comparisons.names, system.feature_type, system.batch_size)


def _write(
    evaluation: Evaluation, test: Scored, decision: Decision, about: Mapping[str, Any], outputs: Outputs
) -> Path:
    if outputs.embeddings is not None and test.vectors is None:
        raise ConfigError("--save_embeddings: scores have no embeddings")
    folder = Path(outputs.folder)
    make_room(folder, about)
    report, _ = write_figures(evaluation.figures, folder)
    write_tables(evaluation, folder)
    if test.vectors is not None:
        path = Path(outputs.embeddings) if outputs.embeddings else folder / "embeddings.npz"
        fusion = None if test.fusion is None else test.fusion.to_dict()
        write_embeddings(
            path,
            test.comparisons,
            test.vectors,
            {**about, "decision": decision_to(decision), "fusion": fusion},
        )
    if outputs.scores is not None:
        write_scores(outputs.scores, test.source, test.comparisons)
    return report
