"""Does an exported model give what its checkpoint gives? Differences in features, and in what decisions rest on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ManifestError
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.inference.backend import Backend
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.pair_stream import PairSource, count_pairs
from twin_dcal.metrics.paired import paired_intervals

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """Of the features of two backends: largest of any element of any output, smallest cosine of the combined ones."""

    max_difference: float
    min_cosine: float
    num_images: int
    faces: str


@dataclass(frozen=True)
class TwinAuc:
    """ROC AUC against twins before and after; low and high: 95 % interval of after - before, None for too few families.

    min_cosine: of an image's features before and after. rates: twin FMR and FNMR at the stored threshold, before
    and after; empty without a threshold.
    """

    before: float
    after: float
    low: float | None
    high: float | None
    num_genuine: int
    num_twin: int
    num_families: int
    min_cosine: float
    data: str
    rates: Mapping[str, tuple[float, float]]

    @property
    def drop(self) -> float:
        return self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for the file's metadata."""
        rates = {name: list(pair) for name, pair in self.rates.items()}
        return {**asdict(self), "rates": rates}


def differences(one: Backend, other: Backend, pixels_NSSC: NDArray[np.uint8], faces: str) -> Difference:
    """Compare every feature of two backends on the same pixels."""
    pairs = {
        kind: [each.embed(pixels_NSSC, kind) for each in (one, other)] for kind in one.source.feature_types()
    }
    largest = float(np.max([np.abs(a - b).max() for a, b in pairs.values()]))  # NaN stays NaN
    return Difference(largest, smallest_cosine(*pairs["combined"]), len(pixels_NSSC), faces)


def smallest_cosine(one: Features, other: Features) -> float:
    """Of features (N, E), unit rows, of the same images."""
    return float(np.einsum("nd,nd->n", one, other).min())


def compare_auc(
    comparisons: Comparisons,
    before: Features,
    after: Features,
    threshold: Threshold | None,
    fusion: Fusion | None = None,
) -> TwinAuc:
    """Twin AUC of two sets of features (N, E) of the same images. ManifestError without genuine and twin pairs."""
    sources = pair_source(comparisons, before, fusion), pair_source(comparisons, after, fusion)
    counts = [count_pairs(source) for source in sources]
    if not counts[0].has("twin"):
        raise ManifestError(
            f"{comparisons.source}: no pair of twins, and int8 is judged by telling twins apart; "
            "name a set with twin_pairs"
        )
    then, now = (each.section("twin") for each in counts)
    rates: dict[str, tuple[float, float]] = {}
    if threshold is not None:
        at = [error_rates.error_rates_at(scores, threshold.value) for scores in (then, now)]
        rates = {"fmr": (at[0].fmr, at[1].fmr), "fnmr": (at[0].fnmr, at[1].fnmr)}
    low, high, num_families = _interval(*sources)
    return TwinAuc(
        error_rates.auc(then), error_rates.auc(now), low, high, then.num_genuine, then.num_impostors, num_families,
        smallest_cosine(before, after), comparisons.source, rates,
    )  # fmt: skip


def _interval(before: PairSource, after: PairSource) -> tuple[float | None, float | None, int]:
    """95 % interval of the difference in twin AUC over families, where there are enough of them."""
    made = paired_intervals(after, before)
    found = made.differences.get("twin", {}).get("roc_auc")
    return (None, None, made.num_families) if found is None else (found.low, found.high, made.num_families)
