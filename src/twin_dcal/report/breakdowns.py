"""Error rates by metadata, as tables and as a plot: a row for each cell, a dot and its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twin_dcal.evaluation.result import Evaluation, Figures
from twin_dcal.evaluation.table import hidden_lines

from .content import Cell
from .theme import KIND_NAMES, LIGHT
from .wording import count, percent, percent_interval, shortened, shown

WIDTH_INCHES = 4.9
ROW_INCHES, PANEL_INCHES = 0.19, 0.42
MAX_CELLS = 12
"""Of a panel with more cells, those with the most pairs are drawn; the table has them all."""


@dataclass(frozen=True)
class BreakdownRow:
    cell: str
    rate: Cell
    errors: str
    people: str
    families: str


@dataclass(frozen=True)
class BreakdownRows:
    """Error rates of one kind of pair by one thing known of it. `rest`: what is not shown, in words."""

    name: str
    kind: str
    rows: Sequence[BreakdownRow]
    rest: str


def breakdown_rows(figures: Figures) -> list[BreakdownRows]:
    """A table for each breakdown by metadata, in the order of the figures."""
    words = {"genuine": "genuine pairs", "twin": "twin pairs", "unrelated": "unrelated pairs"}
    return [
        BreakdownRows(
            f"{told['rate'].upper()} of {words[told['kind']]} by {told['by']}",
            told["kind"],
            [
                BreakdownRow(
                    each["cell"],
                    Cell(percent(each["value"]), percent_interval(each["interval"])),
                    f"{count(each['num_errors'])} of {count(each['num_pairs'])}",
                    count(each["num_people"]),
                    count(each["num_families"]),
                )
                for each in told["cells"]
            ],
            " ".join(hidden_lines(told, figures)),
        )
        for told in figures.get("breakdowns") or ()
    ]


def breakdown_figure(evaluation: Evaluation) -> Figure | None:
    """A panel for each breakdown with at least two cells to compare; None where there is none."""
    panels = [
        (told, sorted(told["cells"], key=lambda cell: -cell["num_pairs"])[:MAX_CELLS])
        for told in evaluation.figures.get("breakdowns") or ()
        if len(told["cells"]) > 1
    ]
    if not panels:
        return None
    panels = [(told, [cell for cell in told["cells"] if cell in largest]) for told, largest in panels]
    sizes = [len(cells) for _, cells in panels]
    height = 0.5 + ROW_INCHES * sum(sizes) + PANEL_INCHES * len(panels)
    figure = Figure((WIDTH_INCHES, height), layout="constrained")
    rows: list[Axes] = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, height_ratios=[size + 1 for size in sizes]
    )[:, 0].tolist()
    lowest = _lowest([cell for _, cells in panels for cell in cells])
    for axes, (told, cells) in zip(rows, panels, strict=True):
        _panel(axes, told, cells, lowest)
    decades = [10.0**exponent for exponent in range(math.floor(math.log10(lowest)), 1)]
    rows[-1].set_xticks(decades, [f"{100 * decade:g}" for decade in decades])
    rows[-1].set_xlabel("error rate, %")
    return figure


def _lowest(cells: Sequence[dict[str, Any]]) -> float:
    """Where the axis begins: a decade at or below every rate and lower end above 0, at most 0.01."""
    rates = [cell["value"] for cell in cells] + [(cell["interval"] or [0])[0] for cell in cells]
    least = min((rate for rate in rates if rate > 0), default=0.01)
    return max(10.0 ** min(-2, math.floor(math.log10(least))), 1e-6)


def _panel(axes: Axes, told: dict[str, Any], cells: Sequence[dict[str, Any]], lowest: float) -> None:
    colour = LIGHT[told["kind"]]
    for line, cell in enumerate(cells):
        if cell["interval"] is not None:
            low, high = (max(end, lowest) for end in cell["interval"])
            axes.plot([low, high], [line, line], color=colour, linewidth=1.4, alpha=0.6)
        at_floor = cell["value"] < lowest
        marker = "<" if at_floor else "o"
        axes.plot([max(cell["value"], lowest)], [line], marker, color=colour, markersize=4.5, clip_on=False)
    axes.set(xscale="log", xlim=(lowest, 1), ylim=(len(cells) - 0.4, -0.6))
    axes.set_yticks(range(len(cells)), [shortened(shown(cell["cell"]), 24) for cell in cells])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.minorticks_off()
    axes.grid(visible=True, axis="x")
    title = f"{told['rate'].upper()}, {KIND_NAMES[told['kind']]}, by {told['by']}"
    axes.set_title(title, loc="left", color=LIGHT["ink"], parse_math=False)
