"""Of very many people, those who may be most like a query: a shortlist by FAISS, which is then compared exactly."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY = 100_000
"""People from which on a shortlist is worth its making: below, everybody is compared within some 10 ms."""
MOST_HITS = 100
"""Of more hits than these everybody is compared."""
_CANDIDATES = 2_000
_SAMPLE = 20_000
_BITS = 4


def installed() -> Any | None:
    """The module `faiss`, imported here for the first time; None where it is not installed."""
    try:
        return import_module("faiss")
    except ImportError:
        return None


class Shortlist:
    """Features (P, E) as codes of a sixteenth of their size, all of which are gone through.

    Every two numbers of a feature are one of 16 pairs, 4 bits, whose products with the query are looked up in registers
    (product quantization, "fast scan": André, Kermarrec & Le Scouarnec, https://arxiv.org/abs/1704.07355). Chosen over
    IVF and HNSW by measurement (docs/people.md). Args: faiss: the module.
    """

    def __init__(self, features_PE: NDArray[np.float32], faiss: Any) -> None:
        people, width = features_PE.shape
        parts = width // 2 if width % 2 == 0 else width
        self._index = faiss.IndexPQFastScan(width, parts, _BITS, faiss.METRIC_INNER_PRODUCT)
        self._index.train(features_PE[:: max(people // _SAMPLE, 1)])
        self._index.add(features_PE)

    def of(self, query_E: NDArray[np.float32]) -> NDArray[np.intp]:
        """Rows of those whose codes are most like the query, sorted."""
        found = self._index.search(query_E[None], min(_CANDIDATES, self._index.ntotal))[1][0]
        return np.sort(found[found >= 0]).astype(np.intp)
