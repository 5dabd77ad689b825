"""Whether what training made may take the place of the face network that it started from.

The best of many epochs on a few validation families is better there by chance alone. On look-alikes, whom a face
network tells apart already, choosing by the figure itself made the model worse on test families (docs/results.md). So
the start gives way only to a model that is better beyond the paired 95 % interval over validation families.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twin_dcal.metrics.averaging import resample
from twin_dcal.metrics.confidence import Interval, plain_interval
from twin_dcal.metrics.intervals import MIN_FAMILIES
from twin_dcal.metrics.pair_stream import PairSource

NUM_REPLICATES = 200
_SEED = 0
"""One for all validations: the same families are drawn in each, so that differences are paired."""


@dataclass(frozen=True)
class Standing:
    """The figure that training.best_by means, on validation people. Smaller is better.

    again: the figure of every replicate of `NUM_REPLICATES` draws of families; empty where families are too few for an
    interval. num_families: independent families behind the figure.
    """

    figure: float
    again: tuple[float, ...] = ()
    num_families: int = 0

    @classmethod
    def of(cls, source: PairSource, kinds: tuple[str, ...]) -> Self:
        """The mean EER against the given kinds of impostors ("twin", "unrelated", "all")."""
        found = resample(source, NUM_REPLICATES, _SEED)
        figure = float(np.mean([found.exact[kind, "eer"] for kind in kinds]))
        if not found.again:
            return cls(figure)
        again = np.mean([found.again[kind, "eer"] for kind in kinds], axis=0)
        return cls(figure, tuple(again.tolist()), min(found.num_units[kind] for kind in kinds))

    def gain_over(self, start: "Standing") -> Interval | None:
        """By how much this figure is smaller than that of `start`; None where there are too few families to say."""
        num_families = min(self.num_families, start.num_families)
        if num_families < MIN_FAMILIES or len(self.again) != len(start.again):
            return None
        again = np.asarray(start.again) - np.asarray(self.again)
        return plain_interval(start.figure - self.figure, again, num_units=num_families, level=0.95)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a training state."""
        return {"figure": self.figure, "again": list(self.again), "num_families": self.num_families}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(values["figure"], tuple(values["again"]), values["num_families"])
