"""What is compared with what: all pairs of some images, a sample of them, or a list; and folds by family.

Legend: N images, P pairs, F families. Nothing here has seen a score.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.data.findings import left_out
from twin_dcal.errors import MetricError
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.pair_stream import AllPairs, ListedPairs, PairSource
from twin_dcal.metrics.pairs import PairKind, pair_scores
from twin_dcal.plural import plural

from .failures import Failures, failures_of, images_in, number_of_pairs

Labels = NDArray[np.str_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairRows:
    """Listed pairs, (P,) each: rows of two images, PairKind (int8), and the fold, from 0 on, of a protocol that has
    its own."""

    first: Rows
    second: Rows
    kinds: NDArray[np.int8]
    folds: Rows | None = None

    def only(self, kept: NDArray[np.bool_]) -> "PairRows":
        """Some of the pairs. Args: kept (P,)."""
        folds = None if self.folds is None else self.folds[kept]
        return PairRows(self.first[kept], self.second[kept], self.kinds[kept], folds)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Images (N,) and which of them are compared.

    names: path or id of each image; people, families: labels (N,) of any text, None where unknown. pairs: None compares
    all N(N-1)/2. protocol: how the pairs came about, plain values. family_of: person to family, also of people who are
    not among these images but are known to belong to a family. warnings: what makes figures doubtful.
    failures: images and pairs that are no longer here because they failed, None where none did.
    """

    source: str
    names: Sequence[str]
    people: Labels | None
    families: Labels | None
    pairs: PairRows | None
    protocol: Mapping[str, Any]
    family_of: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failures: Failures | None = None

    def known_people(self) -> set[str]:
        """Ids of those who are compared; empty where unknown."""
        return set() if self.people is None else set(np.unique(self.people).tolist())

    def known_families(self) -> set[str]:
        return set() if self.families is None else set(np.unique(self.families).tolist())


def fingerprint(comparisons: Comparisons) -> str:
    """SHA-256 of which images are compared with which and whose they are said to be. Another choice of pairs of one
    data set has another one, and so has a list whose content changed under its name."""
    digest = hashlib.sha256()
    for labels in (comparisons.names, comparisons.people, comparisons.families):
        told = "" if labels is None else "\0".join(map(str, labels))
        digest.update(f"{len(told)} {told}".encode(errors="surrogateescape"))
    if comparisons.pairs is not None:
        pairs = comparisons.pairs
        for rows in (pairs.first, pairs.second, pairs.kinds, pairs.folds):
            digest.update(b"" if rows is None else np.ascontiguousarray(rows, np.int64).tobytes())
    return digest.hexdigest()


def pair_source(comparisons: Comparisons, vectors: ArrayLike, fusion: Fusion | None = None) -> PairSource:
    """The comparisons with their cosines, or what `fusion` makes of them.

    Args: vectors (N, D), one row per name, any length but zero.

    MetricError for bad vectors or labels (see AllPairs, ListedPairs).
    """
    if comparisons.pairs is None:
        if comparisons.people is None or comparisons.families is None:
            raise MetricError(
                f"{comparisons.source}: whose images these are is not known, so no pair is genuine or impostor. "
                "Name the data set (--data_dir or --dataset_info), or list the pairs with labels."
            )
        return AllPairs(np.asarray(vectors), comparisons.people, comparisons.families, fusion)
    first, second = comparisons.pairs.first, comparisons.pairs.second
    return listed_source(comparisons, pair_scores(vectors, first, second, fusion))


def listed_source(comparisons: Comparisons, scores: ArrayLike) -> PairSource:
    """Listed comparisons with given scores (P,)."""
    assert comparisons.pairs is not None
    pairs = comparisons.pairs
    return ListedPairs(
        scores,
        pairs.kinds,
        pairs.first,
        pairs.second,
        people=comparisons.people,
        families=comparisons.families,
    )


def keep_people(comparisons: Comparisons, people: Sequence[str]) -> Comparisons:
    """All pairs of some people's images. Only for comparisons of all pairs."""
    assert comparisons.people is not None
    rows = np.flatnonzero(np.isin(comparisons.people, list(people)))
    families = None if comparisons.families is None else comparisons.families[rows]
    return replace(
        comparisons,
        names=[comparisons.names[row] for row in rows.tolist()],
        people=comparisons.people[rows],
        families=families,
    )


def without_images(
    comparisons: Comparisons, faults: Mapping[int, str], reason: str = "cannot be read"
) -> tuple[Comparisons, Rows]:
    """The comparisons without images that failed and the pairs they are in, which `failures` and the warnings tell, and
    the rows kept.

    Args: faults: row to what is wrong with it; reason: what that is called where they are listed. MetricError if
    nothing is left to compare.
    """
    is_kept = np.ones(len(comparisons.names), bool)
    is_kept[list(faults)] = False
    rows = np.flatnonzero(is_kept)
    (found,) = left_out("image", "images", reason, [comparisons.names[row] for row in faults])
    told = found.text
    failed = np.zeros(len(PairKind), np.int64)
    if comparisons.pairs is not None:
        whole = is_kept[comparisons.pairs.first] & is_kept[comparisons.pairs.second]
        told += f"; {np.count_nonzero(~whole)} of {plural(whole.size, 'pair')} with such images"
        failed = np.bincount(comparisons.pairs.kinds[~whole], minlength=len(PairKind))
        comparisons = replace(comparisons, pairs=comparisons.pairs.only(whole))
    elif comparisons.people is not None and comparisons.families is not None:
        failed = number_of_pairs(comparisons.people, comparisons.families) - number_of_pairs(
            comparisons.people[rows], comparisons.families[rows]
        )
    if not rows.size or (comparisons.pairs is not None and not len(comparisons.pairs.kinds)):
        raise MetricError(
            f"{comparisons.source}: nothing left to compare. {told}. {next(iter(faults.values()))}"
        )
    failures = failures_of(comparisons.people, is_kept, failed, comparisons.failures)
    kept = replace(
        _of_images(comparisons, is_kept), warnings=(*comparisons.warnings, told), failures=failures
    )
    return kept, rows


def without_scores(comparisons: Comparisons, failed: NDArray[np.bool_]) -> Comparisons:
    """Listed comparisons without pairs that have no score, and without images of which no pair has one: they failed.

    Args: failed (P,), some but not all of them.
    """
    assert comparisons.pairs is not None
    scored = comparisons.pairs.only(~failed)
    is_kept = images_in((scored.first, scored.second), len(comparisons.names))
    by_kind = np.bincount(comparisons.pairs.kinds[failed], minlength=len(PairKind))
    told = (
        f"{plural(int(failed.sum()), 'pair has', 'pairs have')} no score and "
        f"{plural(int((~is_kept).sum()), 'image')} none in any pair: they count as failures to acquire"
    )
    failures = failures_of(comparisons.people, is_kept, by_kind, comparisons.failures)
    return replace(
        _of_images(replace(comparisons, pairs=scored), is_kept),
        warnings=(*comparisons.warnings, told),
        failures=failures,
    )


def _of_images(comparisons: Comparisons, is_kept: NDArray[np.bool_]) -> Comparisons:
    """The comparisons with fewer images, all of whose pairs are gone."""
    rows = np.flatnonzero(is_kept)
    pairs = comparisons.pairs
    if pairs is not None:
        place = np.cumsum(is_kept) - 1
        pairs = replace(pairs, first=place[pairs.first], second=place[pairs.second])
    return replace(
        comparisons, names=[comparisons.names[row] for row in rows.tolist()], pairs=pairs,
        people=None if comparisons.people is None else comparisons.people[rows],
        families=None if comparisons.families is None else comparisons.families[rows],
    )  # fmt: skip


def keep_images(comparisons: Comparisons, rows: Rows) -> Comparisons:
    """Some of the images, given by ascending rows, and of a list the pairs within them."""
    is_kept = np.zeros(len(comparisons.names), bool)
    is_kept[rows] = True
    if comparisons.pairs is not None:
        comparisons = replace(
            comparisons, pairs=comparisons.pairs.only(pairs_within(comparisons.pairs, rows))
        )
    return _of_images(comparisons, is_kept)


def pairs_within(pairs: PairRows, rows: Rows) -> NDArray[np.bool_]:
    """(P,) which pairs have both images among some rows."""
    is_kept = np.zeros(1 + max(int(part.max(initial=-1)) for part in (pairs.first, pairs.second, rows)), bool)
    is_kept[rows] = True
    return np.asarray(is_kept[pairs.first] & is_kept[pairs.second])


def sample_unrelated(comparisons: Comparisons, max_unrelated: int, seed: int) -> Comparisons:
    """All genuine and twin pairs, and at most `max_unrelated` unrelated ones: drawn without replacement, each
    as likely as any other.

    Comparisons that are a list, or have no more unrelated pairs than that, come back as they are.
    """
    if max_unrelated < 1:
        raise MetricError(f"--max_unrelated {max_unrelated}: keep at least 1 unrelated pair.")
    if comparisons.pairs is not None or comparisons.people is None or comparisons.families is None:
        return comparisons
    order = np.lexsort((comparisons.people, comparisons.families))
    person_end, family_end = _run_ends(comparisons.people[order]), _run_ends(comparisons.families[order])
    rows = np.arange(order.size)
    num_unrelated = order.size - family_end
    total = int(num_unrelated.sum())
    if total <= max_unrelated:
        return comparisons
    ranks = distinct_numbers(total, max_unrelated, np.random.default_rng((seed, 0)))
    begins = np.concatenate([[0], np.cumsum(num_unrelated)])
    row = np.searchsorted(begins, ranks, side="right") - 1
    parts = [
        (*_runs(rows + 1, person_end), PairKind.GENUINE),
        (*_runs(person_end, family_end), PairKind.TWIN),
        (row, family_end[row] + (ranks - begins[row]), PairKind.UNRELATED),
    ]
    pairs = PairRows(
        first=order[np.concatenate([first for first, _, _ in parts])],
        second=order[np.concatenate([second for _, second, _ in parts])],
        kinds=np.repeat(np.array([kind for *_, kind in parts], np.int8), [len(first) for first, *_ in parts]),
    )
    protocol = {
        **comparisons.protocol,
        "name": "sampled",
        "max_unrelated": max_unrelated,
        "of_unrelated": total,
        "seed": seed,
    }
    return replace(comparisons, pairs=pairs, protocol=protocol)


def distinct_numbers(total: int, size: int, rng: np.random.Generator) -> Rows:
    """`size` distinct whole numbers below `total`, ascending, every such set alike; memory grows with `size` only.

    Numbers are drawn until enough differ; then a random part of the surplus is dropped.
    """
    if 2 * size > total:
        return np.sort(rng.permutation(total)[:size]) if size else np.empty(0, np.int64)
    drawn = np.empty(0, np.int64)
    while drawn.size < size:
        missing = size - drawn.size
        drawn = np.union1d(drawn, rng.integers(total, size=missing + missing // 8 + 16))
    surplus = drawn.size - size
    return np.delete(drawn, rng.choice(drawn.size, surplus, replace=False)) if surplus else drawn


def family_folds(
    families: ArrayLike, people: ArrayLike | None, num_folds: int, seed: int
) -> NDArray[np.intp]:
    """A fold 0 … num_folds - 1 for every image (N,); a family is never split.

    Families are shuffled and dealt out in turn, those of several people first, so that each fold has its share of
    twins. MetricError for fewer than 2 folds or fewer than 2 families a fold.
    """
    names, family = np.unique(np.asarray(families), return_inverse=True)
    if num_folds < 2 or 2 * num_folds > names.size:
        raise MetricError(
            f"{num_folds} folds of {names.size} families: use 2 folds or more, and no more than {names.size // 2}, so "
            "that each has two families."
        )
    num_people = np.ones(names.size, np.intp)
    if people is not None:
        _, person = np.unique(np.asarray(people), return_inverse=True)
        members = np.unique(np.stack([family, person]), axis=1)
        num_people = np.bincount(members[0], minlength=names.size)
    shuffled = np.random.default_rng((seed, 1)).permutation(names.size)
    dealt = shuffled[np.argsort(num_people[shuffled] < 2, kind="stable")]
    fold_of_family = np.empty(names.size, np.intp)
    fold_of_family[dealt] = np.arange(names.size) % num_folds
    return np.asarray(fold_of_family[family])


def _runs(begin: Rows, end: Rows) -> tuple[Rows, Rows]:
    """Pairs (row, column) of columns begin[row] … end[row] - 1 of every row."""
    counts = end - begin
    row = np.repeat(np.arange(begin.size), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return row, np.arange(row.size) - before + begin[row]


def _run_ends(labels: Labels) -> Rows:
    """For each position of an array of runs of equal labels, the position after its run."""
    last_of_run = np.flatnonzero(np.append(labels[1:] != labels[:-1], True))
    return np.repeat(last_of_run + 1, np.diff(last_of_run, prepend=-1))
