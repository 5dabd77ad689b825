"""Whether what training made may take the place of the face network that it started from.

The best of many epochs on a few validation families is better there by chance alone. On look-alikes, whom a face
network tells apart already, choosing by the figure itself made the model worse on test families (docs/results.md). So
the start gives way only to a model that is better beyond the paired 95 % interval over validation families.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twin_dcal.metrics.averaging import jackknife
from twin_dcal.metrics.confidence import Interval, plain_interval
from twin_dcal.metrics.intervals import MIN_FAMILIES
from twin_dcal.metrics.pair_stream import PairSource


@dataclass(frozen=True)
class Standing:
    """The figure that training.best_by means, on validation people. Smaller is better.

    left_out: the figure without each family, so that differences of two are paired; empty where families are too few
    for an interval. num_families: independent families behind the figure.
    """

    figure: float
    left_out: tuple[float, ...] = ()
    num_families: int = 0

    @classmethod
    def of(cls, source: PairSource, kinds: tuple[str, ...]) -> Self:
        """The mean EER against the given kinds of impostors ("twin", "unrelated", "all")."""
        found = jackknife(source)
        figure = float(np.mean([found.exact[kind, "eer"] for kind in kinds]))
        if not found.left_out:
            return cls(figure)
        left_out = np.mean([found.left_out[kind, "eer"] for kind in kinds], axis=0)
        return cls(figure, tuple(left_out.tolist()), min(found.num_units[kind] for kind in kinds))

    def gain_over(self, start: "Standing") -> Interval | None:
        """By how much this figure is smaller than that of `start`; None where there are too few families to say."""
        num_families = min(self.num_families, start.num_families)
        if num_families < MIN_FAMILIES or len(self.left_out) != len(start.left_out):
            return None
        gain = np.asarray(start.left_out) - np.asarray(self.left_out)
        return plain_interval(start.figure - self.figure, gain, num_units=num_families, level=0.95)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a training state."""
        return {"figure": self.figure, "left_out": list(self.left_out), "num_families": self.num_families}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(values["figure"], tuple(values["left_out"]), values["num_families"])
