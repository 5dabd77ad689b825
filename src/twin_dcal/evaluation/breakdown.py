"""Error rates by what is known of people and images: by zygosity, sex, age, group, session, time lapse, pose, quality.

A breakdown sorts one kind of pair into cells and gives each the rate of errors at the decision threshold (FNMR of
genuine pairs, FMR of impostors) with its interval: differential performance, the subject of ISO/IEC 19795-10. Every
pair counts the same. Legend: N images, C cells, F families, P people.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twin_dcal.metrics.confidence import rate_interval
from twin_dcal.metrics.intervals import MIN_FAMILIES
from twin_dcal.metrics.pair_stream import PairBlock, PairSource
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.thresholds import exact_limit

from .metadata import Metadata
from .result import Figures

MIN_PEOPLE, MIN_PAIRS = 10, 100
"""A cell with fewer is counted and not shown: ten people are the five twin families that an interval needs, and of a
hundred pairs one error is one per cent. Figures of a handful of people would be figures about persons."""

LEVEL = 0.95
MAX_VALUES = 30
"""Of a column with more values, only whether two images have the same one is looked at."""
AGE_FROM = (0, 13, 18, 30, 45, 60)
LAPSE_UP_TO = ((0, "the same day"), (31, "up to a month"), (366, "up to a year"), (1827, "1 to 5 years"))
LONGER = "more than 5 years"
QUALITIES = ("lowest third", "middle third", "highest third")

Codes = NDArray[np.intp]
_ALL = (PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED)


@dataclass(frozen=True, eq=False)
class Breakdown:
    """A way to sort one kind of pair. cell_of: rows of two images to numbers of `cells`, -1 where not known."""

    by: str
    kind: PairKind
    cells: Sequence[str]
    cell_of: Callable[[Codes, Codes], Codes]


def break_down(
    source: PairSource, metadata: Metadata, threshold: float, kinds: Sequence[PairKind]
) -> list[Figures]:
    """Plain values of every breakdown that the metadata allow, in one walk over the pairs; see docs/metrics.md.

    Args: kinds: those that there are. The source's people must be known; without families there are no intervals.
    """
    assert source.people is not None
    counts = [_Counts(each, source) for each in breakdowns_of(metadata) if each.kind in kinds]
    for block in source.blocks():
        for kind in block.kinds():
            part = block.only(kind)
            limit = exact_limit(threshold, part.score)
            wrong = part.score < limit if kind == PairKind.GENUINE else part.score >= limit
            for each in counts:
                if each.breakdown.kind == kind:
                    each.add(part, wrong)
    return [told for told in (each.figures() for each in counts) if told["cells"] or told["num_hidden_cells"]]


def breakdowns_of(metadata: Metadata) -> list[Breakdown]:
    """Zygosity first: identical and fraternal twins are told apart everywhere (NIST)."""
    made = []
    texts, numbers = metadata.texts, metadata.numbers
    if "zygosity" in texts:
        names, codes = _numbered(texts["zygosity"])
        made += [
            Breakdown("zygosity", kind, names, _of_twins(codes)) for kind in (PairKind.TWIN, PairKind.GENUINE)
        ]
    alike: dict[str, tuple[Sequence[str], Codes]] = {}
    alike |= {name: _numbered(texts[name]) for name in ("sex", "group") if name in texts}
    if "age" in numbers:
        alike["age"] = _age_bands(numbers["age"])
    for name in ("sex", "age", "group"):
        if name in alike:
            made += [_by_value(name, kind, *alike[name]) for kind in _ALL]
    if "session" in texts:
        _, codes = _numbered(texts["session"])
        made.append(
            Breakdown(
                "session", PairKind.GENUINE, ["same session", "different sessions"], _same_or_not(codes)
            )
        )
    if "date" in numbers:
        made.append(Breakdown("time between", PairKind.GENUINE, [*(name for _, name in LAPSE_UP_TO), LONGER],
                              _lapse(numbers["date"])))  # fmt: skip
    if "pose" in texts:
        made += [_by_value("pose", kind, *_numbered(texts["pose"])) for kind in _ALL]
    if "quality" in numbers:
        lower = _lower_third(numbers["quality"])
        made += [Breakdown("lower quality", kind, QUALITIES, lower) for kind in _ALL]
    return made


def _by_value(name: str, kind: PairKind, values: Sequence[str], codes: Codes) -> Breakdown:
    """A cell for each value that both images have, and one for different values."""
    if len(values) > MAX_VALUES:
        return Breakdown(name, kind, ["the same", "different"], _same_or_not(codes))
    return Breakdown(name, kind, [*values, "different"], _same(codes, len(values)))


class _Counts:
    """Pairs and errors of one breakdown: (C,) of all, (C, F) that touch each family, (C, P) each person."""

    def __init__(self, breakdown: Breakdown, source: PairSource) -> None:
        assert source.people is not None
        self.breakdown = breakdown
        self._labels = {"people": source.people}
        if source.families is not None:
            self._labels["families"] = source.families
        num_cells = len(breakdown.cells)
        self._totals = np.zeros((2, num_cells), np.int64)
        self._touching = {
            name: np.zeros((2, num_cells, int(labels.max()) + 1), np.int64)
            for name, labels in self._labels.items()
        }
        self._num_unknown = 0

    def add(self, part: PairBlock, wrong: NDArray[np.bool_]) -> None:
        cells = self.breakdown.cell_of(part.first.astype(np.intp), part.second.astype(np.intp))
        known = cells >= 0
        self._num_unknown += int(cells.size - np.count_nonzero(known))
        for index, chosen in enumerate((known, known & wrong)):
            cell = cells[chosen]
            self._totals[index] += np.bincount(cell, minlength=self._totals.shape[1])
            for name, labels in self._labels.items():
                table = self._touching[name][index]
                first, second = labels[part.first[chosen]], labels[part.second[chosen]]
                apart = first != second  # a pair within one family touches it once
                for label, at in ((first, cell), (second[apart], cell[apart])):
                    np.add.at(table.reshape(-1), at * table.shape[1] + label, 1)

    def figures(self) -> Figures:
        genuine = self.breakdown.kind == PairKind.GENUINE
        shown, hidden_pairs, hidden_cells = [], 0, 0
        for cell, name in enumerate(self.breakdown.cells):
            num_pairs = int(self._totals[0, cell])
            num_people = int(np.count_nonzero(self._touching["people"][0, cell]))
            if num_pairs and (num_pairs < MIN_PAIRS or num_people < MIN_PEOPLE):
                hidden_cells, hidden_pairs = hidden_cells + 1, hidden_pairs + num_pairs
            elif num_pairs:
                shown.append(
                    {"cell": name, "num_pairs": num_pairs, "num_people": num_people, **self._rates(cell)}
                )
        return {
            "by": self.breakdown.by,
            "kind": self.breakdown.kind.name.lower(),
            "rate": "fnmr" if genuine else "fmr",
            "cells": shown,
            "num_hidden_cells": hidden_cells,
            "num_hidden_pairs": hidden_pairs,
            "num_unknown_pairs": self._num_unknown,
        }

    def _rates(self, cell: int) -> Figures:
        num_pairs, num_errors = (int(total) for total in self._totals[:, cell])
        families = self._touching.get("families")
        ends, num_families = None, None
        if families is not None:
            pairs, errors = families[:, cell]
            having = pairs > 0
            num_families = int(np.count_nonzero(having))
            if num_families >= MIN_FAMILIES:
                left = (num_pairs - pairs[having]).astype(np.float64)
                without = (num_errors - errors[having]) / np.where(left > 0, left, np.nan)
                interval = rate_interval(
                    num_errors / num_pairs,
                    without,
                    num_units=num_families,
                    num_trials=num_families,
                    level=LEVEL,
                )
                ends = [interval.low, interval.high]
        return {
            "num_families": num_families,
            "num_errors": num_errors,
            "num_people_with_errors": int(np.count_nonzero(self._touching["people"][1, cell])),
            "value": num_errors / num_pairs,
            "interval": ends,
        }


def _numbered(texts: NDArray[np.str_]) -> tuple[list[str], Codes]:
    """Distinct texts in their order, and the number of each image's, -1 for ""."""
    names = sorted(set(texts.tolist()) - {""})
    number: Mapping[str, int] = {name: index for index, name in enumerate(names)}
    return names, np.array([number.get(text, -1) for text in texts.tolist()], dtype=np.intp)


def _age_bands(ages: NDArray[np.float64]) -> tuple[list[str], Codes]:
    names = [f"{low} to {high - 1}" for low, high in pairwise(AGE_FROM)]
    codes = np.where(np.isnan(ages), -1, np.searchsorted(AGE_FROM, ages, side="right") - 1)
    return [*names, f"{AGE_FROM[-1]} and older"], codes.astype(np.intp)


def _same(codes: Codes, different: int) -> Callable[[Codes, Codes], Codes]:
    """The value that both images have, or the cell `different`."""

    def cell_of(first: Codes, second: Codes) -> Codes:
        one, other = codes[first], codes[second]
        cells = np.where(one == other, one, different)
        return np.asarray(np.where((one < 0) | (other < 0), -1, cells))

    return cell_of


def _same_or_not(codes: Codes) -> Callable[[Codes, Codes], Codes]:
    def cell_of(first: Codes, second: Codes) -> Codes:
        one, other = codes[first], codes[second]
        return np.asarray(np.where((one < 0) | (other < 0), -1, (one != other).astype(np.intp)))

    return cell_of


def _of_twins(codes: Codes) -> Callable[[Codes, Codes], Codes]:
    """What is said of either of two twins holds for both; where they are said to differ nothing is known."""

    def cell_of(first: Codes, second: Codes) -> Codes:
        one, other = codes[first], codes[second]
        return np.asarray(
            np.where(one == other, one, np.where(np.minimum(one, other) < 0, np.maximum(one, other), -1))
        )

    return cell_of


def _lapse(days: NDArray[np.float64]) -> Callable[[Codes, Codes], Codes]:
    bounds = np.array([bound for bound, _ in LAPSE_UP_TO], dtype=np.float64)

    def cell_of(first: Codes, second: Codes) -> Codes:
        apart = np.abs(days[first] - days[second])
        return np.where(np.isnan(apart), -1, np.searchsorted(bounds, apart, side="left")).astype(np.intp)

    return cell_of


def _lower_third(qualities: NDArray[np.float64]) -> Callable[[Codes, Codes], Codes]:
    """In which third of all images the lower quality of the two lies."""
    known = qualities[~np.isnan(qualities)]
    bounds = np.quantile(known, (1 / 3, 2 / 3)) if known.size else np.zeros(2)

    def cell_of(first: Codes, second: Codes) -> Codes:
        lower = np.minimum(qualities[first], qualities[second])  # NaN where either is
        return np.where(np.isnan(lower), -1, np.searchsorted(bounds, lower, side="left")).astype(np.intp)

    return cell_of
