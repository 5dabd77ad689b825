"""The tables of a comparison as Markdown, for a terminal, a file and the page."""

from collections.abc import Sequence

from twin_dcal.metrics.pair_stream import SECTIONS
from twin_dcal.names import one_a_line
from twin_dcal.plural import plural

from .result import Figures
from .table import p_value_cell


def markdown(comparison: Figures) -> str:
    """The comparison as a Markdown table: a row per section and run."""
    head = ["impostors", "run", "EER %", "AUC", "ΔEER (points)", "p", "ΔAUC", "p"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    differences = {each["run"]: each for each in comparison["differences"]}
    for section in SECTIONS:
        for run in comparison["runs"]:
            if section in run["sections"]:
                here = run["sections"][section]
                cells = [
                    section,
                    run["name"],
                    _with_ends(here, "eer", 100, 2),
                    _with_ends(here, "roc_auc", 1, 4),
                ]
                cells += _difference_cells(differences.get(run["name"]), section)
                lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_rate_table(comparison), *disagreement_lines(comparison.get("disagreement", []))]
    lines += _explained(comparison)
    for run in comparison["runs"]:
        for text in run["warnings"]:
            lines += ["", f"Warning: {run['name']}: {text}"]
    return one_a_line(lines) + "\n"


_RIGHT = ("both_right", "only_first_right", "only_other_right", "both_wrong")


def disagreement_lines(found: Sequence[Figures]) -> list[str]:
    """The counts as a Markdown table."""
    head = ["pairs", "run", "both right", "only the first run right", "only this run right", "both wrong"]
    rows = [
        [kind, each["run"], *(f"{counts[key]:,}" for key in _RIGHT)]
        for each in found
        for kind, counts in each["kinds"].items()
    ]
    if not rows:
        return []
    told = (
        f"Decisions on the same pairs, each run at its own threshold where FMR is at most {found[0]['fmr_asked']:g}, "
        f"against {found[0]['against']}:"
    )
    lines = [head, ["---"] * len(head), *rows]
    return [told, "", *("| " + " | ".join(row) + " |" for row in lines), ""]


def _with_ends(section: Figures, name: str, scale: float, digits: int) -> str:
    value, ends = f"{scale * section[name]:.{digits}f}", section["intervals"].get(name)
    return value if ends is None else f"{value} [{scale * ends[0]:.{digits}f}, {scale * ends[1]:.{digits}f}]"


def _difference_cells(found: Figures | None, section: str) -> list[str]:
    figures = found["sections"].get(section, {}) if found else {}
    cells = []
    for name, scale, digits in (("eer", 100, 2), ("roc_auc", 1, 4)):
        if name not in figures:
            cells += ["", ""]
            continue
        each = figures[name]
        told = f"{scale * each['difference']:+.{digits}f}"
        if "low" not in each:
            cells += [told, ""]
            continue
        low, high = (f"{scale * each[end]:+.{digits}f}" for end in ("low", "high"))
        cells += [f"{told} [{low}, {high}]", p_value_cell(each["p_value_holm"])]
    return cells


def _rate_table(comparison: Figures) -> list[str]:
    """The headline and FNMR at given FMRs as a Markdown table: a row per figure and run."""
    head = ["figure", "run", "%", "Δ (points)", "p"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    differences = {each["run"]: each["sections"] for each in comparison["differences"]}
    for section in (*SECTIONS, "headline"):
        names = sorted({name for run in comparison["runs"] for name in part_of(run, section)}, reverse=True)
        for name in names:
            if name.startswith("fnmr_at"):
                told = f"{section}: FNMR where FMR is at most {name.rpartition('_')[2]}"
            elif section == "headline":
                told = f"headline: {'twin FMR' if name == 'twin_fmr' else 'FNMR'}"
            else:
                continue
            for run in comparison["runs"]:
                if name not in part_of(run, section):
                    continue
                ends = part_of(run, section).get("intervals", {})
                value = _with_ends({**part_of(run, section), "intervals": ends}, name, 100, 2)
                each = differences.get(run["name"], {}).get(section, {}).get(name)
                lines.append("| " + " | ".join([told, run["name"], value, *_rate_cells(each)]) + " |")
    return [*lines, ""] if len(lines) > 2 else []


def _rate_cells(each: Figures | None) -> list[str]:
    if each is None:
        return ["", ""]
    told = f"{100 * each['difference']:+.2f}"
    if "low" not in each:
        return [told, ""]
    return [
        f"{told} [{100 * each['low']:+.2f}, {100 * each['high']:+.2f}]",
        p_value_cell(each["p_value_holm"]),
    ]


def _corrected(number: int) -> str:
    if number < 2:
        return ""
    return f"; p-values are corrected for {number} comparisons of a figure (Holm), intervals are not"


def _explained(comparison: Figures) -> list[str]:
    differences = comparison["differences"]
    first = differences[0]
    better = f"Negative ΔEER and positive ΔAUC are better than {first['against']}."
    if not first["num_replicates"]:
        return [f"Differences are to {first['against']}, without intervals. {better}"]
    refused = {f"{each['run']}: {why}" for each in differences for why in each["refusals"].values()}
    return [
        f"Differences are to {first['against']}: {first['level']:.0%} interval and two-sided p-value of a paired "
        f"jackknife over {plural(first['num_families'], 'family', 'families')}{_corrected(len(differences))}. {better} "
        "Each system has its own threshold; the headline's is where FMR is at most 0.0001 on unrelated people, or one "
        "false match where there are fewer pairs.",
        *sorted(refused),
    ]


def part_of(run: Figures, section: str) -> Figures:
    """The figures of a section of a run, or its headline."""
    found: Figures = run["headline"] if section == "headline" else run["sections"].get(section, {})
    return found
