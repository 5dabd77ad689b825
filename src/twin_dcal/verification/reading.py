"""What a user names on the command line, as comparisons: a data set, pairs, embeddings or scores of any system."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.families import (
    SPLITS,
    connected_families,
    find_twin_pairs,
    read_twin_pairs,
    split_siblings,
)
from twin_dcal.data.manifest import load_face_set
from twin_dcal.data.pairs import PairList, is_pairs_file, read_pairs
from twin_dcal.errors import ManifestError, MetricError

from .embedding_files import Embeddings
from .joining import rows_of_images, rows_of_names
from .protocols import Comparisons, PairRows, keep_people
from .score_files import UNSTATED, ScoreTable
from .scores import PairKind, pair_kinds

logger = logging.getLogger(__name__)

NAME_IT = "Name the data set: --data_dir, or --dataset_info with --twin_pairs."


@dataclass(frozen=True)
class DataFiles:
    """What describes a data set beside the place it is in: see docs/data.md."""

    dataset_info: str | None = None
    twin_pairs: str | None = None
    data_root: str | None = None
    strict: bool = False


def read_comparisons(source: str | Path, files: DataFiles, split: str) -> Comparisons:
    """A pairs file, or a data set of which all pairs are compared.

    Args: split: the one to take of a data set that defines splits, or "all". For a pairs file `files.dataset_info`
    tells whose each image is, so that twin and unrelated impostors can be told apart. ManifestError as the readers.
    """
    if not is_pairs_file(source):
        return _read_data_set(source, files, split)
    pairs = read_pairs(source, files.data_root)
    _tell(pairs.findings)
    if files.strict and pairs.findings:
        raise ManifestError(f"{source}: {'; '.join(pairs.findings)} (strict)")
    names = [str(path) for path in pairs.paths]
    kinds = np.where(pairs.same, PairKind.GENUINE, PairKind.OTHER).astype(np.int8)
    protocol = {"name": "listed", "num_pairs": pairs.num_pairs}
    what = Comparisons(str(source), names, None, None, PairRows(pairs.first, pairs.second, kinds), protocol)
    if files.dataset_info is None:
        return what
    return _with_labels(what, pairs, _read_data_set(files.dataset_info, files, "all", told=False))


def keep_to_split(what: Comparisons, split: str, recorded: Mapping[str, Sequence[str]]) -> Comparisons:
    """Leave out the people the model was trained on, where they are met again.

    A data set without splits of its own holds everybody: of one with all people of the model's recorded split, that
    split's `split` people are taken. People who are met otherwise may only share an id: that is a warning.
    """
    met = what.known_people() & set(recorded.get("train", ()))
    everybody = {person for people in recorded.values() for person in people}
    if met and what.pairs is None and everybody <= what.known_people():
        if not recorded[split]:
            raise ManifestError(f"{what.source}: the model's split leaves no {split} people in it")
        logger.warning("%s defines no split: the model's own is used, its %s people", what.source, split)
        return keep_people(what, recorded[split])
    if met:
        logger.warning(
            "%s has %d people with ids the model was trained on (%s, …). If they are the same people, these figures "
            "tell nothing about others.", what.source, len(met), sorted(met)[0],
        )  # fmt: skip
    return what


def refuse_shared_families(test: Comparisons, validation: Comparisons) -> None:
    """ManifestError if a family, a person or an image is in both: a threshold must not be chosen on those it judges."""
    people = sorted(test.known_people() & validation.known_people())
    families = sorted(_families(test, validation) & _families(validation, test))
    images = {_real(name) for name in test.names} & {_real(name) for name in validation.names}
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
    embeddings: Embeddings, data: Comparisons | None
) -> tuple[Comparisons, NDArray[np.float32]]:
    """What is compared, and a vector for each of its images.

    Args: data: the data set or pairs that the vectors are joined with; None takes the file's own identities.
    MetricError for images without a vector, and for a file that does not say whose its images are.
    """
    if data is None:
        what = embeddings.comparisons()
        if what.pairs is None and (what.people is None or what.families is None):
            raise MetricError(f"{embeddings.file}: it does not say whose its images are. {NAME_IT}")
        return what, embeddings.vectors
    rows = rows_of_images(embeddings.names, data.names, embeddings.file, data.source)
    if len(rows) < len(embeddings.names):
        logger.info(
            "%s: %d of %d vectors are of images of %s",
            embeddings.file,
            len(rows),
            len(embeddings.names),
            data.source,
        )
    return data, embeddings.vectors[rows]


def join_scores(table: ScoreTable, data: Comparisons | None) -> Comparisons:
    """What is compared, with kinds from the labels where people and families are known.

    Args: data: the data set whose images the names mean; None takes the file's own columns. MetricError naming the line
    whose label or kind contradicts people and families, or that says nothing of both.
    """
    people, families, names = table.people, table.families, list(table.names)
    family_of: Mapping[str, str] = {}
    if data is not None:
        if data.people is None or data.families is None:
            raise MetricError(f"{data.source}: a list of pairs does not say whose images are. {NAME_IT}")
        rows = rows_of_names(table.names, data.names, table.file, data.source)
        people, families, family_of = data.people[rows], data.families[rows], data.family_of
        names = [data.names[row] for row in rows]
    protocol = {"name": "listed", "num_pairs": int(table.scores.size)}
    kinds = _kinds(table, people, families)
    return Comparisons(table.file, names, people, families, table.rows(kinds), protocol, family_of)


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
    same = people[table.first] == people[table.second]
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
    faces, findings = load_face_set(source, files.twin_pairs, files.data_root, files.strict, split)
    if told:
        logger.info("%s: %s", source, faces.describe())
        _tell(findings)
    family_of = connected_families(read_twin_pairs(_twin_files(Path(source).expanduser(), files)).pairs)
    people = np.array(faces.people, dtype=np.str_)
    families = np.array([family_of.get(person, person) for person in faces.people], dtype=np.str_)
    return Comparisons(
        str(source), [str(path) for path in faces.paths], people[faces.person_of], families[faces.person_of],
        None, {"name": "all pairs"}, family_of,
    )  # fmt: skip


def _twin_files(source: Path, files: DataFiles) -> list[Path]:
    """Where the data room finds the twin pairs of a data set."""
    if files.twin_pairs:
        path = Path(files.twin_pairs).expanduser()
        return list(split_siblings(path).values()) or [path]
    folder = source if source.is_dir() else source.parent
    found = find_twin_pairs(folder)
    return found or (find_twin_pairs(folder.parent) if folder.name in SPLITS else [])


def _with_labels(what: Comparisons, pairs: PairList, data: Comparisons) -> Comparisons:
    """Listed pairs with the people and families of a data set. ManifestError where they contradict the labels."""
    assert data.people is not None
    assert data.families is not None
    number = {_real(name): index for index, name in enumerate(data.names)}
    missing = [name for name in what.names if _real(name) not in number]
    if missing:
        raise ManifestError(f"{len(missing)} images of the pairs are not in the data set: {missing[0]}")
    rows = np.array([number[_real(name)] for name in what.names])
    people, families = data.people[rows], data.families[rows]
    kinds = pair_kinds(pairs.first, pairs.second, people, families)
    wrong = np.flatnonzero((kinds == PairKind.GENUINE) != pairs.same)
    if wrong.size:
        first, second = (pairs.paths[index[wrong[0]]] for index in (pairs.first, pairs.second))
        raise ManifestError(f"{wrong.size} labels contradict the data set, first: {first} and {second}")
    rows_of_pairs = PairRows(pairs.first, pairs.second, kinds)
    return replace(what, people=people, families=families, pairs=rows_of_pairs, family_of=data.family_of)


def _families(what: Comparisons, other: Comparisons) -> set[str]:
    """Families of those compared, named as far as either set knows the family of a person."""
    if what.families is None:
        return set()
    families = what.known_families()
    return families | {other.family_of[p] for p in what.known_people() if p in other.family_of}


def _tell(findings: Sequence[str]) -> None:
    for finding in findings:
        logger.warning("%s", finding)


def _real(name: str) -> str:
    return str(Path(name).resolve())
