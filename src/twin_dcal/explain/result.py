"""What an explanation of a pair holds: plain arrays and where they came from. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """A region of the first picture and one of the second that act on the cosine together.

    first, second: (row, column) of the attribution's grid. strength: what the two add to the cosine between them;
    positive: they look alike to the model, negative: they look different.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    strength: float


@dataclass(frozen=True, eq=False)
class PairExplanation:
    """Why the cosine of a pair is what it is.

    similarity: cosine of the pair. method: how `attribution` was found, see docs/explanations.md.
    attribution1, attribution2: (G, G) signed, of the first and second picture: what each region adds to the cosine;
        positive supports "same", negative supports "different". In units of the cosine, but for "combined".
    rollout1, rollout2: (h, w) share of each of the model's patches in SA's class token.
    glca1, glca2: (h, w) attention of GLCA's class token. glca_chosen1, glca_chosen2: (h, w) bool, GLCA's local
        queries; `glca_uses_chosen` tells whether they reach the embedding at all (model.glca_pool "local"). None
        without GLCA.
    matches: strongest first.
    """

    similarity: float
    method: str
    attribution1: Map
    attribution2: Map
    rollout1: Map
    rollout2: Map
    glca1: Map | None
    glca2: Map | None
    glca_chosen1: NDArray[np.bool_] | None
    glca_chosen2: NDArray[np.bool_] | None
    glca_uses_chosen: bool
    matches: tuple[Match, ...]
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        rows, columns = self.attribution1.shape
        return (
            f"PairExplanation(similarity {self.similarity:+.3f}, {self.method}, maps of {rows} x {columns})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON: arrays as nested lists, row by row."""
        told: dict[str, Any] = {}
        for name, value in vars(self).items():
            told[name] = value.tolist() if isinstance(value, np.ndarray) else value
        told["matches"] = [
            {"first": list(match.first), "second": list(match.second), "strength": match.strength}
            for match in self.matches
        ]
        told["metadata"] = dict(self.metadata)
        return told
