"""Who looks like whom: identity means, mutual neighbours, and a matching of largest weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.metrics.pairs import normalize_rows
from twin_dcal.plural import plural

Vectors = NDArray[np.float32]

MANY = 50_000
"""People from which on neighbours are searched with FAISS."""
_BLOCK = 2048
_UNIT = 1_000_000  # cosines become whole numbers for the matching


@dataclass(frozen=True)
class Limits:
    """neighbours: how many of each person's nearest count; at or above max_cosine two ids are rather one person.

    ConfigError for values that exclude everything.
    """

    neighbours: int = 10
    min_cosine: float = 0.0
    max_cosine: float = 1.0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ConfigError(f"neighbours {self.neighbours}: use 1 or more")
        if not -1 <= self.min_cosine < self.max_cosine <= 1:
            raise ConfigError(
                f"cosines from {self.min_cosine:g} to {self.max_cosine:g}: give -1 <= min_cosine < max_cosine <= 1"
            )


@dataclass(frozen=True)
class Pair:
    """Two people, the first id smaller, and the cosine of their means."""

    one: str
    other: str
    cosine: float


@dataclass(frozen=True)
class LookAlikes:
    """pairs: disjoint, by falling cosine. suspects: neighbours at or above max_cosine, perhaps one person each."""

    pairs: tuple[Pair, ...]
    suspects: tuple[Pair, ...]
    num_people: int


def identity_means(vectors_NE: Vectors, people: Sequence[str]) -> tuple[list[str], Vectors]:
    """Ids, sorted, and a unit vector for each: the mean of a person's unit vectors.

    MetricError for a person whose vectors cancel out.
    """
    ids, owner = np.unique(np.asarray(people, np.str_), return_inverse=True)
    units = normalize_rows(vectors_NE)
    means = np.zeros((ids.size, vectors_NE.shape[1]), np.float64)
    np.add.at(means, owner, units)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if (lengths < 1e-6).any():
        raise MetricError(
            f"the vectors of person '{ids[int(lengths.argmin())]}' cancel out: no mean to compare"
        )
    return ids.tolist(), np.asarray(means / lengths, np.float32)


def find_lookalikes(
    ids: Sequence[str], means_PE: Vectors, limits: Limits, top: int | None = None
) -> LookAlikes:
    """Disjoint pairs of mutual neighbours with the largest sum of cosines; of these the `top` most alike.

    Mutual: each is among the other's `limits.neighbours` nearest. Args: means: unit vectors (P, E).
    ConfigError for fewer than 2 people, or top < 1.
    """
    if len(ids) < 2 or (top is not None and top < 1):
        raise ConfigError(
            f"{plural(len(ids), 'person', 'people')}, top {top}: look-alikes need 2 people or more, and top 1 or more"
        )
    nearest = _nearest(means_PE, min(limits.neighbours, len(ids) - 1))
    first, second = _mutual(nearest)
    cosines = np.einsum("pe,pe->p", means_PE[first], means_PE[second])
    alike = cosines >= limits.max_cosine
    usable = (cosines >= limits.min_cosine) & ~alike
    suspects = _pairs(ids, first[alike], second[alike], cosines[alike])
    kept = _matched(len(ids), first[usable], second[usable], cosines[usable])
    pairs = _pairs(ids, first[usable][kept], second[usable][kept], cosines[usable][kept])
    return LookAlikes(pairs[:top], suspects, len(ids))


def _nearest(means_PE: Vectors, count: int) -> NDArray[np.intp]:
    """(P, count) rows of the nearest others."""
    if len(means_PE) > MANY:
        return _nearest_by_faiss(means_PE, count)
    nearest = np.empty((len(means_PE), count), np.intp)
    for start in range(0, len(means_PE), _BLOCK):
        cosines = means_PE[start : start + _BLOCK] @ means_PE.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        nearest[start : start + _BLOCK] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return nearest


def _nearest_by_faiss(means_PE: Vectors, count: int) -> NDArray[np.intp]:
    try:
        faiss = import_module("faiss")
    except ImportError:
        raise ConfigError(
            f"{len(means_PE):,} people: above {MANY:,} neighbours are searched with FAISS: "
            "pip install 'twin-dcal[faiss]'"
        ) from None
    index = faiss.IndexFlatIP(means_PE.shape[1])
    index.add(means_PE)
    found = np.asarray(index.search(means_PE, count + 1)[1], np.intp)
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True  # copies of one vector may hide a row from itself
    return np.asarray(found[~own].reshape(len(found), count), np.intp)


def _mutual(nearest_PK: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (first < second) of people who are among each other's nearest, in order."""
    num_people, count = nearest_PK.shape
    one = np.repeat(np.arange(num_people), count)
    other = nearest_PK.ravel()
    codes, seen = np.unique(np.minimum(one, other) * num_people + np.maximum(one, other), return_counts=True)
    mutual = codes[seen == 2]
    return mutual // num_people, mutual % num_people


def _matched(
    num_people: int, first: NDArray[np.intp], second: NDArray[np.intp], cosines: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Which of the candidate pairs are in a matching of largest total cosine (Edmonds' blossoms, from rustworkx)."""
    try:
        rustworkx = import_module("rustworkx")
    except ImportError:
        raise ConfigError("matching people needs rustworkx: pip install 'twin-dcal[lookalikes]'") from None
    weights = np.rint((cosines.astype(np.float64) + 1) * _UNIT).astype(np.int64)  # all positive
    number = {(int(a), int(b)): at for at, (a, b) in enumerate(zip(first, second, strict=True))}
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(num_people))
    graph.add_edges_from([(a, b, int(weights[at])) for (a, b), at in number.items()])
    chosen = rustworkx.max_weight_matching(graph, weight_fn=int)
    return np.array(sorted(number[min(pair), max(pair)] for pair in chosen), np.intp)


def _pairs(
    ids: Sequence[str], first: NDArray[np.intp], second: NDArray[np.intp], cosines: NDArray[np.float32]
) -> tuple[Pair, ...]:
    found = [
        Pair(min(ids[a], ids[b]), max(ids[a], ids[b]), float(cosine))
        for a, b, cosine in zip(first.tolist(), second.tolist(), cosines.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.cosine, pair.one, pair.other)))
