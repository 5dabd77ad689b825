"""K-fold figures, folds by family: the threshold is chosen on the other folds, decisions judged on the held-out one.

As in the protocol of Labeled Faces in the Wild (Huang et al., 2007), but a family is never in two folds, and a pair of
people of two folds is in none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.metrics.pair_stream import SECTIONS, PairBlock, PairSource, count_pairs
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.thresholds import choose_on

from .protocol import family_folds
from .result import Figures

KINDS_OF = {"twin": (PairKind.TWIN,), "unrelated": (PairKind.UNRELATED,), "all": tuple(PairKind)[1:]}


@dataclass(frozen=True, eq=False)
class PairsWithin:
    """The pairs of a source whose images are both kept. Args: kept (N,)."""

    source: PairSource
    kept: NDArray[np.bool_]

    @property
    def num_pairs(self) -> int:
        return sum(block.score.size for block in self.blocks())

    @property
    def on_grid(self) -> bool:
        return self.source.on_grid

    @property
    def people(self) -> NDArray[np.intp] | None:
        return self.source.people

    @property
    def families(self) -> NDArray[np.intp] | None:
        return self.source.families

    def blocks(self) -> Iterator[PairBlock]:
        for block in self.source.blocks():
            inside = self.kept[block.first] & self.kept[block.second]
            if inside.any():
                yield PairBlock(
                    block.first[inside], block.second[inside], block.score[inside], block.kind[inside]
                )


def cross_validate(source: PairSource, num_folds: int, metric: str, seed: int) -> Figures:
    """Accuracy, FMR and FNMR of held-out families, mean and standard deviation over folds, for every section.

    Args: metric: by what the threshold is chosen, as in `choose_threshold`; in each section on its own impostors.
    Returns: plain values: num_folds, metric, seed, sections (null where a fold cannot be judged, the reason in
    `notes`). MetricError where families are unknown or too few.
    """
    if source.families is None:
        raise MetricError(
            f"{num_folds} folds: families are not known. Name the data set (--dataset_info, --twin_pairs)."
        )
    fold = family_folds(source.families, source.people, num_folds, seed)
    chosen: dict[str, list[float]] = {name: [] for name in SECTIONS}
    faults: dict[str, str] = {}
    for held_out in range(num_folds):
        counts = count_pairs(PairsWithin(source, fold != held_out))
        for name in SECTIONS:
            try:
                chosen[name].append(choose_on(counts.section(name), metric, name).threshold)
            except MetricError as error:
                chosen[name].append(np.nan)
                faults.setdefault(name, f"folds, {name}: without fold {held_out + 1}, {error}")
    return _figures(_Judged(source, fold, chosen), metric, seed, chosen, faults)


class _Judged:
    """Held-out pairs by section and fold: totals and errors (2, K) each, genuine first."""

    def __init__(self, source: PairSource, fold: NDArray[np.intp], chosen: dict[str, list[float]]) -> None:
        self.num_folds = len(chosen["all"])
        self.totals = {name: np.zeros((2, self.num_folds), np.int64) for name in SECTIONS}
        self.errors = {name: np.zeros((2, self.num_folds), np.int64) for name in SECTIONS}
        thresholds = {name: np.array(values) for name, values in chosen.items()}
        for block in source.blocks():
            one_fold = fold[block.first] == fold[block.second]
            at = fold[block.first[one_fold]]
            score, kind = block.score[one_fold].astype(np.float64), block.kind[one_fold]
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
    judged: _Judged, metric: str, seed: int, chosen: dict[str, list[float]], faults: dict[str, str]
) -> Figures:
    sections: dict[str, Figures | None] = {}
    for name in SECTIONS:
        totals, errors = judged.totals[name], judged.errors[name]
        empty = np.flatnonzero((totals == 0).any(axis=0))
        if name not in faults and empty.size:
            faults[name] = (
                f"folds, {name}: fold {empty[0] + 1} has no genuine or no impostor pairs; use fewer folds."
            )
        if name in faults:
            sections[name] = None
            continue
        rates = {
            "accuracy": 1 - errors.sum(0) / totals.sum(0),
            "fmr": errors[1] / totals[1],
            "fnmr": errors[0] / totals[0],
            "threshold": np.array(chosen[name]),
        }
        sections[name] = {
            key: {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "folds": values.tolist()}
            for key, values in rates.items()
        }
        sections[name] |= {"num_genuine": totals[0].tolist(), "num_impostors": totals[1].tolist()}  # type: ignore[operator]
    return {
        "num_folds": judged.num_folds,
        "metric": metric,
        "seed": seed,
        "sections": sections,
        "notes": list(faults.values()),
    }
