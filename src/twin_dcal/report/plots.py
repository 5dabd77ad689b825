"""Histograms, reliability, confusion and families. Each function draws one figure from an `Evaluation`, or none."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from twin_dcal.evaluation.result import Evaluation, FamilyErrors, Figures, Histograms
from twin_dcal.plural import plural

from .labels import write_beside
from .theme import KIND_NAMES, LIGHT
from .wording import count, number, percent, shortened, shown

WIDTH_INCHES = 4.9
MAX_BINS = 80
MAX_BARS = 400
_MAX_APART = 80  # bars that still have a gap between them
NUM_NAMED = 3
_NAMED_LETTERS = 44  # what fits over a panel, after "worst of 3,000 families: "


def histogram_figure(evaluation: Evaluation) -> Figure | None:
    """A row for each kind of pair over the same scores; what falls on the wrong side of the threshold is solid."""
    threshold = evaluation.figures.get("threshold")
    bins = _coarser(evaluation.histograms)
    kinds = [kind for kind in KIND_NAMES if kind in bins.counts and bins.counts[kind].any()]
    if not kinds:
        return None
    figure = Figure((WIDTH_INCHES, 0.75 + 1.1 * len(kinds)), layout="constrained")
    rows: list[Axes] = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0].tolist()
    for axes, kind in zip(rows, kinds, strict=True):
        _histogram_row(axes, kind, bins, threshold, evaluation.figures)
        axes.tick_params(bottom=axes is rows[-1])
    rows[-1].set_xlim(bins.edges[0], bins.edges[-1])
    rows[-1].set_xlabel(_score_name(threshold))
    figure.supylabel(f"share of pairs per bin of {bins.edges[1] - bins.edges[0]:.2g}, %", fontsize=8.5)
    return figure


def reliability_figure(evaluation: Evaluation) -> Figure | None:
    """Observed share of genuine pairs over the probability that was promised, and how many pairs each bin holds."""
    told = evaluation.reliability
    if told is None:
        return None
    known = np.isfinite(told.predicted) & np.isfinite(told.observed)
    predicted, observed, pairs = told.predicted[known], told.observed[known], told.num_pairs[known]
    figure = Figure((WIDTH_INCHES, 4.0), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=LIGHT["frame"], linewidth=0.8)
    axes.plot(predicted, observed, "-", color=LIGHT["genuine"], linewidth=1.4)
    share = pairs / max(int(pairs.max(initial=1)), 1)
    axes.scatter(predicted, observed, s=14 + 46 * share, color=LIGHT["genuine"], zorder=3, clip_on=False)
    axes.text(0.02, 0.97, f"ECE {number(told.ece, 3)}\nBrier {number(told.brier, 3)}", va="top",
              transform=axes.transAxes)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.01, 0.2), yticks=np.arange(0, 1.01, 0.2))
    axes.set_title("observed share of genuine pairs", loc="left", color=LIGHT["ink"])
    axes.grid(visible=True)
    width = 0.8 / max(told.predicted.size, 1)
    below.bar(predicted, pairs, width=width, color=LIGHT["genuine"], alpha=0.45)
    below.set_title("pairs in each bin, logarithmic", loc="left", color=LIGHT["ink"])
    _count_axis(below, int(pairs.max(initial=1)))
    below.set_xlabel(f"calibrated probability ({shown(told.method)})", parse_math=False)
    diagonal = np.array([[0.3, 0.3], [1.0, 1.0]])
    corner = np.array([[0.0, 0.84], [0.2, 0.84], [0.0, 0.9], [0.2, 0.9]])
    lines = [diagonal, np.stack([predicted, observed], axis=1), corner]
    write_beside(figure, axes, ["perfect"], [LIGHT["muted"]], [line for line in lines if len(line)])
    return figure


def confusion_figure(evaluation: Evaluation) -> Figure | None:
    """Decisions by kind of pair: a row each, the share as tint, errors framed."""
    rows = list(confusion_rows(evaluation.figures))
    if not rows:
        return None
    figure = Figure((WIDTH_INCHES, 0.85 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for line, (kind, matches, non_matches) in enumerate(rows):
        total = matches + non_matches
        for column, value in enumerate((matches, non_matches)):
            wrong = (kind == "genuine") == (column == 1)
            _cell(axes, column, line, value, total, LIGHT[kind], wrong=wrong)
    axes.set(xlim=(0, 2), ylim=(len(rows), 0), yticks=np.arange(len(rows)) + 0.5, xticks=[0.5, 1.5])
    axes.set_yticklabels([KIND_NAMES[kind].replace(", ", ",\n") for kind, _, _ in rows])
    for label, (kind, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(LIGHT[kind])
    axes.set_xticklabels(["decided: same person", "decided: different"], color=LIGHT["ink"])
    axes.tick_params(length=0, labelbottom=False, labeltop=True)
    axes.spines[:].set_visible(False)
    return figure


def confusion_rows(figures: Figures) -> Iterator[tuple[str, int, int]]:
    """(kind, pairs matched, pairs not matched) at the threshold; impostors of unknown relation are the rest of all."""
    sections = {name: figures.get(name) for name in ("all", "twin", "unrelated")}
    told = {name: section["confusion"] for name, section in sections.items() if section}
    if not told:
        return
    first = next(iter(told.values()))
    yield "genuine", first["num_true_matches"], first["num_false_non_matches"]
    rest = [0, 0]
    for name, sign in (("all", 1), ("twin", -1), ("unrelated", -1)):
        if name in told:
            pair = told[name]["num_false_matches"], told[name]["num_true_non_matches"]
            rest = [total + sign * part for total, part in zip(rest, pair, strict=True)]
            if name != "all":
                yield name, *pair
    if "all" in told and rest[0] + rest[1]:
        yield "other", rest[0], rest[1]


def family_figure(evaluation: Evaluation) -> Figure | None:
    """Families side by side, worst first, once by twin false matches and once by false non-matches."""
    panels = [
        ("twin", "twin false matches by family, % of twin pairs",
         [(family.num_twin_false_matches, family.num_twin, family) for family in evaluation.families]),
        ("genuine", "false non-matches by family, % of genuine pairs",
         [(family.num_false_non_matches, family.num_genuine, family) for family in evaluation.families]),
    ]  # fmt: skip
    filled = [(kind, name, [row for row in rows if row[1]]) for kind, name, rows in panels]
    filled = [panel for panel in filled if panel[2]]
    if not filled:
        return None
    figure = Figure((WIDTH_INCHES, 0.4 + 1.8 * len(filled)), layout="constrained")
    for axes, (kind, name, rows) in zip(
        figure.subplots(len(filled), 1, squeeze=False)[:, 0], filled, strict=True
    ):
        _family_panel(axes, kind, name, rows)
    axes.set_xlabel("families, worst first")
    return figure


def _histogram_row(
    axes: Axes, kind: str, bins: Histograms, threshold: float | None, figures: Figures
) -> None:
    colour, counts = LIGHT[kind], bins.counts[kind]
    shares = 100 * counts / counts.sum()
    axes.stairs(shares, bins.edges, fill=True, color=colour, alpha=0.22, linewidth=0)
    axes.stairs(shares, bins.edges, color=colour, linewidth=1.1)
    told = f"{KIND_NAMES[kind]}: {plural(int(counts.sum()), 'pair')}"
    if threshold is not None:
        low, high = (bins.edges[0], threshold) if kind == "genuine" else (threshold, bins.edges[-1])
        _solid_part(axes, shares, bins.edges, (low, high), colour)
        axes.axvline(threshold, color=LIGHT["ink"], linewidth=0.9)
        wrong = {name: (hits, misses) for name, hits, misses in confusion_rows(figures)}.get(kind)
        if wrong is not None and wrong[0] + wrong[1]:
            share = wrong[1 if kind == "genuine" else 0] / (wrong[0] + wrong[1])
            told += f", {percent(share)} {'below' if kind == 'genuine' else 'at or above'} the threshold"
    axes.set_title(told, loc="left", color=colour)
    axes.set_ylim(0, 1.05 * float(shares.max()))
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="y", nbins=3)
    axes.tick_params(axis="y", length=0)


def _solid_part(
    axes: Axes,
    shares: NDArray[np.float64],
    edges: NDArray[np.float64],
    between: tuple[float, float],
    colour: str,
) -> None:
    """The bins between two scores, cut where a bin lies across."""
    low, high = between
    cut = np.clip(edges, low, high)
    inside = np.diff(cut) > 0
    if inside.any():
        first, last = np.flatnonzero(inside)[[0, -1]]
        axes.stairs(shares[first : last + 1], cut[first : last + 2], fill=True, color=colour, linewidth=0)


def _coarser(histograms: Histograms) -> Histograms:
    """Only scores that occur, in at most `MAX_BINS` bins: neighbours are added up."""
    total = np.sum(list(histograms.counts.values()), axis=0) if histograms.counts else np.zeros(0)
    filled = np.flatnonzero(total)
    if not filled.size:
        return Histograms(histograms.edges, {})
    together = math.ceil((filled[-1] - filled[0] + 1) / MAX_BINS)
    start = max(int(filled[0]) - together, 0)
    stop = min(int(filled[-1]) + 1 + together, total.size)
    stop = min(start + math.ceil((stop - start) / together) * together, total.size)
    cuts = np.arange(start, stop, together)
    counts = {kind: np.add.reduceat(part[:stop], cuts) for kind, part in histograms.counts.items()}
    return Histograms(histograms.edges[np.append(cuts, stop)], counts)


def _score_name(threshold: float | None) -> str:
    if threshold is None:
        return "score (no threshold: every pair is rejected)"
    return f"score; line: threshold {number(threshold, 4)}"


def _count_axis(axes: Axes, largest: int) -> None:
    decades = max(math.ceil(math.log10(largest)), 1)
    axes.set(yscale="log", ylim=(0.8, 1.5 * 10.0**decades))
    shown_decades = sorted({0, (decades + 1) // 2, decades})
    axes.set_yticks(
        [10.0**decade for decade in shown_decades], [count(10**decade) for decade in shown_decades]
    )
    axes.minorticks_off()


def _cell(axes: Axes, column: int, line: int, value: int, total: int, colour: str, *, wrong: bool) -> None:
    share = value / total if total else math.nan
    tint = 0.05 + 0.3 * (share if total else 0)
    axes.add_patch(
        Rectangle((column + 0.02, line + 0.05), 0.96, 0.9, facecolor=colour, alpha=tint, linewidth=0)
    )
    if wrong:
        axes.add_patch(
            Rectangle((column + 0.02, line + 0.05), 0.96, 0.9, fill=False, edgecolor=colour, linewidth=1.2)
        )
    axes.text(column + 0.5, line + 0.38, percent(share), ha="center", va="center", fontsize=10)
    told = plural(value, "error") if wrong else f"{count(value)} of {count(total)}"
    axes.text(column + 0.5, line + 0.7, told, ha="center", va="center", fontsize=8, color=LIGHT["muted"])


def _family_panel(axes: Axes, kind: str, name: str, rows: Sequence[tuple[int, int, FamilyErrors]]) -> None:
    ordered = sorted(rows, key=lambda row: (-row[0] / row[1], -row[0], row[2].family))
    rates = np.array([100 * errors / total for errors, total, _ in ordered])
    overall = 100 * sum(row[0] for row in rows) / sum(row[1] for row in rows)
    if rates.size <= _MAX_APART:
        axes.bar(np.arange(rates.size) + 0.5, rates, width=0.8, color=LIGHT[kind], linewidth=0)
    else:  # sorted, so neighbours are alike and a step may stand for several
        cuts = np.linspace(0, rates.size, min(rates.size, MAX_BARS) + 1).round().astype(int)
        axes.stairs(rates[cuts[:-1]], cuts, fill=True, color=LIGHT[kind], linewidth=0)
    axes.axhline(overall, color=LIGHT["ink"], linewidth=0.8, linestyle=(0, (4, 2)))
    axes.text(1.01, overall, f"all\n{overall:.3g} %", va="center", transform=axes.get_yaxis_transform())
    worst = [f"{shortened(shown(family.family), 13)} {count(errors)}/{count(total)}"
             for errors, total, family in ordered[:NUM_NAMED] if errors]  # fmt: skip
    while len(", ".join(worst)) > _NAMED_LETTERS:
        worst.pop()
    families = plural(rates.size, "family", "families")
    told = f"worst of {families}: {', '.join(worst)}" if worst else f"no errors in {families}"
    axes.text(0, 1.02, told, va="bottom", transform=axes.transAxes, color=LIGHT[kind], fontsize=8,
              parse_math=False).set_in_layout(False)  # fmt: skip
    axes.set(xlim=(0, max(rates.size, 8)), ylim=(0, max(1.05 * float(rates[0]), 1.0)), xticks=[])
    axes.set_title(name, loc="left", color=LIGHT["ink"], pad=17)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(visible=True, axis="y")
