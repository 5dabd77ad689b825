"""The evaluation report: every figure of METHOD §5 as plain JSON types, a terminal table, and the two files.

Sections: `twin`, `unrelated` and `all` compare the same genuine pairs with one kind of impostor each. A
threshold of null means that no observed score is high enough: every pair is rejected.
"""

import json
import math
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twin_dcal.errors import MetricError
from twin_dcal.files import write_text

from . import metrics
from .metrics import MIN_ERRORS, SortedScores, sort_scores
from .scores import PairScores, Scores

SCHEMA_VERSION = 1
FMR_LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)
HEADLINE_FMR = 1e-4
SECTIONS = ("twin", "unrelated", "all")

Figures = dict[str, Any]


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold to store with a checkpoint: how it was chosen and what it gives on the scores it came from.

    `fmr` and `fnmr` are shares in [0, 1]; `on` names the impostors: "twin", "unrelated" or "all".
    """

    threshold: float
    metric: str
    fmr: float
    fnmr: float
    num_genuine: int
    num_impostors: int
    on: str
    warning: str | None


def choose_threshold(scores: PairScores, metric: str) -> ThresholdChoice:
    """The threshold that is best by `metric`: "eer", "accuracy", "f1", or "far=1e-3" for a requested FMR.

    Chosen on twin impostors if there are any, else on all; "far=" on unrelated impostors if there are any,
    else on all. Use validation scores, never those of the test set. MetricError for another metric, for
    scores that carry no figure, and where only "reject every pair" meets the request.
    """
    far = _requested_far(metric)
    preferred = "twin" if far is None else "unrelated"
    on = preferred if _impostors_of(scores, preferred).size else "all"
    ordered = sort_scores(scores.genuine, _impostors_of(scores, on))
    warning = None
    if far is not None:
        point = metrics.operating_point(ordered, far)
        threshold, warning = point.threshold, point.warning
    elif metric == "eer":
        threshold = metrics.eer(ordered).threshold
    else:
        best = metrics.best_accuracy if metric == "accuracy" else metrics.best_f1
        threshold = best(ordered).threshold
    if math.isinf(threshold):
        raise MetricError(
            f"threshold by '{metric}': on {ordered.num_impostors} {on} impostors only rejecting every pair "
            "meets it. Choose by 'eer', or train further."
        )
    at = metrics.error_rates_at(ordered, threshold)
    return ThresholdChoice(threshold, metric, at.fmr, at.fnmr, at.num_genuine, at.num_impostors, on, warning)


def evaluation_figures(
    scores: PairScores, threshold: float | None = None, threshold_source: str | None = None
) -> Figures:
    """Every figure of an evaluation, in plain JSON types.

    Args: threshold: the decision threshold stored with the model; None takes the EER threshold of these
        scores (twin impostors if there are any), optimistic and said so; threshold_source: where it is from.
    Returns: `schema_version, threshold, threshold_source`, the sections `twin, unrelated, all` (null where
        there are no such impostors, the reason in `notes`), `headline`, `warnings`, `notes`, and flat keys of
        earlier versions (`roc_auc`, `eer`, … on all impostors). Rates are shares in [0, 1]. MetricError as in
        `sort_scores`.
    """
    warnings = []
    if threshold is None:
        choice = choose_threshold(scores, "eer")
        threshold = choice.threshold
        threshold_source = f"EER on the {choice.on} impostors of these very scores"
        warnings.append("No stored threshold: accuracies use the EER threshold of these scores (optimistic).")
    ordered = _sorted_sections(scores)
    sections = {name: _section(ordered[name], threshold) if name in ordered else None for name in SECTIONS}
    headline = _headline(ordered)
    for name, section in sections.items():
        warnings += _section_warnings(name, section) if section else []
    warnings += headline["warnings"] if headline else []
    return {
        "schema_version": SCHEMA_VERSION,
        "threshold": _finite(threshold),
        "threshold_source": threshold_source,
        **sections,
        "headline": headline,
        "warnings": warnings,
        "notes": _notes(scores, ordered),
        **_flat_keys(sections, ordered["all"]),
    }


def format_table(figures: Figures) -> str:
    """The figures for a terminal, at most 100 columns wide: table, headline, warnings and notes.

    A dash stands for a rate that the number of pairs cannot support, or a section without impostors.
    """
    levels = [f"{level:.0e}".replace("e-0", "e-") for level in FMR_LEVELS]
    head = ["impostors", "pairs", "EER %", "AUC", "acc %", "best acc %", *(f"TAR@{x}" for x in levels)]
    rows = [head, *(_table_row(name, figures[name]) for name in SECTIONS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    threshold = "none (no pair accepted)" if figures["threshold"] is None else f"{figures['threshold']:.4f}"
    lines += ["", f"{figures['all']['num_genuine']:,} genuine pairs."]
    lines.append(f"acc: at threshold {threshold} (from: {figures['threshold_source'] or 'not stated'}).")
    lines.append("TAR@x: share of genuine pairs accepted (%) where the false match rate is at most x.")
    if figures["headline"]:
        lines += ["", figures["headline"]["sentence"]]
    lines += [f"Warning: {warning}" for warning in figures["warnings"]]
    lines += [f"Note: {note}" for note in figures["notes"]]
    return "\n".join(_wrapped(lines)) + "\n"


def write_report(figures: Figures, folder: str | Path) -> tuple[Path, Path]:
    """Write evaluation_report.json and evaluation_summary.txt; (their paths).

    Each file appears whole or not at all, readable by its owner only. The folder is made if missing.
    """
    home = Path(folder)
    text = json.dumps(figures, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    report, summary = home / "evaluation_report.json", home / "evaluation_summary.txt"
    write_text(report, text)
    write_text(summary, format_table(figures))
    return report, summary


def _requested_far(metric: str) -> float | None:
    """The rate behind "far=", None for the other known metrics."""
    if metric in ("eer", "accuracy", "f1"):
        return None
    name, _, value = metric.partition("=")
    try:
        if name != "far":
            raise ValueError(name)
        return float(value)
    except ValueError:
        raise MetricError(
            f"threshold metric '{metric}' is unknown. Use eer, accuracy, f1, or a rate such as far=1e-3."
        ) from None


def _impostors_of(scores: PairScores, section: str) -> Scores:
    if section == "all":
        return scores.impostors
    return scores.twin if section == "twin" else scores.unrelated


def _sorted_sections(scores: PairScores) -> dict[str, SortedScores]:
    """The sorted scores of each section that has impostors; "all" always."""
    ordered = {}
    for name in SECTIONS:
        impostors = _impostors_of(scores, name)
        if impostors.size or name == "all":
            try:
                ordered[name] = sort_scores(scores.genuine, impostors)
            except MetricError as error:
                raise MetricError(f"section '{name}': {error}") from error
    return ordered


def _notes(scores: PairScores, ordered: dict[str, SortedScores]) -> list[str]:
    """Why a part of the report is null."""
    notes = [f"{name}: there are no {name} impostor pairs." for name in SECTIONS if name not in ordered]
    if len(ordered) < len(SECTIONS):
        notes.append("headline: it needs both twin and unrelated impostor pairs.")
    if scores.other.size:
        notes.append(f"{scores.other.size:,} impostor pairs have no family information; only 'all' has them.")
    return notes


def _section(ordered: SortedScores, threshold: float) -> Figures:
    equal, best = metrics.eer(ordered), metrics.best_accuracy(ordered)
    at = metrics.error_rates_at(ordered, threshold)
    counted = {key: value for key, value in asdict(at).items() if key != "threshold"}
    return {
        "num_genuine": ordered.num_genuine,
        "num_impostors": ordered.num_impostors,
        "eer": equal.eer,
        "eer_threshold": equal.threshold,
        "roc_auc": metrics.auc(ordered),
        "best_accuracy": best.value,
        "best_accuracy_threshold": _finite(best.threshold),
        "accuracy": at.accuracy,
        "confusion": {**counted, "fmr": at.fmr, "fnmr": at.fnmr, "f1": at.f1},
        "tar_at_far": [_point(ordered, level) for level in FMR_LEVELS],
    }


def _point(ordered: SortedScores, level: float) -> Figures:
    point = asdict(metrics.operating_point(ordered, level))
    return {**point, "threshold": _finite(point["threshold"])}


def _section_warnings(name: str, section: Figures) -> list[str]:
    """One line for the rates without enough pairs, one for those with fewer than 30 errors behind them."""
    points = section["tar_at_far"]
    missing = [f"{point['fmr_requested']:g}" for point in points if not point["supported"]]
    few = [
        f"{point['fmr_requested']:g}"
        for point in points
        if point["supported"] and min(point["num_false_matches"], point["num_false_non_matches"]) < MIN_ERRORS
    ]
    lines = []
    if missing:
        count = f"{section['num_impostors']:,} impostor pairs"
        lines.append(f"{name}: {count} are too few for FMR {', '.join(missing)}.")
    if few:
        lines.append(f"{name}: fewer than {MIN_ERRORS} errors behind the rates at FMR {', '.join(few)}.")
    return lines


def _headline(ordered: dict[str, SortedScores]) -> Figures | None:
    """Twin FMR and FNMR at the threshold that gives FMR 1e-4 on unrelated people (NIST's twins figure).

    With fewer than 10,000 unrelated pairs the smallest rate they support takes its place (`fmr_used`).
    """
    if not {"twin", "unrelated"} <= ordered.keys():
        return None
    used = max(HEADLINE_FMR, 1 / ordered["unrelated"].num_impostors)
    point = metrics.operating_point(ordered["unrelated"], used)
    twin = metrics.error_rates_at(ordered["twin"], point.threshold)
    sentence = (
        f"At the threshold that gives FMR {point.fmr_achieved:.2g} on unrelated people (asked: {used:.2g}), "
        f"{twin.fmr:.2%} of twin pairs match falsely and {twin.fnmr:.2%} of genuine pairs are missed."
    )
    warnings = []
    if used > HEADLINE_FMR:
        warnings.append(
            f"headline: {point.num_impostors:,} unrelated pairs are too few for FMR {HEADLINE_FMR:g}; "
            f"it uses {used:.2g}, the smallest rate they support."
        )
    if min(twin.num_false_matches, twin.num_false_non_matches, point.num_false_matches) < MIN_ERRORS:
        warnings.append(
            f"headline: only {point.num_false_matches} unrelated and {twin.num_false_matches} twin false "
            f"matches and {twin.num_false_non_matches} false non-matches behind it (rule of {MIN_ERRORS})."
        )
    return {
        "fmr_requested": HEADLINE_FMR,
        "fmr_used": used,
        "fmr_achieved": point.fmr_achieved,
        "threshold": _finite(point.threshold),
        "twin_fmr": twin.fmr,
        "fnmr": twin.fnmr,
        "num_unrelated": point.num_impostors,
        "num_twin": twin.num_impostors,
        "num_genuine": twin.num_genuine,
        "num_twin_false_matches": twin.num_false_matches,
        "num_false_non_matches": twin.num_false_non_matches,
        "sentence": sentence,
        "warnings": warnings,
    }


def _flat_keys(sections: Figures, ordered: SortedScores) -> Figures:
    """The keys that readers of earlier reports know; on all impostors unless the name says otherwise.

    twin_* compare genuine with twin impostors, regular_* with unrelated ones, at the decision threshold.
    """
    everyone, twin, unrelated = (sections[name] for name in ("all", "twin", "unrelated"))
    tar = {point["fmr_requested"]: point["tar"] for point in everyone["tar_at_far"]}
    return {
        "roc_auc": everyone["roc_auc"],
        "eer": everyone["eer"],
        "eer_threshold": everyone["eer_threshold"],
        **{f"tar_at_far_{level:g}": tar[level] for level in (0.001, 0.01, 0.1)},
        "pr_auc": metrics.pr_auc(ordered),
        "average_precision": metrics.average_precision(ordered),
        "best_f1": metrics.best_f1(ordered).value,
        "twin_accuracy": twin and twin["accuracy"],
        "twin_f1": twin and twin["confusion"]["f1"],
        "regular_accuracy": unrelated and unrelated["accuracy"],
    }


def _finite(threshold: float) -> float | None:
    return threshold if math.isfinite(threshold) else None


def _table_row(name: str, section: Figures | None) -> list[str]:
    if section is None:
        return [name, "0", *["-"] * (4 + len(FMR_LEVELS))]
    return [
        name,
        f"{section['num_impostors']:,}",
        f"{100 * section['eer']:.2f}",
        f"{section['roc_auc']:.4f}",
        f"{100 * section['accuracy']:.2f}",
        f"{100 * section['best_accuracy']:.2f}",
        *(f"{100 * point['tar']:.2f}" if point["supported"] else "-" for point in section["tar_at_far"]),
    ]


def _wrapped(lines: list[str]) -> list[str]:
    return [part for line in lines for part in (textwrap.wrap(line, 100) or [""])]
