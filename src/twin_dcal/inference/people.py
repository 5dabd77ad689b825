"""Who is enrolled, and how alike somebody is to each of them. No torch here.

Legend: P people, E feature width.
"""

from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.families import connected_families
from twin_dcal.errors import ConfigError
from twin_dcal.metrics.fusion import Fusion, similarity_matrix, similarity_rows
from twin_dcal.metrics.templates import fused_features
from twin_dcal.spelling import nearest

from .aligning import FaceInfo
from .gallery_file import Stored, check_person
from .shortlist import MANY, MOST_HITS, Shortlist, installed
from .templates import Fuse, Side

_NOT_COMPARED = -np.inf


class People:
    """The people of a gallery by name (P,), each called by a number below. Made anew when what is stored changes."""

    def __init__(self, stored: Stored, fusion: Fusion | None) -> None:
        rows: dict[str, list[int]] = {}
        for row, each in enumerate(stored.photographs):
            rows.setdefault(each.person, []).append(row)
        self.names = sorted(rows)
        self.rows = [np.array(rows[name], np.intp) for name in self.names]
        """Rows of each person's photographs."""
        self._stored, self._fusion = stored, fusion
        self._means: dict[Fuse, NDArray[np.float32]] = {}
        self._shortlists: dict[Fuse, Shortlist] = {}

    def number(self, person: str) -> int:
        """ConfigError, with the nearest name, for one who is not enrolled."""
        check_person(person)
        at = bisect_left(self.names, person)
        if at == len(self.names) or self.names[at] != person:
            raise ConfigError(f"nobody is enrolled as '{person}'{nearest(person, self.names)}")
        return at

    def side(self, name: str, number: int) -> Side:
        """The photographs of a person; of their faces the quality is known alone."""
        rows = self.rows[number]
        chosen = [self._stored.photographs[row] for row in rows.tolist()]
        seen = [FaceInfo(None if each.quality is None else {"quality": each.quality}) for each in chosen]
        return Side(name, [each.path for each in chosen], self._stored.features[rows], seen)

    def twins_of(self, number: int) -> list[int]:
        """Enrolled people of the same family, by name."""
        return [each for each in self._family.get(number, []) if each != number]

    @cached_property
    def _family(self) -> dict[int, list[int]]:
        """Everybody of each one's family, of those who have one."""
        families: dict[str, list[int]] = {}
        enrolled = {name: number for number, name in enumerate(self.names)}
        for name, family in sorted(connected_families(self._stored.twins).items()):
            if name in enrolled:
                families.setdefault(family, []).append(enrolled[name])
        return {number: members for members in families.values() for number in members}

    def shortlist(self, side: Side, fuse: Fuse, top: int) -> NDArray[np.intp] | None:
        """Those among whom the `top` most alike nearly always are, with their known twins, sorted. None where everybody
        is to be compared: few people, no FAISS, or no mean feature whose cosine is the score."""
        many = len(self.names) >= MANY and top <= MOST_HITS
        faiss = installed() if many and fuse in ("quality", "mean") and self._fusion is None else None
        if faiss is None:
            return None
        if fuse not in self._shortlists:
            self._shortlists[fuse] = Shortlist(self._means_of(fuse), faiss)
        found = self._shortlists[fuse].of(self._query(side, fuse))
        twins = [twin for number in found.tolist() for twin in self.twins_of(number)]
        return np.union1d(found, np.array(twins, np.intp))

    def scores(self, side: Side, fuse: Fuse, among: Iterable[int] | None = None) -> NDArray[np.float32]:
        """(P,) similarity of a side to everybody, or to people `among` only; of others minus infinity. A score is the
        same, to the last digit, whoever else is compared."""
        numbers = slice(None) if among is None else np.array(list(among), np.intp)
        found = np.full(len(self.names), _NOT_COMPARED, np.float32)
        if fuse in ("quality", "mean"):
            scored = _similarities(self._query(side, fuse), self._means_of(fuse)[numbers], self._fusion)
        else:
            of_all = similarity_matrix(side.features, self._stored.features, self._fusion)
            taken = np.max if fuse == "max" else np.mean
            scored = np.array([taken(of_all[:, rows]) for rows in self.rows], np.float32)[numbers]
        found[numbers] = np.clip(scored, -1, 1)
        return found

    def _query(self, side: Side, fuse: Fuse) -> NDArray[np.float32]:
        return fused_features(side.features, side.weights(fuse), self._fusion)

    def _means_of(self, fuse: Fuse) -> NDArray[np.float32]:
        """(P, E) mean features of everybody."""
        if fuse not in self._means:
            means = self._stored.features[[rows[0] for rows in self.rows]]
            for number, rows in enumerate(self.rows):
                if len(rows) > 1:
                    means[number] = self._query(self.side("", number), fuse)
            self._means[fuse] = means
        return self._means[fuse]


def _similarities(
    query_E: NDArray[np.float32], means_PE: NDArray[np.float32], fusion: Fusion | None
) -> NDArray[np.float32]:
    """Row by row: how a product of matrices rounds depends on their shapes, and so on who else is compared."""
    return similarity_rows(np.broadcast_to(query_E, means_PE.shape), means_PE, fusion)


def most_alike(scores_P: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Numbers of the highest scores, the highest first, of equal ones the lower number; minus infinity is no score."""
    numbers = np.flatnonzero(scores_P > _NOT_COMPARED)
    if count < numbers.size:
        scores = scores_P[numbers]
        numbers = numbers[scores >= np.partition(scores, scores.size - count)[scores.size - count]]
    return numbers[np.lexsort((numbers, -scores_P[numbers]))][:count]
