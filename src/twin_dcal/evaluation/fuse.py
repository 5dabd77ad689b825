"""Several systems as one: their scores fused by a logistic regression set on validation pairs, as a run to compare."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError
from twin_dcal.metrics.pair_stream import ListedPairs
from twin_dcal.metrics.score_fusion import ScoreFusion, fit_score_fusion, named

from .compare import Run, listed_together
from .inputs import refuse_shared_families
from .systems import Scored


def fused(runs: Sequence[Run], validation: Sequence[Run]) -> tuple[Run, ScoreFusion]:
    """The fusion of some systems as a run of its own, and its weights.

    Args: runs: what is compared; validation: the same systems in the same order on other people's pairs. ManifestError
    where both share a family, MetricError where systems do not score the same pairs. Holds all pairs in memory.
    """
    if len(runs) != len(validation):
        raise ConfigError(
            f"--fuse has {len(validation)} and --compare {len(runs)} runs. Give the validation scores of each system, "
            "in the order of --compare."
        )
    for run, other in zip(runs, validation, strict=True):
        refuse_shared_families(run.scored.comparisons, other.scored.comparisons)
    listed = listed_together(validation)
    fusion = fit_score_fusion(_scores([pairs.scores for pairs in listed]), listed[0].kinds)
    listed = listed_together(runs)
    comparisons = runs[0].scored.comparisons
    low, high = listed[0].keys // len(comparisons.names), listed[0].keys % len(comparisons.names)
    source = ListedPairs(
        fusion(_scores([pairs.scores for pairs in listed])), listed[0].kinds, low, high,
        people=comparisons.people, families=comparisons.families,
    )  # fmt: skip
    return Run(named([run.name for run in runs]), Scored(comparisons, source, None)), fusion


def _scores(of_systems: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    return np.stack([np.asarray(scores, np.float64) for scores in of_systems])
