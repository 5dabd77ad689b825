"""`TwinInferenceEngine`: from two pictures to a decision at a known error rate."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.explain.result import PairExplanation
from twin_dcal.metrics.fusion import similarity_matrix, similarity_rows
from twin_dcal.metrics.pairs import PairKind, split_by_kind
from twin_dcal.metrics.thresholds import ThresholdChoice
from twin_dcal.plural import plural
from twin_dcal.prepare.align import FaceChoice

from .aligning import FaceInfo, Faces, Prepared, is_shared, of_both, unmet
from .backend import FeatureType
from .given import as_pictures, check_one_of
from .images import ImageInput
from .opened import OpenedModel
from .pictures import EmbeddedOnce, OnError, Picture, pairs_of, path_of
from .records import Records
from .result import RESULT_KEYS, TemplateResult, VerificationResult
from .templates import Fuse, Photographs, Side, check_fuse, decide_sides, embed_sides

if TYPE_CHECKING:
    from twin_dcal.explain.attention import AttentionMaps

    from .clusters import Clusters
    from .gallery import Gallery
    from .torch_backend import TorchBackend
else:
    # Signatures are told without torch, and without what a decision on two pictures does not need.
    AttentionMaps = Clusters = Gallery = Any

Features = NDArray[np.float32]


class TwinInferenceEngine(OpenedModel):
    """Decides whether two pictures show one person.

    Args:
        model_path: best_model.pth of a run, the run's folder, or an exported .onnx file.
        device: "auto", "cpu", "cuda", "cuda:1"; None is "auto".
        threshold: a similarity to decide at instead of the stored threshold; threshold_probability: the same by the
            verification_score that it has.
        align: "auto" finds and aligns the face of a whole photograph and leaves crops alone, where the extra `prepare`
            is installed; "always" aligns everything; both refuse a picture without a face. "never" takes the central
            square of everything, for crops that are framed in a way of their own.
    Safe to use from several threads, and several engines side by side; `set_threshold` is seen by later calls. Results
    are the same for every batch size and order, to rounding (1e-5). ModelError for a file that is no model, ConfigError
    for a device or threshold that cannot be used.

    Example:
        >>> engine = TwinInferenceEngine("best_model.pth")
        >>> engine
        TwinInferenceEngine(best_model.pth: test_vit, sa+glca+pwca, threshold +0.500)
    """

    def optimize_threshold(
        self, pairs: Iterable[tuple[ImageInput, ImageInput]], labels: ArrayLike, metric: str = "eer"
    ) -> ThresholdChoice:
        """Choose the threshold on labelled pairs and decide at it from now on; verification_score and error rates of
        results are from these pairs then, too. `save_decision` stores all three in the model file.

        Args: labels (P,): 1 for one person; metric: "eer", "accuracy", "f1" or a rate such as "far=1e-3".
        Use pairs that nothing is tested on. MetricError for labels of one kind only.
        """
        listed = pairs_of(pairs)
        try:
            same = np.asarray(labels)
        except (TypeError, ValueError):
            raise ConfigError("labels: a ragged list; give 1 or 0 for each pair") from None
        if same.shape != (len(listed),):
            raise ConfigError(
                f"labels of shape {same.shape} for {plural(len(listed), 'pair')}; give 1 or 0 for each pair"
            )
        wrong = [label for label in same.tolist() if label not in (0, 1)]
        if wrong:
            raise ConfigError(f"label {wrong[0]!r}: give 1 for one person, 0 for two people")
        kinds = np.where(same == 1, PairKind.GENUINE, PairKind.OTHER)
        scored, _ = EmbeddedOnce(self.embedder, on_error="raise").scores(listed, "largest")
        scores = split_by_kind(scored, kinds)
        told = f"{plural(len(listed), 'pair')} given to optimize_threshold"
        self._deciding, choice = self._deciding.of_pairs(scores, metric, told)
        return choice

    def save_decision(self) -> None:
        """Store what `optimize_threshold` chose, with its calibration and error rates, in the model file.

        ConfigError if nothing was chosen, or for an exported model; ModelError if the file has changed since it was
        loaded.
        """
        deciding = self._deciding
        if deciding.origin.get("set_by") != "optimize_threshold":
            raise ConfigError("nothing was chosen to be saved; call optimize_threshold first")
        backend = self._torch(
            "is not written to; optimize and save with its checkpoint, then export it again"
        )
        backend.store(deciding)

    def verify_pair(
        self, img1: ImageInput, img2: ImageInput, return_attention: bool = False, *,
        faces: Faces = ("largest", "largest"),
    ) -> VerificationResult:  # fmt: skip
        """Decide on one pair.

        Args: faces: see `prepare_pair`. ImageError, in one line, for a picture that cannot be read, and for one without
        a face (see `align`) or without the one that was chosen.

        Example:
            >>> engine = TwinInferenceEngine("best_model.pth")
            >>> engine.verify_pair("a.png", "a.png")
            VerificationResult(same person, similarity +1.000, threshold +0.500)
        """
        began = time.perf_counter()
        return self.decide(*self.prepare_pair(img1, img2, faces), return_attention, began=began)

    def prepare_pair(
        self, img1: ImageInput, img2: ImageInput, faces: Faces = "largest"
    ) -> tuple[Prepared, Prepared]:
        """`prepare_image` of two pictures.

        Args: faces: which face of each picture, where it has several: "largest", or its number from the left, 1 the
        first. One choice is for both pictures; of one that shows a single face this is taken then, as long as the other
        has the chosen one. ImageError where it cannot be met.
        """
        one, two = (
            self.prepare_image(image, name, face, shared=is_shared(faces))
            for image, name, face in zip((img1, img2), ("img1", "img2"), of_both(faces), strict=True)
        )
        if reason := unmet(faces, (one.seen, two.seen)):
            raise ImageError(reason)
        return one, two

    def verify(
        self, img1: Photographs, img2: Photographs, *, fuse: Fuse = "quality",
        faces: Faces = ("largest", "largest"),
    ) -> TemplateResult:  # fmt: skip
        """Decide on one or several photographs of each of two people; of one each it is `verify_pair`. Of a video (a
        path, extra `video`) the best frame of each fifth of its time is a photograph.

        Args: fuse: how photographs are taken together: "quality" (the mean of their features, weighted by measured
        quality where every face of a side has it), "mean", "max" (the two most alike photographs), "scores" (the mean
        over all pairs); faces: as in `verify_pair`, for every photograph of a side.
        The threshold is the one for so many photographs, where the model has it; `warnings` tell where it has not, and
        which photograph does not look like the others. ImageError for a photograph that cannot be used.
        """
        began = time.perf_counter()
        check_fuse(fuse)
        first, second = of_both(faces)
        one, two = self.sides([(img1, "img1", first), (img2, "img2", second)], shared=is_shared(faces))
        if reason := unmet(faces, (*one.seen, *two.seen)):
            raise ImageError(reason)
        return self.decide_sides(one, two, fuse, began)

    def sides(
        self, given: Sequence[tuple[Photographs, str, FaceChoice]], *, shared: bool = False
    ) -> list[Side]:
        """Photographs of people, embedded together. Args: given: one or several photographs of each, what messages call
        them, and which face is meant; shared: as in `prepare_image`. ConfigError for a side without any."""
        return embed_sides(self.embedder, given, shared)

    def decide_sides(self, one: Side, two: Side, fuse: Fuse, began: float) -> TemplateResult:
        """`verify` of photographs that `sides` gave. Args: began: `time.perf_counter()` when the work on them began."""
        return decide_sides(one, two, fuse, self.source, self._deciding, began)

    def enroll(
        self, source: Any, path: str | Path | None = None, *, twins: Any = None, progress: bool = False
    ) -> Gallery:
        """A gallery of people to be searched (see `Gallery`).

        Args: source: a folder of people's folders or any other data set, a table with the columns person and image (a
        file or a DataFrame), or {person: [photographs]}. path: the gallery's file, which is written as it grows; the
        same call goes on after an interruption, and adds what is new. twins: pairs of people, or a file of them; by
        default those of the data set. `gallery.left_out` has the photographs that cannot be used, with reasons.
        ManifestError, and no file is made, where none can be used, for a row without a person or a picture, for a
        photograph of two people, and where no pair of twins fits.
        """
        from .enrolling import enroll

        return enroll(self, source, path, twins=twins, progress=progress)

    def open_gallery(self, path: str | Path) -> Gallery:
        """A gallery that was saved. ModelError for what is none, and for one of another model."""
        from .gallery import Gallery

        return Gallery.load(self, path)

    def cluster(self, images: Any, threshold: float | None = None) -> Clusters:
        """Photographs grouped into people: average linkage, which joins groups whose photographs are on average at
        least as alike as the threshold (the engine's own, unless another is given).

        Args: images: a folder, or a list of pictures; what cannot be used is in `left_out`.
        """
        from .clusters import cluster

        return cluster(self, images, threshold)

    def decide(
        self, one: Prepared, two: Prepared, return_attention: bool = False, *, began: float | None = None
    ) -> VerificationResult:
        """Decide on two pictures that `prepare_image` gave.

        Args: began: `time.perf_counter()` when the work on them began.
        """
        _check_prepared(one, two)
        began = time.perf_counter() if began is None else began
        pair = self.backend.embed(np.stack([one.pixels, two.pixels]))
        attention = self.explain(one.pixels, two.pixels).to_dict() if return_attention else None
        return self._deciding.decide(
            self._similarity(pair), self.source, (one.seen, two.seen), began, attention,
            with_attention=return_attention,
        )  # fmt: skip

    def verify_with_attention(self, one: Prepared, two: Prepared) -> tuple[VerificationResult, AttentionMaps]:
        """`decide`, and where the model attended in the two pictures, from the same pass. ConfigError for an exported
        model."""
        _check_prepared(one, two)
        began = time.perf_counter()
        pair, maps = self._explainable().embed_and_look(np.stack([one.pixels, two.pixels]))
        seen = one.seen, two.seen
        result = self._deciding.decide(self._similarity(pair), self.source, seen, began, with_attention=True)
        return result, maps

    decide_and_look = verify_with_attention
    """The name of `verify_with_attention` in earlier releases."""

    def batch_verify(
        self,
        pairs: Iterable[tuple[ImageInput, ImageInput]],
        batch_size: int = 32,
        *,
        on_error: OnError = "entry",
        faces: Faces = ("largest", "largest"),
    ) -> Records:
        """Decide on many pairs; each distinct picture is read and embedded once.

        Args: faces: as in `verify_pair`, of the first and of the second picture of every pair. on_error: of a picture
        that cannot be read or has no such face: "entry" gives its pairs an entry with the reason as `error` and None
        for what was not decided, "raise" an ImageError.
        Returns: a dict for each pair, with `img1_path` and `img2_path` (None for what has no path), every key of
        `verify_pair`, and `error`, None where there is a decision; `elapsed_ms` is each pair's share of the whole. The
        list can be made a table by `to_pandas()` or `write("results.csv")`.

        Example:
            >>> engine = TwinInferenceEngine("best_model.pth")
            >>> [pair["error"] for pair in engine.batch_verify([("a.png", "b.png"), ("a.png", "gone.png")])]
            [None, 'gone.png: no such file']
        """
        check_one_of(on_error, OnError, "on_error")
        listed = pairs_of(pairs)
        return self.decide_pairs(listed, EmbeddedOnce(self.embedder, batch_size, on_error), faces)

    def verify_table(
        self, table: Any, output: str | Path | None = None, *, faces: Faces = ("largest", "largest"),
        progress: bool = False,
    ) -> Records:  # fmt: skip
        """Decide on the pairs of a table; each distinct picture is embedded once, and a fault is a row.

        Args: table: a CSV, TSV or Parquet file, or a DataFrame, with the columns img1 and img2, paths from here or
        below the file's folder; other columns are kept. output: .csv, .jsonl or .parquet; the same call goes on where
        it was interrupted, if model, threshold, table and pictures are the same. progress: a bar on stderr.
        Returns: what `batch_verify` does, with the table's columns first. ManifestError for what is no such table.
        """
        from .pair_table import verify_table

        return verify_table(self, table, output, faces=faces, progress=progress)

    def decide_pairs(
        self, pairs: Sequence[tuple[ImageInput, ImageInput]], known: EmbeddedOnce, faces: Faces
    ) -> Records:
        """`batch_verify` with pictures that were embedded before. Args: known: grows by those that were not."""
        began = time.perf_counter()
        told = Records()
        if not pairs:
            return told
        scores, seen = known.scores(pairs, faces)
        share = (time.perf_counter() - began) / len(pairs)
        for (one, two), score, (first, second) in zip(pairs, scores, seen, strict=True):
            paths = {"img1_path": path_of(one), "img2_path": path_of(two)}
            if isinstance(first, FaceInfo) and isinstance(second, FaceInfo):
                decided = self._deciding.decide(
                    float(score), self.source, (first, second), time.perf_counter() - share
                )
                told.append({**paths, **decided.to_dict(), "error": None})
            else:
                reasons = dict.fromkeys(reason for reason in (first, second) if isinstance(reason, str))
                told.append(
                    {**paths, **dict.fromkeys(RESULT_KEYS), "warnings": [], "error": "; ".join(reasons)}
                )
        return told

    def extract_features(
        self, images: Sequence[ImageInput], feature_type: FeatureType = "combined", batch_size: int = 32
    ) -> Features:
        """(N, E) float32 unit vectors, in order. ConfigError for a feature that the model lacks.

        Example:
            >>> TwinInferenceEngine("best_model.pth").extract_features(["a.png", "b.png"]).shape
            (2, 128)
        """
        listed = as_pictures(images)
        check_one_of(feature_type, FeatureType, "feature_type")
        if feature_type not in self.source.feature_types():
            raise ConfigError(
                f"feature_type {feature_type!r}: this model has {', '.join(self.source.feature_types())}"
            )
        pictures = [Picture(image, called=f"image {number}") for number, image in enumerate(listed)]
        return self.embedder(pictures, feature_type, batch_size)[0]

    def compute_similarity_matrix(
        self, images1: Sequence[ImageInput], images2: Sequence[ImageInput] | None = None, batch_size: int = 32
    ) -> NDArray[np.float32]:
        """(N, M) similarities of two lists of pictures, or (N, N) of one with itself: as in `verify_pair`."""
        one = self.extract_features(images1, batch_size=batch_size)
        two = one if images2 is None else self.extract_features(images2, batch_size=batch_size)
        return np.asarray(np.clip(similarity_matrix(one, two, self.source.fusion), -1, 1), np.float32)

    def explain(self, pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8]) -> PairExplanation:
        """Why the cosine of two prepared pictures is what it is. ConfigError for an exported model."""
        backend = self._explainable()
        from twin_dcal.explain.pair import explain_pair  # torch

        return explain_pair(backend, pixels1, pixels2)

    def _explainable(self) -> "TorchBackend":
        return self._torch("only embeds; explanations need the run's best_model.pth")

    def _torch(self, otherwise: str) -> "TorchBackend":
        """The checkpoint. ConfigError for an exported model, with what is to be done `otherwise`."""
        if self.source.format == "onnx":
            raise ConfigError(f"{self.source.path}: an exported model {otherwise}")
        from .torch_backend import TorchBackend

        assert isinstance(self.backend, TorchBackend)
        return self.backend

    def _similarity(self, pair_2E: Features) -> float:
        """The score that two features are decided by."""
        (score,) = similarity_rows(pair_2E[:1], pair_2E[1:], self.source.fusion)
        return float(np.clip(score, -1, 1))


def _check_prepared(*pictures: object) -> None:
    for one in pictures:
        if not isinstance(one, Prepared):
            raise ConfigError(f"a {type(one).__name__}; give what prepare_image gave")
