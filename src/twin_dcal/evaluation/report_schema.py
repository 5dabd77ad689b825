"""The figures of an evaluation: every one of docs/metrics.md, with its interval, as plain JSON types.

Sections: `twin`, `unrelated` and `all` compare the same genuine pairs with one kind of impostor each. A threshold of
null means that no observed score is high enough: every pair is rejected. The schema is documented in docs/metrics.md.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from twin_dcal.files import write_text
from twin_dcal.metrics import costs, error_rates
from twin_dcal.metrics.error_rates import MIN_ERRORS
from twin_dcal.metrics.intervals import Interval, Intervals
from twin_dcal.metrics.pair_stream import SECTIONS, CountedPairs
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.score_counts import CountedScores
from twin_dcal.metrics.thresholds import choose_threshold, counted
from twin_dcal.plural import plural

from .result import Figures
from .table import format_table

SCHEMA_VERSION = 2
FMR_LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)
HEADLINE_FMR = 1e-4


def evaluation_figures(
    scores: PairScores | CountedPairs,
    threshold: float | None = None,
    threshold_source: str | None = None,
    intervals: Intervals | None = None,
) -> Figures:
    """Every figure of an evaluation, in plain JSON types.

    Args: threshold: the decision threshold stored with the model; None takes the EER threshold of these
        scores (twin impostors if there are any), optimistic and said so; threshold_source: where it is from;
        intervals: those of the same pairs and threshold.
    Returns: `schema_version, threshold, threshold_source`, the sections `twin, unrelated, all` (null where
        there are no such impostors, the reason in `notes`), `headline`, `intervals`, `warnings`, `notes`, and flat keys
        of earlier versions (`roc_auc`, `eer`, … on all impostors). Rates are shares in [0, 1]. MetricError as in
        `sort_scores`.
    """
    pairs = counted(scores)
    warnings = []
    if threshold is None:
        choice = choose_threshold(pairs, "eer")
        threshold = choice.threshold
        threshold_source = f"EER on the {choice.on} impostors of these very scores"
        warnings.append("No stored threshold: accuracies use the EER threshold of these scores (optimistic).")
    ordered = {name: pairs.section(name) for name in SECTIONS if name == "all" or pairs.has(name)}
    sections = {
        name: _section(ordered[name], threshold, _of_section(intervals, name)) if name in ordered else None
        for name in SECTIONS
    }
    headline = _headline(ordered, intervals)
    warnings += _warnings(sections, headline)
    return {
        "schema_version": SCHEMA_VERSION,
        "threshold": _finite(threshold),
        "threshold_source": threshold_source,
        **sections,
        "headline": headline,
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


def headline_fmr(num_unrelated: int) -> float:
    """1e-4, or the smallest rate that so many unrelated pairs support."""
    return max(HEADLINE_FMR, 1 / num_unrelated)


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


def _ends(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    """name -> [low, high], null for an end that is not a finite number."""
    return {name: [_finite(each.low), _finite(each.high)] for name, each in intervals.items()}


def _notes(pairs: CountedPairs, ordered: Mapping[str, CountedScores]) -> list[str]:
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


def _section(ordered: CountedScores, threshold: float, intervals: Mapping[str, Interval]) -> Figures:
    equal, accuracy, f1 = (
        error_rates.eer(ordered),
        error_rates.best_accuracy(ordered),
        error_rates.best_f1(ordered),
    )
    at = error_rates.error_rates_at(ordered, threshold)
    counts = {key: value for key, value in asdict(at).items() if key != "threshold"}
    points = [_point(ordered, level) for level in FMR_LEVELS]
    return {
        "num_genuine": ordered.num_genuine,
        "num_impostors": ordered.num_impostors,
        "eer": equal.eer,
        "eer_threshold": equal.threshold,
        "roc_auc": error_rates.auc(ordered),
        "best_accuracy": accuracy.value,
        "best_accuracy_threshold": _finite(accuracy.threshold),
        "accuracy": at.accuracy,
        "fmr": at.fmr,
        "fnmr": at.fnmr,
        "tar": at.tar,
        "f1": at.f1,
        "best_f1": f1.value,
        "best_f1_threshold": _finite(f1.threshold),
        "d_prime": _finite(error_rates.d_prime(ordered)),
        "pr_auc": error_rates.pr_auc(ordered),
        "average_precision": error_rates.average_precision(ordered),
        "confusion": {**counts, "fmr": at.fmr, "fnmr": at.fnmr, "f1": at.f1},
        "tar_at_far": points,
        **{f"tar_at_far_{point['fmr_requested']:g}": point["tar"] for point in points},
        **{f"fnmr_at_fmr_{point['fmr_requested']:g}": point["fnmr"] for point in points},
        **_costs(ordered, at),
        "intervals": _ends(intervals),
    }


def _costs(ordered: CountedScores, at: error_rates.Confusion) -> Figures:
    """EER of the convex hull, minCllr, and detection costs: the lowest, and at the decision threshold."""
    hull = costs.convex_hull(ordered)
    told: Figures = {"eer_hull": costs.hull_eer(hull), "min_cllr": costs.min_cllr(hull)}
    for prior in costs.TARGET_PRIORS:
        told[f"min_dcf_{prior:g}"] = costs.min_detection_cost(hull, prior).cost
        told[f"dcf_{prior:g}"] = costs.detection_cost(at, prior)
    return told


def _point(ordered: CountedScores, level: float) -> Figures:
    point = asdict(error_rates.operating_point(ordered, level))
    return {**point, "threshold": _finite(point["threshold"])}


def _warnings(sections: Mapping[str, Figures | None], headline: Figures | None) -> list[str]:
    lines = []
    if sections["all"] and sections["all"]["roc_auc"] < 0.5:
        lines.append(
            "Genuine pairs score lower than impostors: worse than chance, or distances, whose sign is to be changed."
        )
    for name, section in sections.items():
        lines += _section_warnings(name, section) if section else []
    return lines + (headline["warnings"] if headline else [])


def _section_warnings(name: str, section: Figures) -> list[str]:
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
        count = _too_few(section["num_impostors"], "impostor")
        lines.append(f"{name}: {count} for FMR {', '.join(missing)}.")
    if few:
        lines.append(f"{name}: fewer than {MIN_ERRORS} errors behind the rates at FMR {', '.join(few)}.")
    behind = error_rates.few_errors(at["num_false_matches"], at["num_false_non_matches"])
    if behind:
        lines.append(f"{name}: only {behind} at the threshold (rule of {MIN_ERRORS}).")
    return lines


def _headline(ordered: Mapping[str, CountedScores], intervals: Intervals | None) -> Figures | None:
    """Twin FMR and FNMR at the threshold that gives FMR 1e-4 on unrelated people (NIST's twins figure).

    With fewer than 10,000 unrelated pairs the smallest rate they support takes its place (`fmr_used`).
    """
    if not {"twin", "unrelated"} <= ordered.keys():
        return None
    used = headline_fmr(ordered["unrelated"].num_impostors)
    point = error_rates.operating_point(ordered["unrelated"], used)
    twin = error_rates.error_rates_at(ordered["twin"], point.threshold)
    ends = _ends(intervals.headline if intervals else {})
    told = {name: _between(ends.get(name)) for name in ("twin_fmr", "fnmr")}
    sentence = (
        f"{_at_the_threshold(point)} "
        f"{twin.fmr:.2%}{told['twin_fmr']} of twin pairs match falsely and {twin.fnmr:.2%}{told['fnmr']} of genuine "
        "pairs are missed."
    )
    return {
        "fmr_requested": HEADLINE_FMR,
        "fmr_used": used,
        "fmr_achieved": point.fmr_achieved,
        "threshold": _finite(point.threshold),
        "twin_fmr": twin.fmr,
        "fnmr": twin.fnmr,
        "intervals": {name: ends[name] for name in ("twin_fmr", "fnmr") if name in ends},
        "num_unrelated": point.num_impostors,
        "num_twin": twin.num_impostors,
        "num_genuine": twin.num_genuine,
        "num_unrelated_false_matches": point.num_false_matches,
        "num_twin_false_matches": twin.num_false_matches,
        "num_false_non_matches": twin.num_false_non_matches,
        "sentence": sentence,
        "warnings": _headline_warnings(used, point, twin),
    }


def _at_the_threshold(point: error_rates.OperatingPoint) -> str:
    """How the headline begins: what was asked, or why something else is told."""
    if point.fmr_requested <= HEADLINE_FMR:
        return (
            f"At the threshold that gives FMR {point.fmr_achieved:.2g} on unrelated people (asked: "
            f"{point.fmr_requested:.2g}),"
        )
    few = _too_few(point.num_impostors, "unrelated")
    return (
        f"{few} to tell of FMR {HEADLINE_FMR:g}: at the threshold that gives FMR {point.fmr_achieved:.2g} on them, "
        f"where one false match is {point.fmr_requested:.2g},"
    )


def _too_few(number: int, what: str) -> str:
    return plural(number, f"{what} pair is too few", f"{what} pairs are too few")


def _headline_warnings(
    used: float, point: error_rates.OperatingPoint, twin: error_rates.Confusion
) -> list[str]:
    warnings = []
    if used > HEADLINE_FMR:
        warnings.append(
            f"headline: {_too_few(point.num_impostors, 'unrelated')} for FMR {HEADLINE_FMR:g}; "
            f"it uses {used:.2g}, the smallest rate they support."
        )
    if min(twin.num_false_matches, twin.num_false_non_matches, point.num_false_matches) < MIN_ERRORS:
        warnings.append(
            f"headline: only {point.num_false_matches} unrelated and {twin.num_false_matches} twin false "
            f"matches and {twin.num_false_non_matches} false non-matches behind it (rule of {MIN_ERRORS})."
        )
    return warnings


def _between(ends: list[float | None] | None) -> str:
    low, high = ends or (None, None)
    return "" if low is None or high is None else f" [{low:.2%}, {high:.2%}]"


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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
