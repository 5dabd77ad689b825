"""K-fold figures: the threshold is chosen on the other folds, decisions are judged on the held-out one.

Folds of pairs that a list gives are used as they are, as view 2 of Labeled Faces in the Wild asks (Huang et al., 2007:
the mean over ten folds and its standard error). Folds dealt here are of families, which are never split; a pair of
people of two folds is in none, and how many pairs are in one is told.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.metrics.pair_stream import SECTIONS, DerivedPairs, PairBlock, PairSource, count_pairs
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.thresholds import choose_on

from .protocol import family_folds
from .result import Figures

KINDS_OF = {"twin": (PairKind.TWIN,), "unrelated": (PairKind.UNRELATED,), "all": tuple(PairKind)[1:]}


class _SomePairs(DerivedPairs):
    """Those pairs of a source that the masks of `_chosen` say, (P,) for each of its blocks."""

    @property
    def num_pairs(self) -> int:
        return sum(int(chosen.sum()) for _, chosen in self._chosen())

    def blocks(self) -> Iterator[PairBlock]:
        for block, chosen in self._chosen():
            if chosen.any():
                yield block.some(chosen)

    def _chosen(self) -> Iterator[tuple[PairBlock, NDArray[np.bool_]]]:
        raise NotImplementedError


class PairsWithin(_SomePairs):
    """The pairs whose images are both kept. Args: kept (N,)."""

    def __init__(self, source: PairSource, kept: NDArray[np.bool_]) -> None:
        super().__init__(source)
        self._kept = kept

    def _chosen(self) -> Iterator[tuple[PairBlock, NDArray[np.bool_]]]:
        for block in self._source.blocks():
            yield block, self._kept[block.first] & self._kept[block.second]


class PairsOutside(_SomePairs):
    """The pairs of a list that are not in one of its folds. Args: folds (P,): of the pairs of `source`, in order."""

    def __init__(self, source: PairSource, folds: NDArray[np.int64], held_out: int) -> None:
        super().__init__(source)
        self._folds, self._held_out = folds, held_out

    def _chosen(self) -> Iterator[tuple[PairBlock, NDArray[np.bool_]]]:
        for block, folds in _with_folds(self._source, self._folds):
            yield block, folds != self._held_out


def cross_validate_listed(source: PairSource, folds: NDArray[np.int64], metric: str) -> Figures:
    """As `cross_validate`, with the fold of every listed pair given. Args: folds (P,): any numbers."""
    names, fold = np.unique(folds, return_inverse=True)
    outside = (PairsOutside(source, fold, held_out) for held_out in range(names.size))
    chosen, faults = _choose(outside, metric)
    judged = _Judged(_with_folds(source, fold), chosen)
    return _figures(judged, {"by": "list", "metric": metric, "seed": None}, chosen, faults)


def cross_validate(source: PairSource, num_folds: int, metric: str, seed: int) -> Figures:
    """Accuracy, FMR and FNMR of held-out families over folds, for every section: mean, standard deviation, and standard
    error of the mean as if folds were independent.

    Args: metric: by what the threshold is chosen, as in `choose_threshold`; in each section on its own impostors.
    Returns: plain values: num_folds, by, metric, seed, sections (null where a fold cannot be judged, the reason in
    `notes`). MetricError where families are unknown or too few.
    """
    if source.families is None:
        raise MetricError(
            f"{num_folds} folds: families are not known. Name the data set (--dataset_info, --twin_pairs)."
        )
    fold = family_folds(source.families, source.people, num_folds, seed)
    outside = (PairsWithin(source, fold != held_out) for held_out in range(num_folds))
    chosen, faults = _choose(outside, metric)
    judged = _Judged(_within_folds(source, fold), chosen)
    return _figures(judged, {"by": "family", "metric": metric, "seed": seed}, chosen, faults)


def _choose(outside: Iterable[PairSource], metric: str) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Thresholds by section, one for each fold from the pairs outside it, and why a section has none."""
    chosen: dict[str, list[float]] = {name: [] for name in SECTIONS}
    faults: dict[str, str] = {}
    for held_out, pairs in enumerate(outside):
        counts = count_pairs(pairs)
        for name in SECTIONS:
            try:
                chosen[name].append(choose_on(counts.section(name), metric, name).threshold)
            except MetricError as error:
                chosen[name].append(np.nan)
                faults.setdefault(name, f"folds, {name}: without fold {held_out + 1}, {error}")
    return chosen, faults


def _with_folds(
    source: PairSource, folds: NDArray[np.int64]
) -> Iterator[tuple[PairBlock, NDArray[np.int64]]]:
    start = 0
    for block in source.blocks():
        yield block, folds[start : start + block.score.size]
        start += block.score.size


def _within_folds(
    source: PairSource, fold: NDArray[np.intp]
) -> Iterator[tuple[PairBlock, NDArray[np.int64]]]:
    """Blocks with the fold of both images, -1 where these are of two folds. Args: fold (N,)."""
    for block in source.blocks():
        first, second = fold[block.first], fold[block.second]
        yield block, np.where(first == second, first, -1)


class _Judged:
    """Held-out pairs by section and fold: totals and errors (2, K) each, genuine first."""

    def __init__(
        self, blocks: Iterable[tuple[PairBlock, NDArray[np.int64]]], chosen: dict[str, list[float]]
    ) -> None:
        self.num_folds = len(chosen["all"])
        self.totals = {name: np.zeros((2, self.num_folds), np.int64) for name in SECTIONS}
        self.errors = {name: np.zeros((2, self.num_folds), np.int64) for name in SECTIONS}
        self.num_pairs = {name: np.zeros(2, np.int64) for name in SECTIONS}
        thresholds = {name: np.array(values) for name, values in chosen.items()}
        for block, folds in blocks:
            for name in SECTIONS:
                self.num_pairs[name] += [np.isin(block.kind, kinds).sum() for kinds in ((0,), KINDS_OF[name])]
            in_one = folds >= 0
            at = folds[in_one]
            score, kind = block.score[in_one].astype(np.float64), block.kind[in_one]
            for name in SECTIONS:
                match = score >= thresholds[name][at]
                self._add(name, 0, at, kind == PairKind.GENUINE, ~match)
                self._add(name, 1, at, np.isin(kind, KINDS_OF[name]), match)

    def _add(
        self, name: str, row: int, at: NDArray[np.intp], these: NDArray[np.bool_], wrong: NDArray[np.bool_]
    ) -> None:
        self.totals[name][row] += np.bincount(at[these], minlength=self.num_folds)
        self.errors[name][row] += np.bincount(at[these & wrong], minlength=self.num_folds)


def _figures(
    judged: _Judged, about: Figures, chosen: dict[str, list[float]], faults: dict[str, str]
) -> Figures:
    sections: dict[str, Figures | None] = {}
    for name in SECTIONS:
        totals, errors = judged.totals[name], judged.errors[name]
        empty = np.flatnonzero((totals == 0).any(axis=0))
        if name not in faults and empty.size:
            advice = "; use fewer folds" if about["by"] == "family" else ""
            faults[name] = f"folds, {name}: fold {empty[0] + 1} has no genuine or no impostor pairs{advice}."
        if name in faults:
            sections[name] = None
            continue
        rates = {
            "accuracy": 1 - errors.sum(0) / totals.sum(0),
            "fmr": errors[1] / totals[1],
            "fnmr": errors[0] / totals[0],
            "threshold": np.array(chosen[name]),
        }
        sections[name] = {key: _over_folds(values) for key, values in rates.items()}
        sections[name] |= {  # type: ignore[operator]
            "num_genuine": totals[0].tolist(), "num_impostors": totals[1].tolist(),
            "of_genuine": int(judged.num_pairs[name][0]), "of_impostors": int(judged.num_pairs[name][1]),
        }  # fmt: skip
    return {
        "num_folds": judged.num_folds,
        **about,
        "sections": sections,
        "notes": list(faults.values()),
    }


def _over_folds(values: NDArray[np.float64]) -> Figures:
    deviation = float(values.std(ddof=1))
    error = deviation / math.sqrt(values.size)
    return {"mean": float(values.mean()), "sd": deviation, "se": error, "folds": values.tolist()}
