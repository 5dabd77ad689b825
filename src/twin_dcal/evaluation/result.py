"""What an evaluation hands to the report: figures, curves, histograms, error tables and the worst pairs.

Plain data, numpy only; small whatever the number of pairs was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.notebook import html_table

Figures = dict[str, Any]
Rates = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Genuine pairs against one kind of impostor: exact corners of the DET curve, strictest first, and its band.

    fmr, fnmr: (K,) in [0, 1]. band_fmr, fnmr_low, fnmr_high: (J,) the 95 % interval of FNMR at given FMRs, empty
    where families are unknown.
    """

    fmr: Rates
    fnmr: Rates
    band_fmr: Rates
    fnmr_low: Rates
    fnmr_high: Rates


@dataclass(frozen=True, eq=False)
class Histograms:
    """Counts of scores by kind of pair ("genuine", "twin", "unrelated", "other"), each (J,), over edges (J + 1,)."""

    edges: Rates
    counts: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Calibrated probability against the observed share of genuine pairs, in bins: (J,) each, both classes weighing
    the same. NaN marks an empty bin."""

    predicted: Rates
    observed: Rates
    num_pairs: NDArray[np.int64]
    ece: float
    brier: float
    method: str


@dataclass(frozen=True)
class WorstPair:
    """A wrong decision: two image paths (or ids, where the images are not at hand), their score and kind."""

    first: str
    second: str
    first_person: str
    second_person: str
    kind: str
    score: float


@dataclass(frozen=True)
class FamilyErrors:
    """A family at the decision threshold. `fmr` is None for a family of one (no twin pairs)."""

    family: str
    people: Sequence[str]
    num_images: int
    num_twin: int
    num_twin_false_matches: int
    num_genuine: int
    num_false_non_matches: int
    twin_auc: float | None


@dataclass(frozen=True)
class PersonErrors:
    """A person at the decision threshold, and their animal of Doddington's zoo ("goat", "lamb", "wolf", or "")."""

    person: str
    family: str
    num_images: int
    num_genuine: int
    num_false_non_matches: int
    num_twin: int
    num_twin_false_matches: int
    num_unrelated: int
    num_unrelated_false_matches: int
    mean_genuine: float | None
    mean_impostor: float | None
    animal: str


@dataclass(frozen=True, eq=False)
class Points:
    """Embeddings for a projection plot: (N, D) unit rows, and of each row its person, family and image path."""

    embeddings: NDArray[np.float32]
    people: Sequence[str]
    families: Sequence[str]
    paths: Sequence[Path]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything a report shows. `figures` is what evaluation_report.json holds."""

    figures: Figures
    curves: Mapping[str, Curve]
    """By impostors: "twin", "unrelated", "all"; those that exist."""
    histograms: Histograms
    reliability: Reliability | None
    false_matches: Sequence[WorstPair]
    """Worst first: twin and unrelated impostors with the highest scores at or above the threshold."""
    false_non_matches: Sequence[WorstPair]
    """Worst first: genuine pairs with the lowest scores."""
    families: Sequence[FamilyErrors]
    people: Sequence[PersonErrors]
    points: Points | None

    def __repr__(self) -> str:
        return f"Evaluation({'; '.join(f'{name}: EER {eer}, AUC {auc}' for name, eer, auc in self._told())})"

    def _repr_html_(self) -> str:
        return html_table(self._told(), ("impostors", "EER", "AUC"))

    def _told(self) -> list[tuple[str, str, str]]:
        """Each kind of impostors with EER and AUC, and their intervals."""
        return [
            (name, _with_ends(section, "eer", 100, " %"), _with_ends(section, "roc_auc", 1, ""))
            for name in ("twin", "unrelated", "all")
            if (section := self.figures.get(name))
        ]


def _with_ends(section: Mapping[str, Any], name: str, factor: int, unit: str) -> str:
    ends = (section.get("intervals") or {}).get(name)
    digits = 1 if factor == 100 else 3
    value = f"{factor * section[name]:.{digits}f}{unit}"
    return value if ends is None else f"{value} [{', '.join(f'{factor * end:.{digits}f}' for end in ends)}]"
