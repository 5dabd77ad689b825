"""The three places where an evaluation can be entered: a model and images, embeddings, or scores of any system.

Each answers one question: what do you give for these comparisons? torch is imported where a model is needed only.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.metrics.calibration import Calibration, calibration_from_dict
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.pair_stream import PairSource
from twin_dcal.model_file.familiarity import looks_of_files
from twin_dcal.model_file.provenance import model_warnings, trained_on, training_warnings
from twin_dcal.plural import plural
from twin_dcal.training.framing import framing_warnings

from .embedding_files import Embeddings, read_embeddings
from .evaluate import Decision
from .inputs import DataFiles, join_embeddings, join_scores, keep_to_split, read_comparisons
from .protocol import (
    Comparisons,
    listed_source,
    pair_source,
    pairs_within,
    without_images,
    without_scores,
)
from .sampling import Sampling
from .score_files import ScoreTable, is_scores_file, read_scores

if TYPE_CHECKING:
    from twin_dcal.checkpoint import LoadedModel
    from twin_dcal.embed import Prepare

logger = logging.getLogger(__name__)

_LOOKED_AT = 300  # pictures of an evaluation, for whether they look like those of training

FeatureType = Literal["combined", "sa", "glca"]


@dataclass(frozen=True, eq=False)
class Scored:
    """Comparisons and their scores; vectors (N, D) where the scores are cosines of embeddings at hand, or made of
    cosines by `fusion`."""

    comparisons: Comparisons
    source: PairSource
    vectors: NDArray[np.float32] | None
    fusion: Fusion | None = None


class System(Protocol):
    """Something that scores pairs of images."""

    @property
    def files(self) -> DataFiles:
        """What describes the data set."""
        ...

    def scored(self, data: str | None, split: str) -> Scored:
        """Scores of what `data` names (see reading.read_comparisons); None: of what the system itself brings."""
        ...

    def stored(self) -> Decision:
        """The threshold and calibration that come with it, if any."""
        ...

    def about(self) -> Mapping[str, Any]:
        """What it is, in plain values, for the report."""
        ...


@dataclass(frozen=True, eq=False)
class ModelSystem:
    """A checkpoint: images are embedded with its own preprocessing.

    align, prepare: how faces are found in photographs, in a word and as what does it; crops are taken as they are.
    """

    path: str
    loaded: "LoadedModel"
    files: DataFiles
    sampling: Sampling
    feature_type: FeatureType = "combined"
    batch_size: int = 32
    num_workers: int = 2
    align: str = "never"
    prepare: "Prepare | None" = None

    def comparisons(self, data: str | None, split: str) -> Comparisons:
        if data is None:
            raise ConfigError("name what to evaluate on: --test_data, --data_dir or --dataset_info")
        comparisons = read_comparisons(data, self.files, split)
        return self.sampling.of(keep_to_split(comparisons, split, self.loaded.training.get("split", {})))[0]

    def scored(self, data: str | None, split: str) -> Scored:
        scored = self.scored_with(self.comparisons(data, split), self.feature_type)
        comparisons = scored.comparisons
        return replace(
            scored,
            comparisons=replace(comparisons, warnings=(*self._doubts(comparisons), *comparisons.warnings)),
        )

    def _doubts(self, comparisons: Comparisons) -> tuple[str, ...]:
        """Whether the model knows pictures like these at all, from some of them."""
        from twin_dcal.distributed import is_main

        told, known = training_warnings(self.loaded.training), self.loaded.familiarity
        if not is_main():
            return told
        size, landmarks = self.loaded.preprocessing.image_size, self.loaded.preprocessing.landmarks
        if self.prepare is None:
            told = (*told, *framing_warnings([Path(name) for name in comparisons.names], size, landmarks))
        if known is None:
            return told
        found = looks_of_files(comparisons.names, size, _LOOKED_AT, self.prepare)
        return (*told, *known.many_unlike_warning(found))

    def scored_with(self, comparisons: Comparisons, feature_type: FeatureType) -> Scored:
        """Scores of given comparisons with one of the model's features, without the images that cannot be read."""
        from twin_dcal.embed import embed_images

        vectors, faults = embed_images(
            self.loaded, comparisons.names, batch_size=self.batch_size, num_workers=self.num_workers,
            feature_type=feature_type, strict=self.files.strict, prepare=self.prepare,
        )  # fmt: skip
        if faults:
            comparisons, rows = without_images(
                comparisons,
                faults,
                "cannot be read" if self.prepare is None else "cannot be read or show no face",
            )
            vectors = vectors[rows]
            logger.warning("%s", comparisons.warnings[-1])
        fusion = self.loaded.fusion if feature_type == "combined" else None
        return Scored(comparisons, pair_source(comparisons, vectors, fusion), vectors, fusion)

    def scored_apart(self, scored: Scored) -> dict[FeatureType, Scored]:
        """What the model scored, and its other features on the same comparisons, with at most one more pass.

        The combined feature is the others side by side, so they are cut out of it. Where there is nothing beside SA, it
        is SA.
        """
        model = self.loaded.model
        start = model.backbone.untouched_dim  # a face network's own embedding comes before the branches
        if "glca" not in model.branches and not start:
            return {"sa": scored}
        combined = scored
        if self.feature_type != "combined":
            combined = self.scored_with(scored.comparisons, "combined")
        assert combined.vectors is not None
        parts: dict[FeatureType, NDArray[np.float32]] = {
            "sa": combined.vectors[:, start : start + model.width]
        }
        if "glca" in model.branches:
            parts["glca"] = combined.vectors[:, start + model.width :]
        cut: dict[FeatureType, Scored] = {}
        for name, part in parts.items():
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            if not lengths.all():  # a fusion that leaves the branches out
                cut[name] = self.scored_with(scored.comparisons, name)
                continue
            cut[name] = Scored(
                scored.comparisons, pair_source(scored.comparisons, part / lengths), part / lengths
            )
        return {**cut, "combined": combined, self.feature_type: scored}

    def stored(self) -> Decision:
        if self.feature_type != "combined":
            return Decision()
        return Decision.stored(self.loaded.threshold, self.loaded.calibration)

    def about(self) -> Mapping[str, Any]:
        loaded = self.loaded
        model = {
            "path": self.path, "sha256": loaded.sha256, "branches": list(loaded.model.branches),
            "trained_on": trained_on(loaded.training),
        }  # fmt: skip
        preprocessing = loaded.preprocessing.to_dict()
        if self.prepare is not None:
            preprocessing["align"] = self.align
        return {"model": model, "feature_type": self.feature_type, "preprocessing": preprocessing}


@dataclass(frozen=True, eq=False)
class EmbeddingsSystem:
    """Vectors of a file, joined with a data set or with the file's own identities."""

    embeddings: Embeddings
    files: DataFiles
    sampling: Sampling

    def scored(self, data: str | None, split: str) -> Scored:
        embeddings = self.embeddings
        if data is not None and Path(data).suffix.lower() == ".npz":
            embeddings, data = read_embeddings(data, keep_failed=True), None
        if data is None and embeddings.people is None:  # a file that is named as data, of another system
            data = self.files.data_set
        wanted = None if data is None else read_comparisons(data, self.files, split)
        comparisons, vectors = join_embeddings(embeddings, wanted, self.files.twin_pairs)
        comparisons = replace(
            comparisons, warnings=(*model_warnings(embeddings.metadata.get("model")), *comparisons.warnings)
        )
        comparisons, rows = self.sampling.of(comparisons)
        vectors, fusion = vectors[rows], fusion_from(embeddings.metadata.get("fusion"), embeddings.file)
        failed = np.flatnonzero(~vectors.any(axis=1))
        if failed.size:
            if self.files.strict:
                raise MetricError(
                    f"{embeddings.file}: no vector for {plural(failed.size, 'image')}, first: "
                    f"{comparisons.names[failed[0]]} (strict)"
                )
            faults = dict.fromkeys(failed.tolist(), "no vector")
            comparisons, rows = without_images(
                comparisons, faults, f"without a vector in {embeddings.file}: failures to acquire"
            )
            vectors = vectors[rows]
            logger.warning("%s", comparisons.warnings[-1])
        return Scored(comparisons, pair_source(comparisons, vectors, fusion), vectors, fusion)

    def stored(self) -> Decision:
        return decision_from(self.embeddings.metadata.get("decision"), self.embeddings.file)

    def about(self) -> Mapping[str, Any]:
        told = {key: self.embeddings.metadata.get(key) for key in ("model", "feature_type", "preprocessing")}
        return {
            **told,
            "embeddings": {"path": self.embeddings.file, "sha256": file_hash(self.embeddings.file)},
        }


@dataclass(frozen=True, eq=False)
class ScoresSystem:
    """Scores of a file, with its own identities or those of a data set."""

    table: ScoreTable
    files: DataFiles
    sampling: Sampling = field(default_factory=Sampling)

    def scored(self, data: str | None, split: str) -> Scored:
        table = self.table
        if data is not None and is_scores_file(data):
            table, data = read_scores(data, self.files.strict), self.files.data_set
        elif split == "val":
            raise ConfigError("--optimize_threshold with --scores needs --val_data with a file of scores")
        labels = None if data is None else read_comparisons(data, self.files, "all")
        comparisons, scores = join_scores(table, labels, self.files.twin_pairs), table.scores
        if table.failed.any():
            comparisons, scores = without_scores(comparisons, table.failed), scores[~table.failed]
            logger.warning("%s", comparisons.warnings[-1])
        assert comparisons.pairs is not None
        kept, rows = self.sampling.of(comparisons)
        return Scored(kept, listed_source(kept, scores[pairs_within(comparisons.pairs, rows)]), None)

    def stored(self) -> Decision:
        return Decision()

    def about(self) -> Mapping[str, Any]:
        return {"model": None, "scores": {"path": self.table.file, "sha256": file_hash(self.table.file)}}


def open_model(
    path: str, device: str, files: DataFiles, sampling: Sampling, *, feature_type: FeatureType = "combined",
    batch_size: int = 32, num_workers: int = 2, num_threads: int | None = None,
) -> ModelSystem:  # fmt: skip
    """A checkpoint on a device. ModelError for a file that is none, ConfigError for a feature that it lacks."""
    if Path(path).suffix.lower() == ".onnx":
        raise ConfigError(
            f"--model {path}: exported models are evaluated by their features: dcal-extract --model {path} --output "
            "features.npz, then dcal-evaluate --embeddings features.npz"
        )
    import torch

    from twin_dcal.checkpoint import load_model
    from twin_dcal.device import process_device

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    loaded = load_model(path, process_device(device))
    if feature_type == "glca" and "glca" not in loaded.model.branches:
        raise ConfigError(f"--feature_type glca: {path} has no GLCA branch; use combined or sa")
    return ModelSystem(path, loaded, files, sampling, feature_type, batch_size, num_workers)


def fusion_from(values: object, file: str) -> Fusion | None:
    """What makes scores of the embeddings of a file. MetricError for values that are none."""
    if values is None:
        return None
    try:
        return Fusion.from_dict(values)  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise MetricError(f"{file}: its entry 'fusion' is damaged ({str(error)[:100]})") from error


def decision_to(decision: Decision) -> dict[str, Any] | None:
    """Plain values of a decision, None where there is no threshold."""
    if decision.threshold is None:
        return None
    calibration = None if decision.calibration is None else decision.calibration.to_dict()
    told = {"threshold": decision.threshold, "source": decision.source, "calibration": calibration}
    return {**told, "warnings": list(decision.warnings), "origin": dict(decision.origin)}


def decision_from(values: Any, file: str) -> Decision:
    """The inverse of `decision_to`. MetricError for damaged values."""
    if values is None:
        return Decision()
    try:
        calibration: Calibration | None = None
        if values["calibration"] is not None:
            calibration = calibration_from_dict(values["calibration"])
        warnings = tuple(str(text) for text in values.get("warnings", ()))
        origin = dict(values.get("origin", {}))
        return Decision(float(values["threshold"]), str(values["source"]), calibration, warnings, origin)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MetricError(
            f"{file}: its threshold cannot be read ({type(error).__name__}: {error})"
        ) from error


def file_hash(path: str) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
