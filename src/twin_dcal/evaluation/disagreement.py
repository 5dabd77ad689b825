"""Pairs that one system decides rightly and another wrongly, each at its own threshold for one false match rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.csvfile import csv_text
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.pair_stream import count_pairs
from twin_dcal.metrics.pairs import PairKind

from .compare import Run, listed_together
from .error_analysis import CHOSEN_FROM, varied
from .result import Figures, WorstPair

ASKED_FMR = 1e-3
MAX_PAIRS = 20_000_000
"""More are not looked at: all of them are in memory."""
NUM_SHOWN = 12
"""Pairs of each kind and direction that are told, no two of the same people or with the same picture."""


@dataclass(frozen=True)
class DisagreedPair:
    """A pair with the scores of both systems; `right` names the one that decides it rightly. pair.score: that of the
    one that is wrong."""

    pair: WorstPair
    right: str
    wrong: str
    right_score: float


def disagreement(first: Run, other: Run) -> tuple[Figures | None, list[DisagreedPair]]:
    """How often two systems disagree, by kind of pair, and the pairs that the wrong one of them gets most wrong.

    Both decide at the lowest threshold where their FMR on unrelated pairs (on all impostors where there are none) is at
    most 0.001, or one false match where there are fewer pairs. Returns: plain values, None for too many pairs.
    """
    if first.scored.source.num_pairs > MAX_PAIRS:
        return None, []
    one, two = listed_together([first, other])
    at = [_threshold(run) for run in (first, other)]
    same = one.kinds == PairKind.GENUINE
    right = [(run.scores >= threshold) == same for run, threshold in zip((one, two), at, strict=True)]
    kinds = {}
    for kind in PairKind:
        these = one.kinds == kind
        if these.any():
            mine, theirs = right[0][these], right[1][these]
            kinds[kind.name.lower()] = {
                "num_pairs": int(these.sum()), "both_right": int((mine & theirs).sum()),
                "only_first_right": int((mine & ~theirs).sum()), "only_other_right": int((~mine & theirs).sum()),
                "both_wrong": int((~mine & ~theirs).sum()),
            }  # fmt: skip
    pairs: list[DisagreedPair] = []
    scores = (one.scores.astype(np.float64), two.scores.astype(np.float64))
    num_images = len(first.scored.comparisons.names)
    for wrong, names in ((1, (first.name, other.name)), (0, (other.name, first.name))):
        away = np.abs(scores[wrong] - at[wrong])
        for kind in PairKind:
            found = np.flatnonzero(right[1 - wrong] & ~right[wrong] & (one.kinds == kind))
            worst = found[np.argsort(-away[found], kind="stable")[: NUM_SHOWN * CHOSEN_FROM]].tolist()
            made = {
                _pair(first, *divmod(int(one.keys[row]), num_images), kind, float(scores[wrong][row])): row
                for row in worst
            }
            pairs += [
                DisagreedPair(pair, *names, float(scores[1 - wrong][made[pair]]))
                for pair in varied(made, NUM_SHOWN)
            ]
    finite = [value if math.isfinite(value) else None for value in at]
    return {
        "run": other.name, "against": first.name, "fmr_asked": ASKED_FMR, "thresholds": finite[::-1], "kinds": kinds,
    }, pairs  # fmt: skip


def disagreement_csv(pairs: Sequence[DisagreedPair]) -> str:
    """The pairs that are told, as the text of a CSV file."""
    columns = ("img1", "img2", "person1", "person2", "kind", "right", "wrong", "right_score", "wrong_score")
    return csv_text(
        columns,
        (
            (each.pair.first, each.pair.second, each.pair.first_person, each.pair.second_person, each.pair.kind,
             each.right, each.wrong, each.right_score, each.pair.score)
            for each in pairs
        ),
    )  # fmt: skip


def _threshold(run: Run) -> float:
    counts = count_pairs(run.scored.source)
    scores = counts.section("unrelated" if counts.has("unrelated") else "all")
    return error_rates.operating_point(scores, max(ASKED_FMR, 1 / scores.num_impostors)).threshold


def _pair(run: Run, low: int, high: int, kind: PairKind, score: float) -> WorstPair:
    comparisons = run.scored.comparisons
    people: NDArray[np.str_] | None = comparisons.people
    one, other = ("", "") if people is None else (str(people[low]), str(people[high]))
    return WorstPair(comparisons.names[low], comparisons.names[high], one, other, kind.name.lower(), score)
