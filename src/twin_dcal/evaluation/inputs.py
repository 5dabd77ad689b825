"""What a user names on the command line, as comparisons: a data set, pairs, embeddings or scores of any system."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.families import SPLITS, find_twin_pairs
from twin_dcal.data.findings import first_few
from twin_dcal.data.listing import is_data_set
from twin_dcal.data.manifest import read_face_set
from twin_dcal.data.pairs import PairList, is_pairs_file, read_pairs
from twin_dcal.errors import ManifestError, MetricError
from twin_dcal.metrics.pairs import PairKind, pair_kinds
from twin_dcal.plural import plural

from .embedding_files import Embeddings
from .identities import (
    NAME_IT,
    images_missing,
    named_twin_files,
    real_name,
    with_labels,
    with_people,
    with_twins,
)
from .match_names import rows_of_images, rows_of_names
from .protocol import Comparisons, PairRows, keep_people
from .score_columns import UNSTATED
from .score_files import ScoreTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFiles:
    """What describes a data set beside the place it is in: see docs/data.md. data_dir: a data set whose images are
    compared, where the comparisons are named elsewhere."""

    dataset_info: str | None = None
    twin_pairs: str | None = None
    data_root: str | None = None
    strict: bool = False
    data_dir: str | None = None

    @property
    def data_set(self) -> str | None:
        """The data set that tells whose images are, if one is named."""
        return self.dataset_info or self.data_dir


def read_comparisons(source: str | Path, files: DataFiles, split: str) -> Comparisons:
    """A pairs file, or a data set of which all pairs are compared.

    Args: split: the one to take of a data set that defines splits, or "all". Whose the images of a pairs file are, so
    that twin and unrelated impostors can be told apart, says the data set in `files`, the list itself (LFW), or what
    lies beside the list. ManifestError as the readers.
    """
    if not is_pairs_file(source):
        return _read_data_set(source, files, split)
    pairs = read_pairs(source, files.data_root, files.data_dir, thorough=files.strict)
    _tell(pairs.findings)
    if files.strict and pairs.findings:
        raise ManifestError(f"{source}: {'; '.join(pairs.findings)} (strict)")
    names = [str(path) for path in pairs.paths]
    kinds = np.where(pairs.same, PairKind.GENUINE, PairKind.OTHER).astype(np.int8)
    protocol = {"name": "listed", "num_pairs": pairs.num_pairs}
    comparisons = Comparisons(
        str(source), names, None, None, PairRows(pairs.first, pairs.second, kinds, pairs.folds), protocol
    )
    comparisons = _whose(comparisons, pairs, files)
    if files.strict and comparisons.warnings:
        raise ManifestError(f"{source}: {'; '.join(comparisons.warnings)} (strict)")
    return comparisons


def _whose(comparisons: Comparisons, pairs: PairList, files: DataFiles) -> Comparisons:
    """Listed pairs with people and families, as far as anything tells them."""
    if files.data_set is not None:
        return with_labels(comparisons, pairs, _read_data_set(files.data_set, files, "all", told=False))
    if pairs.people is not None:
        return with_people(comparisons, pairs, pairs.people, named_twin_files(files.twin_pairs))
    if files.twin_pairs:
        return _by_what_lies_beside(comparisons, pairs, files, named_twin_files(files.twin_pairs))
    found = _twin_files_beside(Path(comparisons.source).expanduser().parent)
    try:
        return _by_what_lies_beside(comparisons, pairs, files, found) if found else comparisons
    except ManifestError as error:
        text = (
            f"twins are not told apart: {', '.join(map(str, found))} beside the list cannot be used ({error})"
        )
        logger.warning("%s", text)
        return replace(comparisons, warnings=(text,))


def keep_to_split(comparisons: Comparisons, split: str, recorded: Mapping[str, Sequence[str]]) -> Comparisons:
    """Leave out the people the model was trained on, where they are met again.

    A data set without splits of its own holds everybody: of one with all people of the model's recorded split, that
    split's `split` people are taken. People who are met otherwise may only share an id: that is a warning.
    """
    met = comparisons.known_people() & set(recorded.get("train", ()))
    everybody = {person for people in recorded.values() for person in people}
    if met and comparisons.pairs is None and everybody <= comparisons.known_people():
        if not recorded[split]:
            raise ManifestError(f"{comparisons.source}: the model's split leaves no {split} people in it")
        logger.warning(
            "%s defines no split: the model's own is used, its %s people", comparisons.source, split
        )
        return keep_people(comparisons, recorded[split])
    if met:
        logger.warning(
            "%s has %s with ids the model was trained on (%s). If they are the same people, these figures tell "
            "nothing about others.", comparisons.source, plural(len(met), "person", "people"), first_few(sorted(met)),
        )  # fmt: skip
    return comparisons


def refuse_shared_families(test: Comparisons, validation: Comparisons) -> None:
    """ManifestError if a family, a person or an image is in both: a threshold must not be chosen on those it judges."""
    people = sorted(test.known_people() & validation.known_people())
    families = sorted(_families(test, validation) & _families(validation, test))
    images = {real_name(name) for name in test.names} & {real_name(name) for name in validation.names}
    if people:
        whom = f"people {', '.join(people[:3])}"
    elif families:
        whom = f"families {', '.join(families[:3])} (different twins of each)"
    elif images:
        whom = f"images, first {min(images)}"
    else:
        return
    raise ManifestError(
        f"{validation.source} and {test.source} share {whom}. Choose the threshold on other families, such "
        "as the validation split."
    )


def join_embeddings(
    embeddings: Embeddings, data: Comparisons | None, twin_pairs: str | None = None
) -> tuple[Comparisons, NDArray[np.float32]]:
    """What is compared, and a vector for each of its images, zero where the file has none.

    Args: data: the data set or pairs that the vectors are joined with; None takes the file's own identities, and
    twin_pairs then tells whose twins its people are. MetricError where half of the images or more have no vector, and
    for a file that does not say whose its images are.
    """
    if data is None:
        comparisons = with_twins(embeddings.comparisons(), twin_pairs)
        if comparisons.pairs is None and (comparisons.people is None or comparisons.families is None):
            raise MetricError(f"{embeddings.file}: it does not say whose its images are. {NAME_IT}")
        return comparisons, embeddings.vectors
    rows = rows_of_images(embeddings.names, data.names, embeddings.file, data.source, some_missing=True)
    if len(rows) < len(embeddings.names):
        logger.info(
            "%s: %d of %s used, those of images of %s",
            embeddings.file,
            len(rows),
            plural(len(embeddings.names), "vector"),
            data.source,
        )
    return data, np.where((rows < 0)[:, None], np.float32(0), embeddings.vectors[rows])


def join_scores(table: ScoreTable, data: Comparisons | None, twin_pairs: str | None = None) -> Comparisons:
    """What is compared, with kinds from the labels where people and families are known.

    Args: data: the data set whose images the names mean; None takes the file's own columns, and twin_pairs then tells
    whose twins its people are. MetricError naming the line whose label or kind contradicts people and families, or that
    says nothing of both.
    """
    names, rows = list(table.names), table.rows(table.kinds)
    protocol = {"name": "listed", "num_pairs": int(table.scores.size)}
    if data is None:
        comparisons = with_twins(
            Comparisons(table.file, names, table.people, table.families, rows, protocol), twin_pairs
        )
    else:
        if data.people is None or data.families is None:
            raise MetricError(f"{data.source}: a list of pairs does not say whose images are. {NAME_IT}")
        at = rows_of_names(table.names, data.names, table.file, data.source)
        comparisons = Comparisons(
            table.file, [data.names[row] for row in at], data.people[at], data.families[at], rows, protocol,
            data.family_of, data.warnings,
        )  # fmt: skip
    return replace(comparisons, pairs=table.rows(_kinds(table, comparisons.people, comparisons.families)))


def _kinds(
    table: ScoreTable, people: NDArray[np.str_] | None, families: NDArray[np.str_] | None
) -> NDArray[np.int8]:
    stated = table.kinds
    if people is None:
        unknown = np.flatnonzero(stated == UNSTATED)
        if unknown.size:
            raise MetricError(
                f"{table.place(int(unknown[0]))}: no column kind or label, and no people. {NAME_IT}"
            )
        return stated
    numbers = np.unique(people, return_inverse=True)[1]  # texts of millions of pairs would not fit in memory
    same = numbers[table.first] == numbers[table.second]
    wrong = (stated != UNSTATED) & ((stated == PairKind.GENUINE) != same)
    kinds = np.where(same, PairKind.GENUINE, np.where(stated == UNSTATED, PairKind.OTHER, stated)).astype(
        np.int8
    )
    if families is not None:
        try:
            kinds = pair_kinds(table.first, table.second, people, families)
        except MetricError as error:  # a person in two families
            raise MetricError(f"{table.file}: {error}") from error
        wrong |= np.isin(stated, (PairKind.TWIN, PairKind.UNRELATED)) & (stated != kinds)
    if wrong.any():
        at = int(np.argmax(wrong))
        told, known = (PairKind(int(value)).name.lower() for value in (stated[at], kinds[at]))
        known = known if families is not None or same[at] else "no genuine pair"
        raise MetricError(
            f"{table.place(at)}: {told}, but {table.names[table.first[at]]} (person {people[table.first[at]]}) and "
            f"{table.names[table.second[at]]} (person {people[table.second[at]]}) are {known}, as are "
            f"{int(wrong.sum()) - 1} more. Correct the label or the people."
        )
    return kinds


def _read_data_set(source: str | Path, files: DataFiles, split: str, *, told: bool = True) -> Comparisons:
    read = read_face_set(source, files.twin_pairs, files.data_root, files.strict, split, files.data_dir)
    faces = read.faces
    if told:
        by = f" (read: {', '.join(read.files)})" if read.files else ""
        logger.info("%s: %s%s", source, faces.describe(), by)
        _tell(read.findings)
    people = np.array(faces.people, dtype=np.str_)
    families = np.array([read.family_of.get(person, person) for person in faces.people], dtype=np.str_)
    return Comparisons(
        str(source), [str(path) for path in faces.paths], people[faces.person_of], families[faces.person_of],
        None, {"name": "all pairs"}, read.family_of, read.warnings,
    )  # fmt: skip


def _twin_files_beside(folder: Path) -> list[Path]:
    return find_twin_pairs(folder) or (find_twin_pairs(folder.parent) if folder.name in SPLITS else [])


def _by_what_lies_beside(
    comparisons: Comparisons, pairs: PairList, files: DataFiles, twin_files: Sequence[Path]
) -> Comparisons:
    """Listed pairs with the people of the data set in the list's folder, or else of the folders that images are in."""
    folder = Path(comparisons.source).expanduser().parent
    labelled: Comparisons | None = None
    if is_data_set(folder):
        data = _read_data_set(folder, replace(files, twin_pairs=str(twin_files[0])), "all", told=False)
        if not images_missing(comparisons, data):
            labelled = with_labels(comparisons, pairs, data)
    if labelled is None:
        people = [path.resolve().parent.name for path in pairs.paths]
        labelled = with_people(comparisons, pairs, people, twin_files)
    logger.info(
        "%s: twins are told apart by %s", comparisons.source, ", ".join(path.name for path in twin_files)
    )
    return labelled


def _families(comparisons: Comparisons, other: Comparisons) -> set[str]:
    """Families of those compared, named as far as either set knows the family of a person."""
    if comparisons.families is None:
        return set()
    families = comparisons.known_families()
    return families | {other.family_of[p] for p in comparisons.known_people() if p in other.family_of}


def _tell(findings: Sequence[str]) -> None:
    for finding in findings:
        logger.warning("%s", finding)
