"""From a checkpoint and a data set, or a list of pairs, to scores by kind: every image is embedded once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from twin_dcal.checkpoint import LoadedModel
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.faceset import FaceSet
from twin_dcal.data.manifest import load_face_set
from twin_dcal.data.pairs import PairList, is_pairs_file, read_pairs
from twin_dcal.errors import ManifestError
from twin_dcal.models.dcal import FeatureType

from .embeddings import embed_batches
from .scores import PairKind, PairScores, all_pair_scores, pair_kinds, pair_scores, split_by_kind

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparisons:
    """What is compared: all pairs of a face set, or an explicit list whose people a face set may tell."""

    source: str
    faces: FaceSet | None
    pairs: PairList | None

    @property
    def paths(self) -> Sequence[Path]:
        if self.pairs is not None:
            return self.pairs.paths
        assert self.faces is not None
        return self.faces.paths

    def people(self) -> set[str]:
        """Ids of those who are compared; empty for a list of pairs without a data set."""
        if self.faces is None:
            return set()
        if self.pairs is None:
            return set(self.faces.people)
        owner = {_real(path): person for person, paths in self.faces.images_of().items() for path in paths}
        return {owner[_real(path)] for path in self.pairs.paths if _real(path) in owner}


def read_comparisons(
    source: str | Path, *, split: str, dataset_info: str | None = None, twin_pairs: str | None = None,
    data_root: str | None = None, strict: bool = False,
) -> Comparisons:  # fmt: skip
    """A pairs file, or a data set of which all pairs are compared.

    Args: split: the one to take of a data set that defines splits. dataset_info: for a pairs file, tells whose
    each image is, so that twin and unrelated impostors can be told apart. ManifestError as the readers.
    """
    faces: FaceSet | None = None
    pairs: PairList | None = None
    findings: tuple[str, ...] = ()
    if is_pairs_file(source):
        pairs = read_pairs(source, data_root)
        findings = pairs.findings
        if dataset_info is not None:
            faces, _ = load_face_set(dataset_info, twin_pairs, data_root, strict, split="all")
    else:
        faces, findings = load_face_set(source, twin_pairs, data_root, strict, split)
        logger.info("%s: %s", source, faces.describe())
    if strict and pairs is not None and pairs.findings:
        raise ManifestError(f"{source}: {'; '.join(pairs.findings)} (strict)")
    for finding in findings:
        logger.warning("%s", finding)
    return Comparisons(str(source), faces, pairs)


def keep_to_split(what: Comparisons, split: str, recorded: Mapping[str, Sequence[str]]) -> Comparisons:
    """Leave out the people the model was trained on, where they are met again.

    A data set without splits of its own holds everybody: of one with all people of the model's recorded split, that
    split's `split` people are taken. People who are met otherwise may only share an id: that is a warning.
    """
    met = what.people() & set(recorded.get("train", ()))
    everybody = {person for people in recorded.values() for person in people}
    if met and what.pairs is None and what.faces is not None and everybody <= set(what.faces.people):
        if not recorded[split]:
            raise ManifestError(f"{what.source}: the model's split leaves no {split} people in it")
        logger.warning("%s defines no split: the model's own is used, its %s people", what.source, split)
        return replace(what, faces=what.faces.subset(recorded[split]))
    if met:
        logger.warning(
            "%s has %d people with ids the model was trained on (%s, …). If they are the same people, these figures "
            "tell nothing about others.", what.source, len(met), sorted(met)[0],
        )  # fmt: skip
    return what


def refuse_shared_people(test: Comparisons, validation: Comparisons) -> None:
    """ManifestError if a person is in both: a threshold must not be chosen on the people it is judged by."""
    shared = sorted(test.people() & validation.people())
    if shared or set(map(_real, test.paths)) & set(map(_real, validation.paths)):
        whom = f"people {', '.join(shared[:3])}" if shared else "images"
        raise ManifestError(
            f"{validation.source} and {test.source} share {whom}. Choose the threshold on other families, such "
            "as the validation split."
        )


def embed_paths(
    loaded: LoadedModel,
    paths: Sequence[Path],
    *,
    batch_size: int,
    num_workers: int = 0,
    feature_type: FeatureType = "combined",
) -> NDArray[np.float32]:
    """(N, E) features of images, in order, with the checkpoint's own preprocessing. ImageError for a bad file."""
    device = next(loaded.model.parameters()).device.type
    config = loaded.config.override({"runtime.num_workers": num_workers, "runtime.device": device})
    loader = TwinDataModule(config).eval_loader(paths, batch_size)
    batches = (
        batch["image"] for batch in tqdm(loader, desc="embedding", unit="batch", disable=None, leave=False)
    )
    return embed_batches(loaded.model, batches, loaded.preprocessing, feature_type=feature_type)


def score(
    loaded: LoadedModel,
    what: Comparisons,
    *,
    batch_size: int,
    num_workers: int = 0,
    feature_type: FeatureType = "combined",
) -> PairScores:
    """Cosines of all comparisons, by kind of pair."""
    embeddings = embed_paths(
        loaded, what.paths, batch_size=batch_size, num_workers=num_workers, feature_type=feature_type
    )
    if what.pairs is None:
        assert what.faces is not None
        return all_pair_scores(embeddings, what.faces.person_of, what.faces.image_families)
    scores = pair_scores(embeddings, what.pairs.first, what.pairs.second)
    return split_by_kind(scores, _kinds(what.pairs, what.faces))


def _kinds(pairs: PairList, faces: FaceSet | None) -> NDArray[np.int8]:
    """Kind of each listed pair. Without a face set an impostor's kind is unknown (OTHER)."""
    if faces is None:
        return np.where(pairs.same, PairKind.GENUINE, PairKind.OTHER).astype(np.int8)
    number = {_real(path): index for index, path in enumerate(faces.paths)}
    missing = [path for path in pairs.paths if _real(path) not in number]
    if missing:
        raise ManifestError(f"{len(missing)} images of the pairs are not in the data set: {missing[0]}")
    rows = np.array([number[_real(path)] for path in pairs.paths])
    kinds = pair_kinds(rows[pairs.first], rows[pairs.second], faces.person_of, faces.image_families)
    wrong = np.flatnonzero((kinds == PairKind.GENUINE) != pairs.same)
    if wrong.size:
        first, second = (pairs.paths[index[wrong[0]]] for index in (pairs.first, pairs.second))
        raise ManifestError(f"{wrong.size} labels contradict the data set, first: {first} and {second}")
    return kinds


def _real(path: Path) -> str:
    return str(path.resolve())
