"""Pair scores: cosines of embeddings, kept apart by kind of pair (docs/metrics.md).

Legend: N images, D embedding width, P pairs. A score is a cosine in [-1, 1], float32, higher = more alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.plural import plural

from .fusion import Fusion, similarity_matrix, similarity_rows

Scores = NDArray[np.float32]

PAIRS_AT_ONCE = 16_384


class PairKind(IntEnum):
    """What a pair is. The kinds are never mixed silently."""

    GENUINE = 0
    """Two images of one person."""
    TWIN = 1
    """Two people of one family."""
    UNRELATED = 2
    """Two people of two families."""
    OTHER = 3
    """Two people, no family information (a plain pairs file)."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """One float32 array per kind of pair, each one-dimensional and possibly empty.

    Field names are the lower-case names of PairKind. MetricError for anything but one-dimensional float32.
    """

    genuine: Scores
    twin: Scores
    unrelated: Scores
    other: Scores

    def __post_init__(self) -> None:
        for kind in PairKind:
            array = self.of(kind)
            if array.ndim != 1 or array.dtype != np.float32:
                raise MetricError(
                    f"PairScores.{kind.name.lower()}: expected a one-dimensional float32 array, given shape "
                    f"{array.shape} of type {array.dtype}. Use np.asarray(values, np.float32).ravel()."
                )

    def of(self, kind: PairKind) -> Scores:
        """The scores of one kind of pair."""
        scores: Scores = getattr(self, kind.name.lower())
        return scores

    @property
    def impostors(self) -> Scores:
        """Scores of all impostors: twin, unrelated, other, in this order (no copy of a single kind)."""
        parts = [part for part in (self.twin, self.unrelated, self.other) if part.size]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])


def normalize_rows(embeddings: ArrayLike) -> NDArray[np.float32]:
    """(N, D) embeddings to unit length, float32, in a new array.

    MetricError where a row holds NaN or infinity or has no direction (all zero), or for another shape.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise MetricError(
            f"embeddings: expected numbers of shape (images, width), given shape {array.shape} of type "
            f"{array.dtype}. Pass one row per image."
        )
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    largest = np.abs(array).max(axis=1)
    _refuse_rows(~np.isfinite(largest), "hold NaN or infinity", "Look for a diverged model or a bad image.")
    _refuse_rows(largest == 0, "are all zero and have no direction", "Leave these images out.")
    rows = np.asarray(array / largest[:, None], dtype=np.float32)  # so that squares stay in range
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return np.asarray(rows / norms[:, None], dtype=np.float32)


def pair_scores(
    embeddings: ArrayLike, first: ArrayLike, second: ArrayLike, fusion: Fusion | None = None
) -> Scores:
    """Cosines of given pairs, in the order given, or what `fusion` makes of them.

    Args: embeddings (N, D), need not be unit length; first, second (P,): row numbers, 0 to N - 1.
    Returns: (P,) float32. MetricError for row numbers out of range or of unequal count.
    """
    unit = normalize_rows(embeddings)
    left, right = row_numbers(first, len(unit)), row_numbers(second, len(unit))
    if left.size != right.size:
        raise MetricError(f"pairs: {left.size} first but {right.size} second images. Give two rows per pair.")
    scores = np.empty(left.size, np.float32)
    for start in range(0, left.size, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        scores[part] = similarity_rows(unit[left[part]], unit[right[part]], fusion)
    return np.clip(scores, -1, 1, out=scores)


def pair_kinds(
    first: ArrayLike, second: ArrayLike, person_of: ArrayLike, family_of_image: ArrayLike
) -> NDArray[np.int8]:
    """The PairKind of given pairs; (P,) int8, never OTHER.

    Args: first, second (P,): row numbers; person_of, family_of_image (N,): labels of any comparable type.
    """
    person, family = image_labels(person_of, family_of_image)
    left, right = row_numbers(first, person.size), row_numbers(second, person.size)
    kinds = np.where(family[left] == family[right], PairKind.TWIN, PairKind.UNRELATED)
    return np.where(person[left] == person[right], PairKind.GENUINE, kinds).astype(np.int8)


def split_by_kind(scores: ArrayLike, kinds: ArrayLike) -> PairScores:
    """Scores (P,) sorted into a PairScores by their kinds (P,), order kept within each."""
    values, labels = np.asarray(scores, dtype=np.float32), np.asarray(kinds)
    if values.shape != labels.shape or not np.isin(labels, list(PairKind)).all():
        raise MetricError(
            f"pairs: scores of shape {values.shape} and kinds of shape {labels.shape}. Give one PairKind "
            "(0 to 3) per score."
        )
    return PairScores(*(values[labels == kind] for kind in PairKind))


def all_pair_scores(
    embeddings: ArrayLike, person_of: ArrayLike, family_of_image: ArrayLike, block: int = 1024,
    fusion: Fusion | None = None,
) -> PairScores:  # fmt: skip
    """Cosines of all N(N-1)/2 unordered pairs of images, by kind, or what `fusion` makes of them.

    Images are put in order of family and person first, so that in every row of the score matrix the genuine,
    twin and unrelated pairs lie side by side and are copied as slices. The order within each kind is by that
    row and column, whatever the block (values may differ by rounding).

    Args: embeddings (N, D), need not be unit length; person_of, family_of_image (N,): labels of any sortable
        type; block: rows of the score matrix in memory at a time (block * N * 4 bytes beside the result).
    Returns: PairScores with `other` empty. MetricError for bad embeddings, labels of another length, or a
        person who appears in two families.
    """
    if block < 1:
        raise MetricError(f"block: {block} rows at a time is too few. Use 1 or more; 1024 is a good value.")
    person, family = image_labels(person_of, family_of_image)
    unit = normalize_rows(embeddings)
    if len(unit) != person.size:
        raise MetricError(
            f"{plural(len(unit), 'embedding')} but {plural(person.size, 'label')}. Give one label per image."
        )
    order = np.lexsort((person, family))
    person_end, family_end = run_ends(person[order]), run_ends(family[order])
    rows = np.arange(order.size)
    counts = (person_end - rows - 1, family_end - person_end, order.size - family_end)
    out = [np.empty(int(count.sum()), np.float32) for count in counts]
    filled = [0, 0, 0]
    for row, strip in _score_rows(unit[order], block, fusion):
        bounds = (row + 1, int(person_end[row]), int(family_end[row]), order.size)
        for kind, scores in enumerate(out):
            begin, end = bounds[kind] - order.size, bounds[kind + 1] - order.size  # a strip ends at column N
            size = end - begin
            scores[filled[kind] : filled[kind] + size] = strip[strip.size + begin : strip.size + end]
            filled[kind] += size
    return PairScores(out[0], out[1], out[2], np.empty(0, np.float32))


def _score_rows(unit: NDArray[np.float32], block: int, fusion: Fusion | None) -> Iterator[tuple[int, Scores]]:
    """Row number and cosines of each image to a run of images that reaches from before it to the last one."""
    for start in range(0, len(unit), block):
        strip = similarity_matrix(unit[start : start + block], unit[start:], fusion)
        np.clip(strip, -1, 1, out=strip)
        for offset, row in enumerate(strip):
            yield start + offset, row


def run_ends(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each position of an array of runs of equal labels, the position after its run."""
    last_of_run = np.flatnonzero(np.append(labels[1:] != labels[:-1], True))
    return np.repeat(last_of_run + 1, np.diff(last_of_run, prepend=-1))


def image_labels(
    person_of: ArrayLike, family_of_image: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Person and family numbers (N,), each person in one family."""
    people, families = np.asarray(person_of), np.asarray(family_of_image)
    if people.ndim != 1 or people.shape != families.shape or people.size == 0:
        raise MetricError(
            f"labels: persons of shape {people.shape} and families of shape {families.shape}. Give one of "
            "each per image."
        )
    names, person = np.unique(people, return_inverse=True)
    _, family = np.unique(families, return_inverse=True)
    first_image = np.full(names.size, -1)
    first_image[person[::-1]] = np.arange(people.size)[::-1]
    astray = np.flatnonzero(family != family[first_image[person]])
    if astray.size:
        at = int(astray[0])
        raise MetricError(
            f"person {people[at]} is in family {families[first_image[person[at]]]} and in {families[at]}. "
            "Give every image of a person the same family."
        )
    return person, family


def row_numbers(values: ArrayLike, total: int) -> NDArray[np.integer[Any]]:
    rows = np.asarray(values)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise MetricError(f"pairs: expected a list of row numbers, given {rows.dtype} of shape {rows.shape}.")
    if rows.size and (rows.min() < 0 or rows.max() >= total):
        raise MetricError(
            f"pairs: row numbers {rows.min()} to {rows.max()} for {plural(total, 'image')}. Use 0 to {total - 1}."
        )
    return rows


def _refuse_rows(bad: NDArray[np.bool_], what: str, advice: str) -> None:
    if bad.any():
        shown = ", ".join(str(row) for row in np.flatnonzero(bad)[:5])
        raise MetricError(
            f"embeddings: {int(bad.sum())} of {plural(bad.size, 'row')} {what} (row {shown}). {advice}"
        )
