"""DET curves of several systems over each other, a panel for each kind of impostor, as files for a paper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.result import Figures
from twin_dcal.files import replacing

from .curves import MIN_ERRORS, Rates, Scale, between, deviate_scale, probit
from .layout import thin
from .rendering import FORMATS, render
from .theme import KIND_NAMES, LIGHT, drawing
from .wording import shortened, shown

PLOTS_FOLDER = "visualizations"
PANELS = ("twin", "unrelated")
PANEL_POINTS = 190
"""About how long an axis of one panel is."""
_COLOURS = tuple(LIGHT[name] for name in ("unrelated", "twin", "genuine", "one", "two", "other", "all"))
_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_NAME_LETTERS = 64
_LOWEST_RATE = 1e-6
_USUAL_FMR = 1e-3
_LEGEND_COLUMNS_UP_TO = 16  # letters of the longest name


@dataclass(frozen=True, eq=False)
class Overlaid:
    """A system, or several runs of it, under one name.

    runs: of each run the sections as in comparison.json: section → `eer`, `num_impostors`, `curve` with `fmr`, `fnmr`.
    """

    name: str
    runs: tuple[Mapping[str, Figures], ...]


def systems_of(comparison: Figures) -> list[Overlaid]:
    """The runs of a comparison, each on its own."""
    return [Overlaid(run["name"], (run["sections"],)) for run in comparison["runs"]]


def write_comparison_plot(
    systems: Sequence[Overlaid],
    folder: str | Path,
    *,
    name: str = "comparison_det",
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write the curves as `visualizations/<name>.png`, `.pdf` and `.svg`; their paths, in the order of `formats`.

    Files appear whole or not at all. ConfigError for an unknown format.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown:
        raise ConfigError(f"plot format '{unknown[0]}' is unknown. Use any of {', '.join(FORMATS)}.")
    with drawing(name):
        figure = comparison_figure(systems)
    paths = []
    for form in formats:
        path = Path(folder) / PLOTS_FOLDER / f"{name}.{form}"
        with replacing(path) as file:
            file.write(render(figure, name, form))
        paths.append(path)
    return paths


def comparison_figure(systems: Sequence[Overlaid]) -> Figure:
    """A panel for twin and one for unrelated impostors; one for all where no system has either.

    The curve of several runs is their mean FNMR at each FMR (vertical averaging; Fawcett, An introduction to ROC
    analysis, Pattern Recognition Letters 27, 2006), with the runs themselves faint beside it. Curves are thin where
    fewer than 30 false matches stand behind them.
    """
    present = {section for system in systems for run in system.runs for section in run}
    panels = [name for name in PANELS if name in present] or ["all"]
    columns = 3 if max(len(system.name) for system in systems) <= _LEGEND_COLUMNS_UP_TO else 1
    legend_rows = math.ceil(len(systems) / columns)
    figure = Figure((3.6 * len(panels) + 0.2, 3.7 + 0.19 * legend_rows), layout="constrained")
    for axes, section in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, section, systems)
        title = KIND_NAMES.get(section, "all impostors")
        axes.set_title(f"{title}: FNMR, %", loc="left", color=LIGHT["ink"])
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.7)
        for colour, dashes in _styles(len(systems))
    ]
    legend = figure.legend(
        handles,
        ["name"] * len(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=3,
    )
    for text, system in zip(legend.get_texts(), systems, strict=True):
        text.set_parse_math(False)  # names may be anybody's, and may begin with an underscore
        text.set_text(shortened(shown(system.name), _NAME_LETTERS))
    return figure


def _styles(number: int) -> list[tuple[str, Any]]:
    return [(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]) for index in range(number)]


def _panel(axes: Axes, section: str, systems: Sequence[Overlaid]) -> None:
    parts = [run[section] for system in systems for run in system.runs if section in run]
    highest = 0.99 if max(_fnmr_at(part, _USUAL_FMR) for part in parts) > 0.6 else 0.6
    across = deviate_scale(_lowest_fmr(parts), highest, PANEL_POINTS)
    up = deviate_scale(_lowest_fnmr(parts), highest, PANEL_POINTS)
    axes.set(xlim=across.limits(), ylim=up.limits(), xlabel="False match rate (FMR), %")
    axes.set_xticks(across.forward(np.array(across.ticks)), across.tick_names)
    axes.set_yticks(up.forward(np.array(up.ticks)), up.tick_names)
    axes.grid(visible=True)
    diagonal = probit(np.array([max(across.low, up.low), highest]))
    axes.plot(diagonal, diagonal, color=LIGHT["frame"], linewidth=0.8)
    for system, (colour, dashes) in reversed([*zip(systems, _styles(len(systems)), strict=True)]):
        runs = [run[section] for run in system.runs if section in run]
        if len(runs) > 1:
            for run in runs:
                _line(axes, [run], across, up, color=colour, linestyle=dashes, linewidth=0.6, alpha=0.45)
        if runs:
            _line(axes, runs, across, up, color=colour, linestyle=dashes, linewidth=1.7)


def _line(
    axes: Axes, runs: Sequence[Figures], across: Scale, up: Scale, *, linewidth: float, **style: Any
) -> None:
    """The mean curve of some runs, thinner up to the point where 30 false matches stand behind it."""
    count = min(run["num_impostors"] for run in runs)
    fmr, fnmr = mean_curve(runs, max(across.low, min(1 / count, across.high)), across.high)
    x, y = across.forward(fmr), up.forward(np.clip(fnmr, up.low / 10, 1 - 1e-6))
    kept = thin(x, y)
    x, y = x[kept], y[kept]
    firm = across.forward(np.array([min(MIN_ERRORS / count, across.high)]))[0]
    joint = float(np.interp(firm, x, y))
    before, after = x < firm, x > firm
    axes.plot([*x[before], firm], [*y[before], joint], linewidth=min(linewidth, 0.8), **style)
    axes.plot([firm, *x[after]], [joint, *y[after]], linewidth=linewidth, **style)


def mean_curve(runs: Sequence[Figures], start: float, end: float) -> tuple[Rates, Rates]:
    """FMRs between two rates, and the mean FNMR of the runs at each, which for one run is its own curve."""
    curves = [
        between(start, end, *(np.array(run["curve"][axis], np.float64) for axis in ("fmr", "fnmr")))
        for run in runs
    ]
    if len(curves) == 1:
        return curves[0]
    rates = np.unique(np.concatenate([fmr for fmr, _ in curves]))
    return rates, np.mean([np.interp(rates, fmr, fnmr) for fmr, fnmr in curves], axis=0)


def _fnmr_at(part: Figures, rate: float) -> float:
    """FNMR at an FMR, or at the lowest that the comparisons support."""
    _, fnmr = mean_curve([part], max(rate, min(1 / part["num_impostors"], 0.5)), 1.0)
    return float(fnmr[0])


def _lowest_fmr(parts: Sequence[Figures]) -> float:
    """The smallest rate that any curve supports, down to half a decade and at most 0.1."""
    half_decades = math.floor(-2 * math.log10(max(part["num_impostors"] for part in parts)) + 1e-9)
    return max(_LOWEST_RATE, math.pow(10, min(-2, half_decades) / 2))


def _lowest_fnmr(parts: Sequence[Figures]) -> float:
    rates = [rate for part in parts for rate in part["curve"]["fnmr"] if rate > 0]
    return max(_LOWEST_RATE, 10.0 ** min(-2, math.floor(math.log10(min(rates, default=0.01)) + 1e-9)))
