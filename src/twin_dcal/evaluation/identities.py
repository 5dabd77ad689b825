"""Whose images are compared: people and families of comparisons, from a data set, a list, folders or twin pairs."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.families import connected_families, read_twin_pairs, with_siblings
from twin_dcal.data.findings import first_few
from twin_dcal.data.pairs import PairList
from twin_dcal.data.twin_ids import fit_pairs
from twin_dcal.errors import ManifestError, MetricError
from twin_dcal.metrics.pairs import PairKind, pair_kinds
from twin_dcal.plural import plural

from .protocol import Comparisons, PairRows

logger = logging.getLogger(__name__)

NAME_IT = "Name the data set: --data_dir, or --dataset_info with --twin_pairs."


def named_twin_files(twin_pairs: str | None) -> list[Path]:
    """The file of twin pairs, with those of the other splits if it is one of a series; [] for None."""
    return [] if twin_pairs is None else with_siblings(Path(twin_pairs).expanduser())


def images_missing(comparisons: Comparisons, data: Comparisons) -> list[str]:
    """Images of a list that a data set does not have."""
    known = {real_name(name) for name in data.names}
    return [name for name in comparisons.names if real_name(name) not in known]


def with_labels(comparisons: Comparisons, pairs: PairList, data: Comparisons) -> Comparisons:
    """Listed pairs with the people and families of a data set. ManifestError where they contradict the labels."""
    assert data.people is not None
    assert data.families is not None
    missing = images_missing(comparisons, data)
    if missing:
        raise ManifestError(
            f"{plural(len(missing), 'image')} of {comparisons.source} not in the data set {data.source}, "
            f"first: {missing[0]}. "
            "Name the data set that has all."
        )
    number = {real_name(name): index for index, name in enumerate(data.names)}
    rows = np.array([number[real_name(name)] for name in comparisons.names])
    known = replace(comparisons, family_of=data.family_of, warnings=data.warnings)
    return _with_identities(known, pairs, data.people[rows], data.families[rows], f"data set {data.source}")


def with_people(
    comparisons: Comparisons, pairs: PairList, people: Sequence[str], twin_files: Sequence[Path]
) -> Comparisons:
    """Listed pairs with people named by the list or by folders, and their families. ManifestError where people
    contradict the labels, or no twin pair fits them."""
    family_of, warnings = _families_by(twin_files, people)
    families = np.array([family_of.get(person, person) for person in people], dtype=np.str_)
    known = replace(comparisons, family_of=family_of, warnings=warnings)
    return _with_identities(known, pairs, np.array(people, dtype=np.str_), families, "people by name")


def _families_by(twin_files: Sequence[Path], people: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Person to family, and a warning for ids that nearly mean somebody. ManifestError where no pair fits."""
    fit = fit_pairs(read_twin_pairs(twin_files).pairs, people)
    file = ", ".join(map(str, twin_files))
    fit.refuse_misfits(file, whole=False)
    if not fit.near:  # pairs of people who are not compared are rightly unknown
        return connected_families(fit.pairs), ()
    told = first_few(fit.described()[: len(fit.near)])
    warning = f"{file}: {plural(len(fit.near), 'id fits', 'ids fit')} nobody: {told}; their twins count as strangers"
    logger.warning("%s", warning)
    return connected_families(fit.pairs), (warning,)


def _with_identities(
    comparisons: Comparisons, pairs: PairList, people: NDArray[np.str_], families: NDArray[np.str_], by: str
) -> Comparisons:
    kinds = pair_kinds(pairs.first, pairs.second, people, families)
    wrong = np.flatnonzero((kinds == PairKind.GENUINE) != pairs.same)
    if wrong.size:
        first, second = (pairs.paths[index[wrong[0]]] for index in (pairs.first, pairs.second))
        raise ManifestError(
            f"{comparisons.source}: {plural(wrong.size, 'label contradicts', 'labels contradict')} the {by}, first: "
            f"{first} and {second}"
        )
    rows = PairRows(pairs.first, pairs.second, kinds, pairs.folds)
    return replace(comparisons, people=people, families=families, pairs=rows)


def with_twins(comparisons: Comparisons, twin_pairs: str | None) -> Comparisons:
    """The same with families by a file of twin pairs, where one is named. MetricError where people are not known or the
    file's own families say otherwise, ManifestError where no pair fits."""
    if twin_pairs is None:
        return comparisons
    if comparisons.people is None:
        raise MetricError(
            f"{comparisons.source}: {twin_pairs} names people, and it does not say whose images are. {NAME_IT}"
        )
    labels = comparisons.people
    family_of, warnings = _families_by(named_twin_files(twin_pairs), comparisons.known_people())
    comparisons = replace(comparisons, family_of=family_of, warnings=warnings)
    people = labels.tolist()
    if comparisons.families is not None:
        own = dict(zip(people, comparisons.families.tolist(), strict=True))
        families_of: dict[str, set[str]] = {}
        for person in own.keys() & family_of.keys():
            families_of.setdefault(family_of[person], set()).add(own[person])
        apart = [family for family, theirs in families_of.items() if len(theirs) > 1]
        if apart:
            raise MetricError(
                f"{comparisons.source}: the family of '{apart[0]}' in {twin_pairs} has two families here. Correct one."
            )
        return comparisons
    families = np.array([family_of.get(person, person) for person in people], dtype=np.str_)
    if comparisons.pairs is not None:
        kinds = pair_kinds(comparisons.pairs.first, comparisons.pairs.second, labels, families)
        comparisons = replace(comparisons, pairs=replace(comparisons.pairs, kinds=kinds))
    return replace(comparisons, families=families)


def real_name(name: str) -> str:
    return str(Path(name).resolve())
