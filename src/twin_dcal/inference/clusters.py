"""Photographs grouped into people: agglomerative clustering at the model's threshold. numpy only.

Legend: N photographs. Two groups are as alike as their photographs are on average (average linkage, UPGMA).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.listing import find_images
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.metrics.fusion import Fusion, similarity_matrix
from twin_dcal.plural import plural

from .aligning import FaceInfo
from .deciding import checked_similarity
from .given import as_path, as_pictures
from .pictures import Picture, path_of
from .records import Records

if TYPE_CHECKING:
    from .engine import TwinInferenceEngine

MAX_IMAGES = 10_000
"""Their similarities take 800 MB, and time grows with the square of their number."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of photographs, the largest first; of as large ones the one whose first photograph comes first.

    paths: of the photographs that were grouped (None for one without). labels (N,): the group of each. similarity: of
    each group, of its photographs with each other on average, None for one alone; nearest: with the group most like it,
    None where there is no other; nearest_group: the number of that. left_out: why others are not grouped.
    """

    paths: tuple[str | None, ...]
    labels: NDArray[np.intp]
    similarity: tuple[float | None, ...]
    nearest: tuple[float | None, ...]
    threshold: float
    left_out: tuple[str, ...]
    nearest_group: tuple[int | None, ...]

    @property
    def groups(self) -> list[list[int]]:
        """Numbers of the photographs of each group."""
        return [np.flatnonzero(self.labels == number).tolist() for number in range(len(self.similarity))]

    def records(self) -> Records:
        """A row for each photograph: cluster, image, and the similarity and nearest of its cluster."""
        return Records(
            {"cluster": number, "image": self.paths[row], "similarity": self.similarity[number],
             "nearest": self.nearest[number]}
            for number, rows in enumerate(self.groups) for row in rows
        )  # fmt: skip


def cluster(engine: "TwinInferenceEngine", images: Any, threshold: float | None = None) -> Clusters:
    """Groups of pictures (see `TwinInferenceEngine.cluster`)."""
    at = engine.threshold if threshold is None else checked_similarity(threshold)
    given = find_images(as_path(images, "images")) if isinstance(images, str | Path) else as_pictures(images)
    if not 2 <= len(given) <= MAX_IMAGES:
        raise ConfigError(f"{plural(len(given), 'picture')} to group; give 2 to {MAX_IMAGES:,}")
    pictures = [Picture(image, called=f"image {number}") for number, image in enumerate(given)]
    features, seen = engine.embedder(pictures, on_error="entry")
    used = [row for row, info in enumerate(seen) if isinstance(info, FaceInfo)]
    left_out = tuple(info for info in seen if isinstance(info, str))
    if not used:
        raise ManifestError(f"none of {plural(len(given), 'picture')} can be used; first: {left_out[0]}")
    return grouped(features[used], [path_of(given[row]) for row in used], at, engine.source.fusion, left_out)


def grouped(
    features_NE: NDArray[np.float32], paths: Sequence[str | None], threshold: float, fusion: Fusion | None,
    left_out: Sequence[str] = (),
) -> Clusters:  # fmt: skip
    """Groups of photographs by their features, at least one. Args: paths: of the photographs, None for one without;
    fusion: what makes a similarity of two features, None for their cosine; left_out: why others have no features."""
    scores = np.asarray(similarity_matrix(features_NE, features_NE, fusion), np.float64)
    labels = linked(scores, threshold)
    means = _between(scores, labels)
    within, others = np.diag(means).copy(), means.copy()
    np.fill_diagonal(others, -np.inf)
    sizes = np.bincount(labels)
    for number, size in enumerate(sizes.tolist()):  # without each photograph with itself
        rows = np.flatnonzero(labels == number)
        own = np.trace(scores[np.ix_(rows, rows)])
        within[number] = (within[number] * size**2 - own) / (size * (size - 1)) if size > 1 else np.nan
    nearest = others.max(axis=1)
    return Clusters(
        tuple(paths), labels, _known(within), _known(nearest), threshold, tuple(left_out),
        tuple(others.argmax(axis=1).tolist()) if len(others) > 1 else (None,),
    )  # fmt: skip


def linked(scores_NN: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Labels (N,) of average linkage: the two most alike groups are joined as long as they are at least so alike.

    By a chain of nearest neighbours (Murtagh 1983), which finds the same tree in time N²: with average linkage, what is
    joined is never more alike to a third group than both of its parts, so that two groups that are each other's nearest
    stay so. Groups are numbered by falling size, then by their first member.
    """
    similarity = scores_NN.astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    total = len(similarity)
    sizes, group_of = np.ones(total), np.arange(total)
    alive = np.ones(total, bool)
    chain: list[int] = []
    while True:
        if not chain:
            left = np.flatnonzero(alive)
            if not left.size:
                break
            chain.append(int(left[0]))
        last = chain[-1]
        row = np.where(alive, similarity[last], -np.inf)
        best = int(row.argmax())
        if row[best] < threshold:  # nothing joins it, nor whoever is left in the chain by it
            alive[last] = False
            chain.pop()
            continue
        if len(chain) > 1 and row[chain[-2]] >= row[best]:
            other = chain[-2]
            del chain[-2:]
            joined = (sizes[last] * similarity[last] + sizes[other] * similarity[other]) / (
                sizes[last] + sizes[other]
            )
            similarity[last], similarity[:, last] = joined, joined
            similarity[last, last] = -np.inf
            sizes[last] += sizes[other]
            alive[other] = False
            group_of[group_of == other] = last
        else:
            chain.append(best)
    names, first, counts = np.unique(group_of, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty(names.size, np.intp)
    rank[order] = np.arange(names.size)
    return np.asarray(rank[np.searchsorted(names, group_of)])


def _between(scores_NN: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """(G, G) means of the scores between groups."""
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    sums_GN = np.add.reduceat(scores_NN[order], starts, axis=0)
    return np.asarray(np.add.reduceat(sums_GN[:, order], starts, axis=1) / np.outer(sizes, sizes))


def _known(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)
