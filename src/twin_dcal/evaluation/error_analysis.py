"""Who is behind the errors: families and people at the decision threshold, and the worst pairs, in one walk.

Animals of Doddington's zoo (Doddington et al., "Sheep, goats, lambs and wolves", ICSLP 1998; Yager and Dunstone, "The
biometric menagerie", IEEE TPAMI 32(2), 2010): see `animals`. Legend: N images, P people, K kinds of pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.metrics.error_rates import SortedScores, auc
from twin_dcal.metrics.pair_stream import PairBlock, PairSource
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.score_counts import ScoreArray
from twin_dcal.metrics.thresholds import exact_limit
from twin_dcal.metrics.zoo import Individual, animals, image_jackknife

from .protocol import Comparisons
from .result import FamilyErrors, PersonErrors, WorstPair

MAX_COLLECTED = 20_000_000
"""Genuine and twin scores kept for the AUC of each family; of more, that AUC is left out."""
CHOSEN_FROM = 10
"""Times as many of the worst pairs are kept as are told, so that few show the same people or pictures."""

_IMPOSTORS = (PairKind.TWIN, PairKind.UNRELATED, PairKind.OTHER)


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """Error tables (empty where people or families are unknown) and the worst pairs, worst first."""

    families: Sequence[FamilyErrors]
    people: Sequence[PersonErrors]
    false_matches: Sequence[WorstPair]
    false_non_matches: Sequence[WorstPair]


def analyze_errors(
    source: PairSource, comparisons: Comparisons, threshold: float, num_worst: int
) -> ErrorAnalysis:
    """Walk all pairs once.

    Args: num_worst: pairs to tell of each kind of error (false matches: of each kind of pair), as `varied` chooses.
    """
    images = _ImageSums(len(comparisons.names), threshold)
    near = _FamilyScores()
    worst = {kind: _Worst(num_worst * CHOSEN_FROM, highest=kind != PairKind.GENUINE) for kind in PairKind}
    for block in source.blocks():
        for kind in block.kinds():
            part = block.only(kind)
            wrong = images.add(part, kind)
            worst[kind].add(part, wrong)
            if kind in (PairKind.GENUINE, PairKind.TWIN) and comparisons.families is not None:
                near.add(part, kind)
    told = {kind: varied(worst[kind].pairs(comparisons, kind), num_worst) for kind in PairKind}
    matches = [pair for kind in _IMPOSTORS for pair in told[kind]]
    return ErrorAnalysis(
        families=_family_table(comparisons, images, near),
        people=_person_table(comparisons, images),
        false_matches=sorted(matches, key=lambda pair: -pair.score),
        false_non_matches=told[PairKind.GENUINE],
    )


def varied(pairs: Iterable[WorstPair], most: int) -> list[WorstPair]:
    """The first `most` pairs of which each shows two people (or, of genuine pairs, a person) that none before it does,
    in two pictures that none before it does: the rest would show the same again. Where nobody knows who is on them,
    only the pictures count."""
    told: list[WorstPair] = []
    shown: set[object] = set()
    for pair in pairs:
        people = {frozenset((pair.first_person, pair.second_person))} if pair.first_person else set()
        seen = {*people, pair.first, pair.second}
        if len(told) < most and not seen & shown:
            told.append(pair)
            shown |= seen
    return told


class _ImageSums:
    """Pairs, scores and errors that touch each image, by kind: (K, N) each. A pair counts at both of its images."""

    def __init__(self, num_images: int, threshold: float) -> None:
        shape = (len(PairKind), num_images)
        self.threshold = threshold
        self.pairs, self.errors = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.scores = np.zeros(shape)

    def add(self, part: PairBlock, kind: PairKind) -> NDArray[np.bool_]:
        """Add pairs of one kind; which of them are decided wrongly."""
        limit = exact_limit(self.threshold, part.score)
        wrong = part.score < limit if kind == PairKind.GENUINE else part.score >= limit
        for rows in (part.first, part.second):
            num_images = self.pairs.shape[1]
            self.pairs[kind] += np.bincount(rows, minlength=num_images)
            self.scores[kind] += np.bincount(rows, part.score, minlength=num_images)
            self.errors[kind] += np.bincount(rows[wrong], minlength=num_images)
        return np.asarray(wrong)


class _FamilyScores:
    """Genuine and twin scores with a row of an image of their family; given up beyond MAX_COLLECTED."""

    def __init__(self) -> None:
        self._parts: dict[PairKind, list[tuple[NDArray[np.int32], ScoreArray]]] = {}
        self._size = 0

    def add(self, part: PairBlock, kind: PairKind) -> None:
        self._size += part.score.size
        if self._size > MAX_COLLECTED:
            self._parts = {}
        else:
            self._parts.setdefault(kind, []).append((part.first, part.score))

    def auc_of(self, family: NDArray[np.intp]) -> Mapping[int, float]:
        """AUC of genuine against twin pairs of each family that has both. Args: family (N,): number of each image."""
        split = {kind: self._by_family(kind, family) for kind in (PairKind.GENUINE, PairKind.TWIN)}
        genuine, twin = split[PairKind.GENUINE], split[PairKind.TWIN]
        return {
            number: auc(SortedScores(genuine[number], twin[number]))
            for number in genuine.keys() & twin.keys()
        }

    def _by_family(self, kind: PairKind, family: NDArray[np.intp]) -> dict[int, ScoreArray]:
        parts = self._parts.get(kind, [])
        if not parts or self._size > MAX_COLLECTED:
            return {}
        numbers = family[np.concatenate([rows for rows, _ in parts])]
        scores = np.concatenate([score for _, score in parts])
        order = np.lexsort((scores, numbers))
        found, begins = np.unique(numbers[order], return_index=True)
        return dict(zip(found.tolist(), np.split(scores[order], begins[1:]), strict=True))


class _Worst:
    """The wrong pairs with the highest (or lowest) scores so far; equal scores by rows, so blocks do not matter."""

    def __init__(self, size: int, *, highest: bool) -> None:
        self._size, self._sign = size, 1.0 if highest else -1.0
        self._kept: NDArray[np.float64] = np.empty((0, 3))  # badness, lower row, higher row

    def add(self, part: PairBlock, wrong: NDArray[np.bool_]) -> None:
        if not self._size:
            return
        badness = self._sign * part.score.astype(np.float64)
        if len(self._kept) == self._size:
            wrong = wrong & (badness >= self._kept[-1, 0])
        chosen = np.flatnonzero(wrong)
        if not chosen.size:
            return
        low, high = np.minimum(part.first, part.second), np.maximum(part.first, part.second)
        new = np.stack([badness[chosen], low[chosen], high[chosen]], axis=1)
        both = np.concatenate([self._kept, new])
        self._kept = both[np.lexsort((both[:, 2], both[:, 1], -both[:, 0]))[: self._size]]

    def pairs(self, comparisons: Comparisons, kind: PairKind) -> list[WorstPair]:
        people = comparisons.people
        found = []
        for badness, low, high in self._kept.tolist():
            rows = int(low), int(high)
            first, second = (comparisons.names[row] for row in rows)
            one, other = ("" if people is None else str(people[row]) for row in rows)
            found.append(WorstPair(first, second, one, other, kind.name.lower(), self._sign * badness))
        return found


def _family_table(comparisons: Comparisons, images: _ImageSums, near: _FamilyScores) -> list[FamilyErrors]:
    if comparisons.people is None or comparisons.families is None:
        return []
    names, family = np.unique(comparisons.families, return_inverse=True)
    pairs, errors = (_grouped(table, family, names.size) for table in (images.pairs, images.errors))
    num_images = np.bincount(family, minlength=names.size)
    aucs = near.auc_of(family)
    members: list[list[str]] = [[] for _ in names]
    for person, number in sorted({*zip(comparisons.people.tolist(), family.tolist(), strict=True)}):
        members[number].append(person)
    genuine, twin = PairKind.GENUINE, PairKind.TWIN
    return [
        FamilyErrors(
            family=str(name),
            people=members[number],
            num_images=int(num_images[number]),
            num_twin=int(pairs[twin, number]) // 2,
            num_twin_false_matches=int(errors[twin, number]) // 2,
            num_genuine=int(pairs[genuine, number]) // 2,
            num_false_non_matches=int(errors[genuine, number]) // 2,
            twin_auc=aucs.get(number),
        )
        for number, name in enumerate(names)
    ]


def _person_table(comparisons: Comparisons, images: _ImageSums) -> list[PersonErrors]:
    if comparisons.people is None:
        return []
    names, first, person = np.unique(comparisons.people, return_index=True, return_inverse=True)
    unrelated = [PairKind.UNRELATED, PairKind.OTHER]
    sums = {
        name: _grouped(table, person, names.size)
        for name, table in (("pairs", images.pairs), ("errors", images.errors), ("scores", images.scores))
    }
    pairs, errors, scores = sums["pairs"], sums["errors"], sums["scores"]
    num_images = np.bincount(person, minlength=names.size)
    others = images.pairs[unrelated].sum(0)
    zoo = animals(
        Individual(
            genuine=image_jackknife(
                images.scores[PairKind.GENUINE], images.pairs[PairKind.GENUINE], person, shared=True
            ),
            impostor=image_jackknife(images.scores[unrelated].sum(0), others, person, shared=False),
            false_matches=image_jackknife(images.errors[unrelated].sum(0), others, person, shared=False),
        )
    )
    genuine, twin = PairKind.GENUINE, PairKind.TWIN
    return [
        PersonErrors(
            person=str(name),
            family="" if comparisons.families is None else str(comparisons.families[first[number]]),
            num_images=int(num_images[number]),
            num_genuine=int(pairs[genuine, number]) // 2,
            num_false_non_matches=int(errors[genuine, number]) // 2,
            num_twin=int(pairs[twin, number]),
            num_twin_false_matches=int(errors[twin, number]),
            num_unrelated=int(pairs[unrelated, number].sum()),
            num_unrelated_false_matches=int(errors[unrelated, number].sum()),
            mean_genuine=_mean(scores[genuine, number], pairs[genuine, number]),
            mean_impostor=_mean(scores[1:, number].sum(), pairs[1:, number].sum()),
            animal=zoo[number],
        )
        for number, name in enumerate(names)
    ]


def _grouped(table: NDArray[Any], group: NDArray[np.intp], num_groups: int) -> NDArray[Any]:
    """(K, N) per image to (K, groups)."""
    out = np.zeros((len(table), num_groups), table.dtype)
    for row, values in zip(out, table, strict=True):
        np.add.at(row, group, values)
    return out


def _mean(total: float, count: int) -> float | None:
    """A genuine pair counts twice in both, which cancels."""
    return float(total / count) if count else None
