"""The figures of an evaluation as text for a terminal, at most 100 columns wide."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from twin_dcal.metrics.pair_stream import SECTIONS
from twin_dcal.names import one_a_line
from twin_dcal.percent import percent
from twin_dcal.plural import plural

from .behind import sentence
from .identification import identification_lines
from .result import Figures

WIDTH = 100


def format_table(figures: Figures) -> str:
    """Table, headline, folds, warnings and notes; ends with a line break.

    A dash stands for a rate that the number of pairs cannot support, or a section without impostors.
    """
    head = ["impostors", "pairs", "EER %", "AUC", "acc %", "best acc %"]
    lines = aligned([head, *(_row(name, figures[name]) for name in SECTIONS)])
    levels = [f"{point['fmr_requested']:.0e}".replace("e-0", "e-") for point in figures["all"]["tar_at_far"]]
    head = ["impostors", *(f"TAR@{level} %" for level in levels)]
    lines += ["", *aligned([head, *(_tar_row(name, figures[name], len(levels)) for name in SECTIONS)])]
    threshold = "none (no pair accepted)" if figures["threshold"] is None else f"{figures['threshold']:.4f}"
    lines += ["", f"{plural(figures['all']['num_genuine'], 'genuine pair')}."]
    lines.append(f"acc: at threshold {threshold} (from: {figures['threshold_source'] or 'not stated'}).")
    if chosen := about_tuning(figures.get("tuning")):
        lines.append(chosen)
    if carried := figures.get("achieved_fmr"):
        lines.append(carried["sentence"])
    if figures.get("weights") == "people":
        lines.append("Rates are means over people: every person counts the same in each kind of pair.")
    lines.append("TAR@x: share of genuine pairs accepted where the false match rate is at most x.")
    lines += _about_intervals(figures["intervals"])
    lines += failure_lines(figures.get("failures"))
    lines += ["", figures["sentence"]]
    if told := sentence(figures["behind"]):
        lines += ["", told]
    lines += breakdown_lines(figures)
    if figures.get("calibration"):
        told = figures["calibration"]
        fitted = f"Calibration ({told['method']}, on {told['on']} impostors)"
        lines.append(f"{fitted}: ECE {told['ece']:.3f}, Brier {told['brier']:.3f}.")
    lines += fold_lines(figures.get("folds"))
    lines += identification_lines(figures.get("identification"))
    lines += [f"Warning: {warning}" for warning in figures["warnings"]]
    lines += [f"Note: {note}" for note in figures["notes"]]
    return one_a_line(wrapped(lines)) + "\n"


def summary_line(figures: Figures, report: str | Path) -> str:
    """`twin AUC 0.87 [0.80, 0.93] · unrelated AUC 0.99 [0.98, 1.00] · report: PATH`; "all" where there is no other."""
    named = [name for name in ("twin", "unrelated") if figures[name]] or ["all"]
    parts = [f"{name} AUC {_figure(figures[name], 'roc_auc', 1, 2)}" for name in named]
    return " · ".join([*parts, f"report: {report}"])


def features_table(features: Mapping[str, Figures]) -> str:
    """Features side by side: a row per feature and section, EER and AUC with intervals."""
    rows = [["feature", "impostors", "EER %", "AUC", "best %"]]
    for feature, sections in features.items():
        for name in SECTIONS:
            if sections[name]:
                best = f"{100 * sections[name]['best_accuracy']:.2f}"
                equal, area = _figure(sections[name], "eer", 100, 2), _figure(sections[name], "roc_auc", 1, 4)
                rows.append([feature, name, equal, area, best])
    return one_a_line(aligned(rows)) + "\n"


def fold_lines(folds: Figures | None) -> list[str]:
    """K-fold figures: mean ± standard deviation over the folds; ± standard error where they are those of a list."""
    if not folds:
        return []
    rows = [["impostors", "pairs used", "accuracy %", "FMR %", "FNMR %", "threshold"]]
    listed = folds["by"] == "list"
    spread, told = ("se", "standard error") if listed else ("sd", "standard deviation")
    for name in SECTIONS:
        section = folds["sections"].get(name)
        if section:
            percent = [
                f"{100 * section[key]['mean']:.2f} ± {100 * section[key][spread]:.2f}" for key in _RATES
            ]
            at = section["threshold"]
            used = f"{sum(section['num_impostors']):,} of {section['of_impostors']:,}"
            rows.append([name, used, *percent, f"{at['mean']:.4f} ± {at[spread]:.4f}"])
    whose = (
        f"The list's own {folds['num_folds']} folds" if listed else f"{folds['num_folds']} folds by family"
    )
    lines = ["", f"{whose}, threshold by {folds['metric']} on the others (mean ± {told}):", *aligned(rows)]
    if not listed:
        lines.append(
            "Used are impostor pairs of people of one fold; a threshold would have seen one of the others."
        )
    return lines


def failure_lines(failures: Figures | None) -> list[str]:
    """What failed, and the error rates that count it; nothing where nothing failed."""
    if not failures or not failures["num_failed_pairs"]:
        return []
    people = failures["fte"]
    enrolled = "" if people is None else f", to enrol (people without any image left) {people:.2%}"
    rates = [
        f"{name} GFAR {told['gfar']:.2%}, GFRR {told['gfrr']:.2%}"
        for name in SECTIONS
        if (told := failures[name])
    ]
    return [
        "",
        f"Failures to acquire: {failures['num_failed_images']:,} of {plural(failures['num_images'], 'image')} "
        f"({failures['fta']:.2%}){enrolled}. With the {plural(failures['num_failed_pairs'], 'pair')} that could not be "
        f"scored counted as rejected, at the threshold: {'; '.join(rates)}.",
    ]


def breakdown_lines(figures: Figures) -> list[str]:
    """Error rates by what is known of people and images, zygosity first; cells with too few are counted."""
    lines = []
    for told in figures.get("breakdowns") or ():
        rate = f"{told['rate'].upper()} % of {told['kind']} pairs"
        rows = [[told["by"], rate, "pairs", "people"]]
        rows += [
            [shortened_cell(cell["cell"]), _figure_with_ends(cell["value"], cell["interval"]),
             f"{cell['num_pairs']:,}", f"{cell['num_people']:,}"]
            for cell in told["cells"]
        ]  # fmt: skip
        lines += [
            "",
            *(aligned(rows) if told["cells"] else [f"{rate} by {told['by']}:"]),
            *hidden_lines(told, figures),
        ]
    return lines


def hidden_lines(told: Figures, figures: Figures) -> list[str]:
    """What a breakdown does not show: cells with too few people or pairs, and pairs of which nothing is known."""
    lines = []
    if told["num_hidden_cells"]:
        few = figures["metadata"]
        cells = plural(told["num_hidden_cells"], "cell")
        lines.append(
            f"Not shown: {cells} of fewer than {few['min_people']} people or {few['min_pairs']} pairs, "
            f"{plural(told['num_hidden_pairs'], 'pair')} together."
        )
    if told["num_unknown_pairs"]:
        lines.append(f"Not known of {plural(told['num_unknown_pairs'], 'pair')}.")
    return lines


def shortened_cell(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"


def _figure_with_ends(value: float, ends: Sequence[float] | None) -> str:
    if ends is None:
        return f"{100 * value:.2f}"
    return f"{100 * value:.2f} [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]"


_RATES = ("accuracy", "fmr", "fnmr")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, columns flush right, two blanks between them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in (textwrap.wrap(line, WIDTH) or [""])]


def _row(name: str, section: Figures | None) -> list[str]:
    if section is None:
        return [name, "0", *["-"] * 4]
    return [
        name,
        f"{section['num_impostors']:,}",
        _figure(section, "eer", 100, 2),
        _figure(section, "roc_auc", 1, 4),
        f"{100 * section['accuracy']:.2f}",
        f"{100 * section['best_accuracy']:.2f}",
    ]


def _tar_row(name: str, section: Figures | None, num_levels: int) -> list[str]:
    if section is None:
        return [name, *["-"] * num_levels]
    points = section["tar_at_far"]
    names = [f"tar_at_far_{point['fmr_requested']:g}" if point["supported"] else None for point in points]
    return [name, *(_figure(section, key, 100, 1) if key else "-" for key in names)]


def _figure(section: Figures, name: str, scale: float, digits: int) -> str:
    """A figure, with its interval where there is one."""
    ends = section["intervals"].get(name)
    value = f"{scale * section[name]:.{digits}f}"
    if ends is None or None in ends:
        return value
    return f"{value} [{scale * ends[0]:.{digits}f}, {scale * ends[1]:.{digits}f}]"


def _about_intervals(intervals: Figures | None) -> list[str]:
    if intervals is None:
        return []
    return [
        f"[low, high]: {intervals['level']:.0%} interval by leaving out each of "
        f"{plural(intervals['num_families'], 'family', 'families')}."
    ]


def about_tuning(told: Figures | None) -> str:
    """What the validation pairs say of the threshold that was chosen on them; "" where none was."""
    if not told:
        return ""
    by = "over families" if told["fmr_upper_by"] == "families" else "as if no two pairs shared a person"
    need = f"; it needs {plural(told['pairs_needed'], 'pair')} or more" if told.get("pairs_needed") else ""
    return (
        f"Threshold by {told['criterion']} on {plural(told['num_impostors'], told['impostors'] + ' impostor pair')} of "
        f"validation{need}: FMR {percent(told['fmr'])} there, up to {percent(told['fmr_upper'])} (95 %, {by})."
    )


def p_value_cell(p_value: float) -> str:
    """Three digits of a p-value."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
