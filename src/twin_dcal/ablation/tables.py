"""The table of an ablation, in Markdown and in LaTeX (booktabs): one set of cells, two ways to write them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twin_dcal.evaluation.result import Figures
from twin_dcal.evaluation.table import p_value_cell
from twin_dcal.metrics.intervals import MIN_FAMILIES
from twin_dcal.names import one_a_line

DASH = "–"
SHOWN = ("twin", "unrelated")
_SCALES = {"eer": (100.0, 2), "roc_auc": (1.0, 4)}
HEAD = ("impostors", "branches", "EER %", "ΔEER (points)", "p", "AUC", "ΔAUC", "p")
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "Δ": r"$\Delta$",
    "−": "$-$", "–": "--",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A variant against one kind of impostor: cells under `HEAD`, without the first."""

    section: str
    cells: tuple[str, ...]


def rows(summary: Figures) -> list[Row]:
    """Twin impostors first; all impostors where there are neither twin nor unrelated ones."""
    present = summary["variants"][0]["sections"]
    sections = [name for name in SHOWN if name in present] or ["all"]
    differences = {each["variant"]: each["sections"] for each in summary["differences"]}
    return [
        Row(
            section,
            (_name(told), *_cells(told["sections"][section], differences.get(told["variant"], {}).get(section))),
        )
        for section in sections
        for told in summary["variants"]
    ]  # fmt: skip


def markdown(summary: Figures) -> str:
    """The table, and what it says in words."""
    lines = [_line(HEAD), "|" + "---|" * len(HEAD)]
    lines += [_line((row.section, *row.cells)) for row in rows(summary)]
    warnings = (line for text in summary.get("warnings", ()) for line in ("", f"Warning: {text}."))
    return one_a_line([*lines, "", explained(summary), *warnings]) + "\n"


def latex(summary: Figures) -> str:
    r"""A `table` environment for a paper; its preamble needs \usepackage{booktabs} and nothing else."""
    columns = [escaped(name) for name in HEAD[1:]]
    lines = [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escaped(explained(summary))}}}",
        r"\label{tab:ablation}",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        " & ".join(columns) + r" \\",
    ]
    section = None
    for row in rows(summary):
        if row.section != section:
            section = row.section
            heading = f"{section.capitalize()} impostors"
            lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escaped(heading)}}}}} \\"]
        lines.append(" & ".join(escaped(cell) for cell in row.cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def explained(summary: Figures) -> str:
    """What the table shows, with its numbers of seeds, pairs, and families; one paragraph."""
    return " ".join(_sentences(summary))


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def _sentences(summary: Figures) -> Iterator[str]:
    seeds, told = summary["seeds"], summary["intervals"]
    sections = summary["variants"][0]["sections"]
    shown = [name for name in SHOWN if name in sections] or ["all"]
    pairs = [f"{sections[name]['num_impostors']:,} {'impostor' if name == 'all' else name}" for name in shown]
    genuine = next(iter(sections.values()))["num_genuine"]
    over = f"mean ± standard deviation over seeds {', '.join(map(str, seeds))}"
    figures = over if len(seeds) > 1 else f"one seed ({seeds[0]}), hence no standard deviation"
    *most, last = [f"{genuine:,} genuine", *pairs]
    noun = "pair" if last.startswith("1 ") else "pairs"
    yield f"Test split: {', '.join(most)} and {last} {noun}; {figures}."
    if not summary["differences"]:
        return
    against = summary["differences"][0]["against"].upper()
    mean = "of the means over seeds " if len(seeds) > 1 else ""
    yield f"Differences {mean}are to {against}; negative ΔEER and positive ΔAUC are better."
    if told["refusal"]:
        yield f"No intervals: {told['refusal']}."
        return
    yield (
        f"In brackets the {told['level']:.0%} interval, p two-sided, of a paired jackknife over {told['num_families']} "
        f"families (the same are left out of every run), not corrected for the "
        "number of comparisons: how the difference of these models would vary with other families, not with other "
        "seeds."
    )
    told_of = [each["sections"][name]["eer"] for each in summary["differences"] for name in each["sections"]]
    if any(each["low"] is None for each in told_of):
        yield f"Without an interval: fewer than {MIN_FAMILIES} families have such pairs."


def _name(told: Figures) -> str:
    name: str = told["variant"]
    return name.upper()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(section: Figures, difference: Figures | None) -> Iterator[str]:
    for figure, (scale, digits) in _SCALES.items():
        mean, sd = section[figure]["mean"], section[figure]["sd"]
        yield f"{scale * mean:.{digits}f} ± {DASH if sd is None else f'{scale * sd:.{digits}f}'}"
        if difference is None:
            yield from (DASH, DASH)
            continue
        each = difference[figure]
        value = _signed(scale * each["difference"], digits)
        if each["low"] is None:
            yield from (value, DASH)
            continue
        ends = ", ".join(_signed(scale * each[end], digits) for end in ("low", "high"))
        yield f"{value} [{ends}]"
        yield p_value_cell(each["p_value"])


def _signed(value: float, digits: int) -> str:
    """+1.20, −0.35, and 0.00 for what rounds to nothing."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]
