"""The figures of an evaluation: every one of docs/metrics.md, with its interval, as plain JSON types.

Sections: `twin`, `unrelated` and `all` compare the same genuine pairs with one kind of impostor each. A threshold of
null means that no observed score is high enough: every pair is rejected. The schema is documented in docs/metrics.md.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from twin_dcal.files import write_text
from twin_dcal.metrics import costs, error_rates
from twin_dcal.metrics.error_rates import MIN_ERRORS
from twin_dcal.metrics.intervals import FMR_LEVELS, Interval, Intervals
from twin_dcal.metrics.pair_stream import SECTIONS, CountedPairs
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.score_counts import CountedScores
from twin_dcal.metrics.thresholds import choose_threshold, counted, impostor_words
from twin_dcal.plural import plural

from . import behind
from .headline import Section, finite, headline, interval_ends, opening, too_few
from .result import Figures
from .table import format_table

SCHEMA_VERSION = 2


def evaluation_figures(
    scores: PairScores | CountedPairs,
    threshold: float | None = None,
    threshold_source: str | None = None,
    intervals: Intervals | None = None,
    whose: Figures | None = None,
    pairs: CountedPairs | None = None,
) -> Figures:
    """Every figure of an evaluation, in plain JSON types.

    Args: threshold: the decision threshold stored with the model; None takes the EER threshold of these
        scores (twin impostors if there are any), optimistic and said so; threshold_source: where it is from;
        intervals: those of the same pairs and threshold; whose: what `behind` tells of them, None where nobody knows;
        pairs: the same scores without weights, where `scores` are weighted: numbers of pairs and errors are theirs.
    Returns: `schema_version, threshold, threshold_source, sentence, behind`, the sections `twin, unrelated, all` (null
        where there are no such impostors, the reason in `notes`), `headline`, `intervals`, `warnings`, `notes` and flat
        keys of earlier versions (`roc_auc`, `eer`, … on all impostors). Rates are shares in [0, 1]. MetricError as in
        `sort_scores`.
    """
    weighted = counted(scores)
    pairs = pairs or weighted
    weights = "people" if weighted.is_weighted else "pairs"
    warnings = []
    if threshold is None:
        choice = choose_threshold(weighted, "eer")
        threshold = choice.threshold
        threshold_source = f"EER on {impostor_words(choice.on)} of these very scores"
        warnings.append("No stored threshold: accuracies use the EER threshold of these scores (optimistic).")
    present = [name for name in SECTIONS if name == "all" or pairs.has(name)]
    ordered = {name: Section(weighted.section(name), pairs.section(name)) for name in present}
    sections = {
        name: _section(ordered[name], threshold, _of_section(intervals, name)) if name in ordered else None
        for name in SECTIONS
    }
    told = headline(ordered, intervals)
    warnings += behind.doubts(whose, weights) + _warnings(sections, told, whose)
    return {
        "schema_version": SCHEMA_VERSION,
        "threshold": finite(threshold),
        "threshold_source": threshold_source,
        "weights": weights,
        "sentence": opening(finite(threshold), sections, told, weights),
        "behind": whose,
        **sections,
        "headline": told,
        "intervals": _about_intervals(intervals),
        "warnings": warnings,
        "notes": _notes(pairs, ordered) + _refusals(intervals),
        **_flat_keys(sections),
    }


def write_figures(figures: Figures, folder: str | Path) -> tuple[Path, Path]:
    """Write evaluation_report.json and evaluation_summary.txt; (their paths).

    Each file appears whole or not at all, readable by its owner only. The folder is made if missing.
    """
    home = Path(folder)
    text = json.dumps(figures, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    report, summary = home / "evaluation_report.json", home / "evaluation_summary.txt"
    write_text(report, text)
    write_text(summary, format_table(figures))
    return report, summary


def _of_section(intervals: Intervals | None, name: str) -> Mapping[str, Interval]:
    return intervals.figures.get(name, {}) if intervals else {}


def _about_intervals(intervals: Intervals | None) -> Figures | None:
    """How the intervals were made, null where there are none."""
    if intervals is None or "" in intervals.refusals:
        return None
    return {
        "level": intervals.level,
        "method": intervals.method,
        "num_families": intervals.num_families,
        "num_units": intervals.num_units,
        "num_replicates": intervals.num_units,  # one for each unit left out
        "seed": intervals.seed,
    }


def _refusals(intervals: Intervals | None) -> list[str]:
    """Why intervals are missing, one note for the same reason."""
    where_of: dict[str, list[str]] = {}
    for where, reason in (intervals.refusals if intervals else {}).items():
        where_of.setdefault(reason, []).append(where)
    return [
        f"no interval{' for ' + ', '.join(where) if where != [''] else 's'}: {reason}"
        for reason, where in where_of.items()
    ]


def _notes(pairs: CountedPairs, ordered: Mapping[str, Section]) -> list[str]:
    """Why a part of the report is null."""
    notes = [f"{name}: there are no {name} impostor pairs." for name in SECTIONS if name not in ordered]
    if len(ordered) < len(SECTIONS):
        notes.append("headline: it needs both twin and unrelated impostor pairs.")
    if pairs.other.size:
        notes.append(
            f"{plural(pairs.other.size, 'impostor pair has', 'impostor pairs have')} no family information; only "
            "'all' has them."
        )
    return notes


def _section(section: Section, threshold: float, intervals: Mapping[str, Interval]) -> Figures:
    ordered = section.scores
    equal, accuracy, f1 = (
        error_rates.eer(ordered),
        error_rates.best_accuracy(ordered),
        error_rates.best_f1(ordered),
    )
    at = error_rates.error_rates_at(ordered, threshold)
    counts = {key: value for key, value in asdict(section.counts_at(threshold)).items() if key != "threshold"}
    points = [_point(section, level) for level in FMR_LEVELS]
    return {
        "num_genuine": section.pairs.num_genuine,
        "num_impostors": section.pairs.num_impostors,
        "eer": equal.eer,
        "eer_threshold": equal.threshold,
        "roc_auc": error_rates.auc(ordered),
        "best_accuracy": accuracy.value,
        "best_accuracy_threshold": finite(accuracy.threshold),
        "accuracy": at.accuracy,
        "fmr": at.fmr,
        "fnmr": at.fnmr,
        "tar": at.tar,
        "f1": at.f1,
        "best_f1": f1.value,
        "best_f1_threshold": finite(f1.threshold),
        "d_prime": finite(error_rates.d_prime(ordered)),
        "pr_auc": error_rates.pr_auc(ordered),
        "average_precision": error_rates.average_precision(ordered),
        "confusion": {**counts, "fmr": at.fmr, "fnmr": at.fnmr, "f1": at.f1},
        "tar_at_far": points,
        **{f"tar_at_far_{point['fmr_requested']:g}": point["tar"] for point in points},
        **{f"fnmr_at_fmr_{point['fmr_requested']:g}": point["fnmr"] for point in points},
        **_costs(ordered, at),
        "intervals": interval_ends(intervals),
    }


def _costs(ordered: CountedScores, at: error_rates.Confusion) -> Figures:
    """EER of the convex hull, minCllr, and detection costs: the lowest, and at the decision threshold."""
    hull = costs.convex_hull(ordered)
    told: Figures = {"eer_hull": costs.hull_eer(hull), "min_cllr": costs.min_cllr(hull)}
    for prior in costs.TARGET_PRIORS:
        told[f"min_dcf_{prior:g}"] = costs.min_detection_cost(hull, prior).cost
        told[f"dcf_{prior:g}"] = costs.detection_cost(at, prior)
    return told


def _point(section: Section, level: float) -> Figures:
    point = asdict(section.operating_point(level))
    return {**point, "threshold": finite(point["threshold"])}


def _warnings(
    sections: Mapping[str, Figures | None], headline: Figures | None, whose: Figures | None
) -> list[str]:
    lines = []
    if sections["all"] and sections["all"]["roc_auc"] < 0.5:
        lines.append(
            "Genuine pairs score lower than impostors: worse than chance, or distances, whose sign is to be changed."
        )
    for name, section in sections.items():
        lines += _section_warnings(name, section, whose) if section else []
    return lines + (headline["warnings"] if headline else [])


def _section_warnings(name: str, section: Figures, whose: Figures | None) -> list[str]:
    """One line for the rates without enough pairs, one for those with fewer than 30 errors behind them."""
    points, at = section["tar_at_far"], section["confusion"]
    missing = [f"{point['fmr_requested']:g}" for point in points if not point["supported"]]
    few = [
        f"{point['fmr_requested']:g}"
        for point in points
        if point["supported"] and min(point["num_false_matches"], point["num_false_non_matches"]) < MIN_ERRORS
    ]
    lines = []
    if missing:
        count = too_few(section["num_impostors"], "impostor")
        lines.append(f"{name}: {count} for FMR {', '.join(missing)}.")
    if few:
        lines.append(f"{name}: fewer than {MIN_ERRORS} errors behind the rates at FMR {', '.join(few)}.")
    few_at = behind.few_errors(whose, name, at["num_false_matches"], at["num_false_non_matches"])
    if few_at:
        lines.append(f"{name}: only {few_at} at the threshold (rule of {MIN_ERRORS}).")
    return lines


def _flat_keys(sections: Mapping[str, Figures | None]) -> Figures:
    """The keys that readers of earlier reports know; on all impostors unless the name says otherwise.

    twin_* compare genuine with twin impostors, regular_* with unrelated ones, at the decision threshold.
    """
    everyone, twin, unrelated = (sections[name] for name in ("all", "twin", "unrelated"))
    assert everyone is not None
    same = (
        "roc_auc",
        "eer",
        "eer_threshold",
        "tar_at_far_0.001",
        "tar_at_far_0.01",
        "tar_at_far_0.1",
        "pr_auc",
    )
    return {
        **{key: everyone[key] for key in (*same, "average_precision", "best_f1")},
        "twin_accuracy": twin and twin["accuracy"],
        "twin_f1": twin and twin["f1"],
        "regular_accuracy": unrelated and unrelated["accuracy"],
    }
