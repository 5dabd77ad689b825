"""A study in figures: means with intervals, the comparison with the centre prior, and tables of it.

Pairs of a family are no independent observations, so families are drawn again (docs/metrics.md).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.evaluation.table import aligned, wrapped
from twin_dcal.metrics.confidence import Interval, plain_interval, rate_interval
from twin_dcal.names import one_a_line
from twin_dcal.plural import plural

from .study import SIGNED, UNSIGNED, Row, Study

MIN_FAMILIES = 5
LEVEL = 0.95
NAMES = {
    "combined": "combined", "occlusion": "occlusion", "gradients": "gradients", "rollout": "rollout (SA)",
    "glca": "GLCA attention", "pixels": "pixel difference", "centre": "centre prior", "random": "random",
}  # fmt: skip

Floats = NDArray[np.float64]
Findings = dict[str, Any]


def findings(study: Study) -> Findings:
    """Plain values, for JSON: of each map and kind of pair the figures with intervals, and the sanity check."""
    kinds = list(dict.fromkeys(row.kind for row in study.rows))
    told: Findings = {
        "level": LEVEL,
        "pairs": {kind: _counted(study.rows, kind) for kind in kinds}, "maps": {},
    }  # fmt: skip
    for name in dict.fromkeys(row.name for row in study.rows):
        told["maps"][name] = {kind: _of_kind(study, name, kind) for kind in kinds}
        if name in study.sanity:
            told["maps"][name]["shuffled_weights_correlation"] = float(study.sanity[name].mean())
    return told


def _counted(rows: Sequence[Row], kind: str) -> dict[str, int]:
    one = [row for row in rows if row.kind == kind and row.name == rows[0].name]
    return {"pairs": len(one), "families": len({row.family for row in one})}


def _of_kind(study: Study, name: str, kind: str) -> Findings:
    rows, turned = _turned(study.rows, name, kind)
    told: Findings = {
        "deletion": float(np.mean([row.deletion for row in rows])),
        "insertion": float(np.mean([row.insertion for row in rows])),
        "faithfulness": _interval(rows, _gap),
    }
    if name in UNSIGNED:
        told["read_as"] = "different" if turned else "same"
    compared = name not in ("centre", "random")
    centre, _ = _turned(study.rows, "centre", kind)
    if compared:
        told["faithfulness_over_centre"] = _difference(rows, centre, _gap)
    if not all(math.isnan(row.pointing) for row in rows):
        told["pointing"] = _interval(rows, _chance if name == "random" else _pointing, rate=True)
        told["ranking"] = _interval(rows, _ranking, rate=True)
        if compared:
            told["pointing_over_centre"] = _difference(rows, centre, _pointing)
    return told


def _turned(rows: Sequence[Row], name: str, kind: str) -> tuple[list[Row], bool]:
    """The rows of a map. One without a sign is read as "same" or as "different", whichever these pairs speak for."""
    mine = [row for row in rows if (row.name, row.kind) == (name, kind)]
    if name not in UNSIGNED or sum(map(_gap, mine)) >= 0:
        return mine, False
    return [replace(row, deletion=row.insertion, insertion=row.deletion) for row in mine], True


def _gap(row: Row) -> float:
    return row.insertion - row.deletion


def _pointing(row: Row) -> float:
    return row.pointing


def _chance(row: Row) -> float:
    return row.chance


def _ranking(row: Row) -> float:
    return row.ranking


def _interval(
    rows: Sequence[Row], value: Callable[[Row], float], *, rate: bool = False
) -> dict[str, float | None]:
    values = np.array([value(row) for row in rows])
    return _bounded(values, [row.family for row in rows], rate=rate)


def _difference(
    rows: Sequence[Row], others: Sequence[Row], value: Callable[[Row], float]
) -> dict[str, float | None]:
    """Of the same pairs, pair by pair."""
    values = np.array([value(row) - value(other) for row, other in zip(rows, others, strict=True)])
    return _bounded(values, [row.family for row in rows], rate=False)


def _bounded(values: Floats, families: Sequence[str], *, rate: bool) -> dict[str, float | None]:
    """Mean and its interval, by leaving out each family. No interval from fewer than 5 families."""
    known = ~np.isnan(values)
    values = values[known]
    names, family = np.unique(np.array(families)[known], return_inverse=True)
    mean = float(values.mean())
    if names.size < MIN_FAMILIES:
        return {"value": mean, "low": None, "high": None}
    sums, counts = np.bincount(family, values), np.bincount(family)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    found: Interval = (
        rate_interval(mean, left_out, num_units=names.size, num_trials=names.size, level=LEVEL)
        if rate
        else plain_interval(mean, left_out, num_units=names.size, level=LEVEL)
    )
    return {"value": mean, "low": found.low, "high": found.high}


def table(told: Findings) -> str:
    """For a terminal, at most 100 columns."""
    head, *lines = _cells(told, short=True)
    return one_a_line(wrapped([*aligned([head, *lines]), "", *_remarks(told)])) + "\n"


def markdown(told: Findings) -> str:
    """The same with deletion and insertion apart."""
    head, *lines = _cells(told, short=False)
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "# Explanations: how faithful they are\n\n" + text + "\n\n" + "\n".join(_remarks(told)) + "\n"


def _cells(told: Findings, *, short: bool) -> list[list[str]]:
    kinds = list(told["pairs"])
    points = any(
        "pointing" in figures for map_ in told["maps"].values() for figures in _kinds_of(map_, kinds)
    )
    head = ["map"]
    for kind in kinds:
        head += (
            [f"faithful: {kind}"]
            if short
            else [f"deletion: {kind}", f"insertion: {kind}", f"faithful: {kind}"]
        )
    head += ["points at truth %", "ranks it"] if points else []
    rows = [head]
    for name, map_ in told["maps"].items():
        row = [NAMES[name]]
        for figures in _kinds_of(map_, kinds):
            curves = [] if short else [f"{figures['deletion']:.3f}", f"{figures['insertion']:.3f}"]
            row += [*curves, _shown(figures["faithfulness"], 1, 2 if short else 3)]
        if points:
            twin = map_["twin"]
            row += [_shown(twin["pointing"], 100, 0), f"{twin['ranking']['value']:.2f}"]
        rows.append(row)
    return rows


def _kinds_of(map_: Mapping[str, Any], kinds: Sequence[str]) -> list[Findings]:
    return [map_[kind] for kind in kinds]


def _shown(figure: Mapping[str, float | None], scale: float, digits: int) -> str:
    value, low, high = (
        None if x is None else scale * x for x in (figure["value"], figure["low"], figure["high"])
    )
    told = f"{value:.{digits}f}"
    return told if low is None or high is None else f"{told} [{low:.{digits}f}, {high:.{digits}f}]"


def _remarks(told: Findings) -> list[str]:
    pairs = " and ".join(
        f"{plural(count['pairs'], f'{kind} pair')} of {plural(count['families'], 'family', 'families')}"
        for kind, count in told["pairs"].items()
    )
    lines = [
        f"{pairs}; 95 % intervals by leaving out each family in turn.",
        "faithful: mean cosine while what supports “same” is shown first, less that while it is hidden first; 0 is "
        "chance. Maps without a sign are read as “same” or “different”, whichever serves them better here.",
    ]
    signed = [name for name in told["maps"] if name in SIGNED]
    for name in signed:
        lines += [_verdict(NAMES[name], told["maps"][name], kind) for kind in told["pairs"]]
    if any("pointing" in told["maps"][name].get("twin", {}) for name in signed):
        lines.append(
            "points at truth: the strongest “different” of a twin pair lies where the two truly differ; random: the "
            "share of the picture that counts as a hit. ranks it: chance that a pixel of the difference has a "
            "higher value than another pixel of the face; 0.5 is chance."
        )
        lines += [_pointing_verdict(NAMES[name], told["maps"][name]["twin"]) for name in signed]
    sanity = [
        f"{NAMES[name]} {map_['shuffled_weights_correlation']:+.2f}"
        for name, map_ in told["maps"].items()
        if "shuffled_weights_correlation" in map_
    ]
    if sanity:
        lines.append(
            f"Rank correlation with the maps of the same network with shuffled weights: {', '.join(sanity)}."
        )
    return lines


def _verdict(name: str, map_: Mapping[str, Any], kind: str) -> str:
    return f"{name}, {kind} pairs: faithfulness is {_against(map_[kind]['faithfulness_over_centre'], 1, 3)}."


def _pointing_verdict(name: str, twin: Mapping[str, Any]) -> str:
    return f"{name}: pointing is {_against(twin['pointing_over_centre'], 100, 0)}."


def _against(figure: Mapping[str, float | None], scale: float, digits: int) -> str:
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return f"{_shown(figure, scale, digits)} above the centre prior's (too few families for an interval)"
    if low > 0:
        return f"better than the centre prior's, by {_shown(figure, scale, digits)}"
    if high < 0:
        return f"worse than the centre prior's, by {_shown(figure, scale, digits)}"
    return f"no better than the centre prior's: difference {_shown(figure, scale, digits)}"
