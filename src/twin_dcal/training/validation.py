"""What is measured between epochs, and the threshold and calibration that come with the best model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from twin_dcal import distributed
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.embed import embed_loaded
from twin_dcal.metrics.calibration import Calibration, fit_platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.error_rates import auc, eer, sort_scores
from twin_dcal.metrics.fusion import Fusion, fit_fusion
from twin_dcal.metrics.intervals import family_intervals, over_families
from twin_dcal.metrics.pair_stream import AllPairs, PairSource
from twin_dcal.metrics.pairs import PairScores, all_pair_scores
from twin_dcal.metrics.templates import TemplateDecision, calibrate_templates
from twin_dcal.metrics.thresholds import ThresholdChoice, choose_threshold, counted
from twin_dcal.models.preprocessing import Preprocessing
from twin_dcal.plural import plural

from .parallel import Parallel
from .unreadable import UnreadableImages


@dataclass(frozen=True)
class Validation:
    """Figures of one validation, and the threshold, calibration and error curve of its scores.

    choice: the threshold, chosen on `data`. source: the scored pairs, for whoever leaves out families. templates:
    computes what decides on several photographs of each, which takes a while and is wanted of the best model only.
    """

    figures: Mapping[str, float]
    choice: ThresholdChoice
    data: str
    calibration: Calibration
    error_curve: ErrorCurve
    fusion: Fusion | None = None
    source: PairSource | None = None
    templates: Callable[[], tuple[TemplateDecision, ...]] = tuple

    @property
    def threshold(self) -> Threshold:
        """With what leaving out families tells of it: worked out when it is stored, with the best model only."""
        choice = self.choice
        if self.source is not None:
            choice = over_families(choice, family_intervals(self.source, threshold=choice.threshold))
        return Threshold(choice.threshold, choice.origin(self.data))

    def kinds(self, best_by: str) -> tuple[str, ...]:
        """The impostors that training.best_by means; all of them where a kind is missing."""
        kinds = ("twin",) if best_by == "twin_eer" else ("twin", "unrelated")
        return kinds if all(f"{kind}_eer" in self.figures for kind in kinds) else ("all",)

    def key(self, best_by: str) -> tuple[float, float]:
        """Orders models, smaller is better: EER, then AUC, against the impostors that training.best_by means."""
        kinds = self.kinds(best_by)
        return mean(self.figures[f"{k}_eer"] for k in kinds), -mean(self.figures[f"{k}_auc"] for k in kinds)


def validate(
    scores: PairScores, source: str, fusion: Fusion | None = None, pairs: PairSource | None = None
) -> Validation:
    """EER and AUC against twin, unrelated and all impostors, the EER threshold, and a Platt calibration.

    Threshold and calibration are set on twin impostors where there are any: the decision is made for them.
    MetricError if there is no genuine or no impostor pair.
    """
    kinds = {"twin": scores.twin, "unrelated": scores.unrelated, "all": scores.impostors}
    figures: dict[str, float] = {}
    for kind, impostors in kinds.items():
        if len(impostors) or kind == "all":
            ordered = sort_scores(scores.genuine, impostors)
            figures[f"{kind}_eer"] = eer(ordered).eer
            figures[f"{kind}_auc"] = auc(ordered)
    hardest = scores.twin if len(scores.twin) else scores.impostors
    choice = choose_threshold(scores, "eer")
    return Validation(
        figures,
        choice,
        source,
        fit_platt(scores.genuine, hardest, source=source),
        ErrorCurve.of(counted(scores), source, choice.threshold),
        fusion,
        pairs,
    )


def run_validation(
    parallel: Parallel, data: TwinDataModule, preprocessing: Preprocessing, unreadable: UnreadableImages
) -> Validation | None:
    """The validation of a model: every process embeds its part of the images, rank 0 judges the pairs; None elsewhere.

    In full precision, as decisions are made later: the threshold is set on these scores. Images that cannot be read are
    left out and noted in `unreadable`, or are an ImageError if data.strict.
    """
    faces, size = data.face_data.val, data.config.training.batch_size
    part = distributed.shard_range(faces.num_images, size)
    with parallel.evaluating():
        loader = data.eval_loader(faces, size, part, "refuse" if data.config.data.strict else "blank")
        embeddings, faults = embed_loaded(parallel.objective.model, loader, preprocessing)
    unreadable.note(faces.paths, faults)
    if not distributed.is_main():
        return None
    kept = np.array([row for row in range(faces.num_images) if row not in faults], np.intp)
    read = embeddings[kept], faces.person_of[kept], faces.image_families[kept]
    source = (
        f"validation: {plural(len(np.unique(read[1])), 'person', 'people')}, {plural(len(kept), 'image')}"
    )
    model = parallel.objective.model
    if data.config.model.fusion != "auto" or not model.backbone.untouched_dim:
        found = validate(all_pair_scores(*read), source, pairs=AllPairs(*read))
    else:
        fusion, scores = fused(*read, model.backbone.untouched_dim, float(model.fusion), source)
        found = validate(scores, source, fusion, AllPairs(*read, fusion))
    return replace(found, templates=partial(calibrate_templates, *read, source, fusion=found.fusion))


def fused(
    embeddings: NDArray[np.float32], person_of: NDArray[np.intp], family_of_image: NDArray[np.intp], split: int,
    share: float, source: str,
) -> tuple[Fusion, PairScores]:  # fmt: skip
    """The fusion that suits all pairs of combined features best, and what it makes of them.

    Args: split, share: as in `Fusion`.
    """
    parts = embeddings[:, :split], embeddings[:, split:]
    untouched, own = (all_pair_scores(part, person_of, family_of_image) for part in parts)
    fusion = fit_fusion(_by_kind(untouched), _by_kind(own), split=split, share=share, data=source)
    genuine, twin, unrelated = (
        fusion.score(theirs, ours)
        for theirs, ours in zip(_by_kind(untouched).values(), _by_kind(own).values(), strict=True)
    )
    return fusion, PairScores(genuine, twin, unrelated, np.empty(0, np.float32))


def _by_kind(scores: PairScores) -> dict[str, NDArray[np.float32]]:
    return {"genuine": scores.genuine, "twin": scores.twin, "unrelated": scores.unrelated}
