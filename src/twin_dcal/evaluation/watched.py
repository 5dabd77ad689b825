"""Scored pairs with the progress of going through them, which takes minutes where there are a billion."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from twin_dcal.metrics.pair_stream import PairBlock, PairSource
from twin_dcal.progress import ProgressBar


class WatchedPairs:
    """The same pairs as `source`; each pass over them is told."""

    def __init__(self, source: PairSource) -> None:
        self._source = source
        self.num_pairs, self.on_grid = source.num_pairs, source.on_grid

    @property
    def people(self) -> NDArray[np.intp] | None:
        return self._source.people

    @property
    def families(self) -> NDArray[np.intp] | None:
        return self._source.families

    def blocks(self) -> Iterator[PairBlock]:
        with ProgressBar(self.num_pairs, "comparing", "pairs") as progress:
            for block in self._source.blocks():
                yield block
                progress.update(block.score.size)
