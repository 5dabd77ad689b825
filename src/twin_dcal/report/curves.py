"""ROC and DET curves with their bands.

Axes are drawn in their own coordinates (logarithm, normal deviate) on a linear scale, so that what is thinned and
what a label must not cover is measured as the eye sees it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twin_dcal.evaluation.result import Curve, Evaluation, Figures

from .labels import write_beside
from .layout import thin
from .theme import DASHES, LIGHT, SECTION_NAMES
from .wording import number, percent, rate_name

Rates = NDArray[np.float64]

SIZE_INCHES = (4.9, 4.0)
MIN_ERRORS = 30
_LOWEST_RATE = 1e-6
_ROUNDING = 1 + 1e-9  # 1 / count and count / total need not be the same float
AXIS_POINTS = 280
"""About how long an axis of these figures is."""
_PROBIT = NormalDist().inv_cdf
_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Scale:
    """One axis: rates between `low` and `high`, drawn at `forward(rate)`."""

    low: float
    high: float
    forward: Callable[[Rates], Rates]
    ticks: Sequence[float]
    tick_names: Sequence[str]

    def limits(self) -> tuple[float, float]:
        low, high = self.forward(np.array([self.low, self.high]))
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A curve in drawn coordinates, and from which point on at least 30 false matches stand behind it."""

    name: str
    x: Rates
    y: Rates
    band: tuple[Rates, Rates, Rates]
    firm_from: float


def roc_figure(evaluation: Evaluation) -> Figure:
    """TAR over FMR, FMR on a logarithmic axis. Thin where fewer than 30 false matches stand behind the curve."""
    lowest = _lowest_fmr(evaluation)
    decades = [10.0**exponent for exponent in range(math.ceil(math.log10(lowest) - 1e-9), 1)]
    across = Scale(lowest, 1.0, np.log10, decades, [rate_name(rate) for rate in decades])
    bottom = _roc_bottom(evaluation, lowest)
    ticks = np.round(np.arange(bottom, 1.001, 0.2 if bottom < 0.5 else 0.1 if bottom < 0.9 else 0.02), 2)
    up = Scale(bottom, 1.0, np.asarray, ticks.tolist(), [f"{tick:.0%}" for tick in ticks])
    figure, axes = _axes(across, up, "False match rate (FMR)", "True accept rate (TAR = 1 − FNMR)")
    axes.set_ylim(bottom - 0.01 * (1 - bottom), 1 + 0.01 * (1 - bottom))
    drawn = [_drawn(evaluation, name, across, up, genuine_up=True) for name in _present(evaluation)]
    _draw(
        figure,
        axes,
        drawn,
        lambda name: f"{SECTION_NAMES[name]}  AUC {_figure(evaluation, name, 'roc_auc', 4)}",
    )
    _mark_threshold(axes, evaluation, across, up, genuine_up=True)
    return figure


def det_figure(evaluation: Evaluation) -> Figure:
    """FNMR over FMR, both on normal-deviate axes; where the diagonal crosses a curve is its EER."""
    across = deviate_scale(_lowest_fmr(evaluation), _highest(evaluation))
    up = deviate_scale(_lowest_fnmr(evaluation), _highest(evaluation))
    figure, axes = _axes(across, up, "False match rate (FMR), %", "False non-match rate (FNMR), %")
    ends = max(across.low, up.low), min(across.high, up.high)
    diagonal = probit(np.array(ends))
    axes.plot(diagonal, diagonal, color=LIGHT["frame"], linewidth=0.8)
    drawn = [_drawn(evaluation, name, across, up, genuine_up=False) for name in _present(evaluation)]
    for curve in drawn:
        eer = (evaluation.figures.get(curve.name) or {}).get("eer")
        if eer and ends[0] < eer < ends[1]:
            at = _PROBIT(eer)
            axes.plot([at], [at], "o", color=LIGHT[curve.name], markersize=4.5, zorder=5)
    _draw(figure, axes, drawn, lambda name: f"{SECTION_NAMES[name]}  EER {_figure(evaluation, name, 'eer')}",
          [np.stack([diagonal, diagonal], axis=1)])  # fmt: skip
    _mark_threshold(axes, evaluation, across, up, genuine_up=False)
    return figure


def _axes(across: Scale, up: Scale, x_name: str, y_name: str) -> tuple[Figure, Axes]:
    figure = Figure(SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(*across.limits())
    axes.set_ylim(*up.limits())
    axes.set_xticks(across.forward(np.array(across.ticks)), across.tick_names)
    axes.set_yticks(up.forward(np.array(up.ticks)), up.tick_names)
    axes.grid(visible=True)
    axes.set_xlabel(x_name)
    axes.set_title(y_name, loc="left", color=LIGHT["ink"])
    return figure, axes


def _present(evaluation: Evaluation) -> list[str]:
    """Sections that have a curve; "all" only where it is not the same as the one other section."""
    names = [name for name in SECTION_NAMES if name in evaluation.curves]
    counts = {name: (evaluation.figures.get(name) or {}).get("num_impostors") for name in names}
    if len(names) == 2 and counts[names[0]] is not None and counts[names[0]] == counts.get("all"):
        return names[:1]
    return names


def _figure(evaluation: Evaluation, name: str, key: str, digits: int | None = None) -> str:
    value = (evaluation.figures.get(name) or {}).get(key)
    return percent(value, 1) if digits is None else number(value, digits)


def _num_impostors(figures: Figures, name: str, curve: Curve) -> float:
    """How many impostors a curve rests on; where nobody says, its smallest rate is taken as one of them."""
    told = (figures.get(name) or {}).get("num_impostors")
    nonzero = curve.fmr[curve.fmr > 0]
    return float(told or (1 / nonzero.min() if nonzero.size else 1))


def _lowest_fmr(evaluation: Evaluation) -> float:
    """The smallest rate any curve supports, down to half a decade and at most 0.1: where the FMR axis begins."""
    counts = [_num_impostors(evaluation.figures, name, curve) for name, curve in evaluation.curves.items()]
    half_decades = math.floor(-2 * math.log10(max(counts, default=10.0)) + 1e-9)
    return max(_LOWEST_RATE, math.pow(10, min(-2, half_decades) / 2))


def _lowest_fnmr(evaluation: Evaluation) -> float:
    rates = [
        curve.fnmr[curve.fnmr > 0].min() for curve in evaluation.curves.values() if (curve.fnmr > 0).any()
    ]
    lowest = min(rates, default=0.01)
    return max(_LOWEST_RATE, 10.0 ** min(-2, math.floor(math.log10(lowest) + 1e-9)))


def _highest(evaluation: Evaluation) -> float:
    eers = [(evaluation.figures.get(name) or {}).get("eer") or 0.0 for name in evaluation.curves]
    return 0.99 if max(eers, default=0.0) > 0.3 else 0.6


def _roc_bottom(evaluation: Evaluation, lowest: float) -> float:
    """0, or higher where every curve stays high: the room is for what differs."""
    tars = [0.95]
    for name, curve in evaluation.curves.items():
        start = max(lowest, 1 / _num_impostors(evaluation.figures, name, curve))
        tars.append(1 - _value_at(start, curve.fmr, curve.fnmr))
        tars += (1 - _band(evaluation, name)[2]).tolist()
    least = float(np.nanmin(tars))
    return 0.9 if least >= 0.92 else 0.5 if least >= 0.55 else 0.0


def deviate_scale(low: float, high: float, points: float = AXIS_POINTS) -> Scale:
    """Ticks as far as their names have room beside each other on an axis of so many points, the higher ones first."""
    span = float(np.ptp(probit(np.array([low, high])))) / points
    ticks: list[float] = []
    for tick in reversed(_DET_TICKS):
        apart = (_PROBIT(ticks[-1]) - _PROBIT(tick)) / span if ticks else math.inf
        if low <= tick <= high and apart >= 2.6 * len(f"{100 * tick:g}") + 8:
            ticks.append(tick)
    return Scale(low, high, probit, ticks, [f"{100 * tick:g}" for tick in ticks])


def probit(rates: Rates) -> Rates:
    return np.array([_PROBIT(rate) for rate in np.clip(rates, 1e-12, 1 - 1e-12)])


def _drawn(evaluation: Evaluation, name: str, across: Scale, up: Scale, *, genuine_up: bool) -> _Drawn:
    curve = evaluation.curves[name]
    count = _num_impostors(evaluation.figures, name, curve)
    start = max(across.low, min(1 / count, across.high))
    fmr, fnmr = between(start, across.high, curve.fmr, curve.fnmr)
    height = 1 - fnmr if genuine_up else np.clip(fnmr, up.low / 10, 1 - 1e-6)
    x, y = across.forward(fmr), up.forward(height)
    kept = thin(x, y)
    at, low, high = _band(evaluation, name)
    bounds = (
        (1 - high, 1 - low)
        if genuine_up
        else tuple(np.clip(end, up.low / 10, 1 - 1e-6) for end in (low, high))
    )
    band = across.forward(np.clip(at, None, across.high)), up.forward(bounds[0]), up.forward(bounds[1])
    firm = float(across.forward(np.array([min(max(MIN_ERRORS / count, start), across.high)]))[0])
    return _Drawn(name, x[kept], y[kept], band, firm)


def _band(evaluation: Evaluation, name: str) -> tuple[Rates, Rates, Rates]:
    """FMRs, and the interval of FNMR at each, where `MIN_ERRORS` errors of both kinds stand behind it: with fewer it
    flares from one end of the scale to the other and says nothing."""
    curve = evaluation.curves[name]
    nonzero = curve.fnmr[curve.fnmr > 0]
    told = (evaluation.figures.get(name) or {}).get("num_genuine")
    num_genuine = float(told or (1 / nonzero.min() if nonzero.size else 1))
    fnmr = np.array([_value_at(rate, curve.fmr, curve.fnmr) for rate in curve.band_fmr])
    known = np.isfinite(curve.fnmr_low) & np.isfinite(curve.fnmr_high)
    known &= curve.band_fmr * _num_impostors(evaluation.figures, name, curve) * _ROUNDING >= MIN_ERRORS
    known &= fnmr * num_genuine * _ROUNDING >= MIN_ERRORS
    return curve.band_fmr[known], curve.fnmr_low[known], curve.fnmr_high[known]


def between(start: float, end: float, fmr: Rates, fnmr: Rates) -> tuple[Rates, Rates]:
    """The part of a curve between two rates, with its values there."""
    inside = (fmr > start * _ROUNDING) & (fmr < end / _ROUNDING)
    rates = np.concatenate([[start], fmr[inside], [end]])
    return rates, np.concatenate([[_value_at(start, fmr, fnmr)], fnmr[inside], [_value_at(end, fmr, fnmr)]])


def _value_at(rate: float, fmr: Rates, fnmr: Rates) -> float:
    """FNMR at a rate; where the curve drops there, its foot."""
    last = int(np.searchsorted(fmr, rate * _ROUNDING, side="right")) - 1
    if last < 0:
        return 1.0
    if last == fmr.size - 1 or fmr[last] >= rate:
        return float(fnmr[last])
    return float(np.interp(rate, fmr[last : last + 2], fnmr[last : last + 2]))


def _draw(
    figure: Figure,
    axes: Axes,
    drawn: Sequence[_Drawn],
    name_of: Callable[[str], str],
    others: Sequence[Rates] = (),
) -> None:
    """Bands, curves, and each curve's name beside it, clear of `others`. Twins are drawn last, on top."""
    for curve in reversed(drawn):
        colour = LIGHT[curve.name]
        at, low, high = curve.band
        if at.size > 1:
            axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
        for part, width in ((curve.x <= curve.firm_from, 0.8), (curve.x >= curve.firm_from, 1.7)):
            x, y = _part(curve, part)
            axes.plot(x, y, color=colour, linewidth=width, linestyle=DASHES[curve.name])
    lines = [np.stack([curve.x, curve.y], axis=1) for curve in drawn]
    names, colours = [name_of(curve.name) for curve in drawn], [LIGHT[curve.name] for curve in drawn]
    write_beside(figure, axes, names, colours, [*lines, *others])


def _part(curve: _Drawn, chosen: NDArray[np.bool_]) -> tuple[Rates, Rates]:
    """The chosen stretch, up to the point where the width changes."""
    at = curve.firm_from
    inside = chosen & (curve.x != at)
    x, y = curve.x[inside], curve.y[inside]
    joint = float(np.interp(at, curve.x, curve.y))
    if x.size and x[0] > at:
        return np.concatenate([[at], x]), np.concatenate([[joint], y])
    return np.concatenate([x, [at]]), np.concatenate([y, [joint]])


def _mark_threshold(
    axes: Axes, evaluation: Evaluation, across: Scale, up: Scale, *, genuine_up: bool
) -> None:
    """A ring on each curve where the decision threshold puts it."""
    for name in _present(evaluation):
        at: Mapping[str, Any] = (evaluation.figures.get(name) or {}).get("confusion") or {}
        fmr, fnmr = at.get("fmr"), at.get("fnmr")
        if fmr is None or fnmr is None:
            continue
        height = 1 - fnmr if genuine_up else fnmr
        if across.low <= fmr <= across.high and up.low <= height <= up.high:
            x, y = across.forward(np.array([fmr])), up.forward(np.array([height]))
            axes.plot(
                x,
                y,
                "o",
                markersize=6.5,
                markerfacecolor=LIGHT["surface"],
                markeredgecolor=LIGHT[name],
                markeredgewidth=1.4,
                zorder=6,
            )
