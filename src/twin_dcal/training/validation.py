"""What is measured between epochs, and the threshold and calibration that come with the best model."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from twin_dcal.verification.calibration import Calibration, fit_platt
from twin_dcal.verification.metrics import auc, eer, sort_scores
from twin_dcal.verification.scores import PairScores
from twin_dcal.verification.stored import ErrorCurve, Threshold
from twin_dcal.verification.thresholds import choose_threshold, counted


@dataclass(frozen=True)
class Validation:
    """Figures of one validation, and the threshold, calibration and error curve of its scores."""

    figures: Mapping[str, float]
    threshold: Threshold
    calibration: Calibration
    error_curve: ErrorCurve

    def key(self, best_by: str) -> tuple[float, float]:
        """Orders models, smaller is better: EER, then AUC, against the impostors that training.best_by means.

        Where a kind of impostor is missing, against all.
        """
        kinds = ("twin",) if best_by == "twin_eer" else ("twin", "unrelated")
        if not all(f"{kind}_eer" in self.figures for kind in kinds):
            kinds = ("all",)
        return mean(self.figures[f"{k}_eer"] for k in kinds), -mean(self.figures[f"{k}_auc"] for k in kinds)


def validate(scores: PairScores, source: str) -> Validation:
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
        Threshold(choice.threshold, choice.origin(source)),
        fit_platt(scores.genuine, hardest, source=source),
        ErrorCurve.of(counted(scores), source),
    )
