"""Which pairs a study of explanations looks at, and where their people truly differ, if that is known. No torch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin_dcal.edits import truth as edits_truth
from twin_dcal.edits.folder import SETTINGS_NAME as EDITED_NAME
from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.protocol import Comparisons
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.synth.folder import SETTINGS_NAME
from twin_dcal.synth.photo import Photo
from twin_dcal.synth.truth import Shot, Truth, read_truth

logger = logging.getLogger(__name__)

Map = NDArray[np.floating]

KINDS = ("twin", "genuine")


@dataclass(frozen=True)
class StudyPair:
    """Two image files; kind: "twin" or "genuine" ("impostor" where twins are unknown); family: their unit."""

    first: str
    second: str
    kind: str
    family: str


Differences = tuple[tuple[Map, Map], tuple[Map, Map]]
"""Of each whole picture (H, W): how much the two faces differ at each pixel, and how much of it is face."""


class KnownTruth(Protocol):
    """The true difference of any two photos of a family."""

    def pose_apart(self, first: str, second: str) -> float:
        """Yaw and pitch between two photos, radians; infinite for photos of another set."""
        ...

    def differences(self, pair: StudyPair) -> Differences | None:
        """None for photos of another set."""
        ...


class DrawnTruth:
    """That of SynTwins."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self._shots = {str((truth.folder / shot.path).resolve()): shot for shot in truth.shots}

    def shot(self, path: str) -> Shot | None:
        return self._shots.get(str(Path(path).resolve()))

    def pose_apart(self, first: str, second: str) -> float:
        shots = self.shot(first), self.shot(second)
        if shots[0] is None or shots[1] is None:
            return float("inf")
        one, two = (self.truth.photo(shot) for shot in shots if shot is not None)
        return _apart(one, two)

    def differences(self, pair: StudyPair) -> Differences | None:
        one, two = self.shot(pair.first), self.shot(pair.second)
        if one is None or two is None:
            return None
        members = self.truth.members(one.family)
        faces = self.truth.face(one, members), self.truth.face(two, members)
        apart = self.truth.differs(one, members, two.twin), self.truth.differs(two, members, one.twin)
        return (apart[0] * faces[0], apart[1] * faces[1]), faces


class EditedTruth:
    """That of twins edited from photographs."""

    def __init__(self, truth: edits_truth.Truth) -> None:
        self.truth = truth
        self._shots = {str((truth.folder / shot.path).resolve()): shot for shot in truth.shots}

    def shot(self, path: str) -> edits_truth.Shot | None:
        return self._shots.get(str(Path(path).resolve()))

    def pose_apart(self, first: str, second: str) -> float:
        one, two = self.shot(first), self.shot(second)
        if one is None or two is None:
            return float("inf")
        return float(np.radians(np.hypot(one.yaw - two.yaw, one.pitch - two.pitch)))

    def differences(self, pair: StudyPair) -> Differences | None:
        one, two = self.shot(pair.first), self.shot(pair.second)
        if one is None or two is None or one.source_person != two.source_person:
            return None
        faces = self.truth.face(one), self.truth.face(two)
        apart = self.truth.differs(one, two.person), self.truth.differs(two, one.person)
        return (apart[0] * faces[0], apart[1] * faces[1]), faces


def find_truth(comparisons: Comparisons) -> KnownTruth | None:
    """The truth behind a set of SynTwins or of edited twins, None for any other data."""
    source = Path(comparisons.source)
    for folder in (source, source.parent, source.parent.parent):
        try:
            if (folder / SETTINGS_NAME).is_file():
                return DrawnTruth(read_truth(folder))
            if (folder / EDITED_NAME).is_file():
                return EditedTruth(edits_truth.read_truth(folder))
        except ConfigError as error:
            logger.warning("no pointing game: %s", error)
    return None


def choose_pairs(
    comparisons: Comparisons, num_pairs: int, seed: int, truth: KnownTruth | None
) -> list[StudyPair]:
    """Half of them twins (or impostors, where twins are unknown), half genuine, going round the families.

    Twins whose pose is most alike come first where it is known; everything else is drawn at random. An image is in one
    pair of a kind at most, until a family has no other.
    """
    rng = np.random.default_rng((seed, 7))
    queues = {kind: _queues(comparisons, kind, rng, truth) for kind in KINDS}
    if not queues["twin"]:
        queues["twin"] = _queues(comparisons, "impostor", rng, None)
    chosen: list[StudyPair] = []
    for kind in KINDS:
        share = num_pairs // 2 if kind == "genuine" else num_pairs - num_pairs // 2
        chosen += _round_robin(queues[kind], share)
    return chosen


def _queues(
    comparisons: Comparisons, kind: str, rng: np.random.Generator, truth: KnownTruth | None
) -> list[list[StudyPair]]:
    """For each family, in random order, its pairs of a kind in the order they are taken."""
    by_family: dict[str, list[tuple[str, str]]] = {}
    for family, first, second in _candidates(comparisons, kind):
        by_family.setdefault(family, []).append((first, second))
    queues = []
    for family in sorted(by_family):
        pairs = by_family[family]
        pairs = [pairs[index] for index in rng.permutation(len(pairs))]
        if kind == "twin" and truth is not None:
            pairs.sort(key=lambda pair: truth.pose_apart(*pair))
        queues.append([StudyPair(*pair, kind, family) for pair in _fresh_first(pairs)])
    return [queues[index] for index in rng.permutation(len(queues))]


def _candidates(comparisons: Comparisons, kind: str) -> Iterator[tuple[str, str, str]]:
    """(family, first, second) of every pair of a kind that is compared."""
    if comparisons.pairs is not None:
        wanted = {"genuine": (PairKind.GENUINE,), "twin": (PairKind.TWIN,)}.get(
            kind, (PairKind.OTHER, PairKind.UNRELATED)
        )
        for row in np.flatnonzero(np.isin(comparisons.pairs.kinds, wanted)).tolist():
            first, second = int(comparisons.pairs.first[row]), int(comparisons.pairs.second[row])
            family = (
                comparisons.names[first] if comparisons.families is None else str(comparisons.families[first])
            )
            yield family, comparisons.names[first], comparisons.names[second]
        return
    assert comparisons.people is not None
    assert comparisons.families is not None
    order = np.argsort(comparisons.families, kind="stable")
    starts = np.flatnonzero(
        np.append(True, comparisons.families[order][1:] != comparisons.families[order][:-1])
    )
    for rows in np.split(order, starts[1:]):
        for at, first in enumerate(rows.tolist()):
            for second in rows[at + 1 :].tolist():
                if (comparisons.people[first] == comparisons.people[second]) == (
                    kind == "genuine"
                ) and kind != "impostor":
                    yield (
                        str(comparisons.families[first]),
                        comparisons.names[first],
                        comparisons.names[second],
                    )


def _fresh_first(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same pairs, those whose images have not been used yet before the others."""
    used: set[str] = set()
    fresh: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for pair in pairs:
        (rest if used & set(pair) else fresh).append(pair)
        if fresh and fresh[-1] is pair:
            used |= set(pair)
    return fresh + rest


def _round_robin(queues: Sequence[Sequence[StudyPair]], count: int) -> list[StudyPair]:
    taken: list[StudyPair] = []
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if len(taken) == count:
                return taken
            if turn < len(queue):
                taken.append(queue[turn])
    return taken


def _apart(one: Photo, two: Photo) -> float:
    return abs(one.yaw - two.yaw) + abs(one.pitch - two.pitch)
