"""Scored pairs with the progress of going through them, which takes minutes where there are a billion."""

from collections.abc import Iterator

from twin_dcal.metrics.pair_stream import DerivedPairs, PairBlock, PairSource
from twin_dcal.progress import ProgressBar


class WatchedPairs(DerivedPairs):
    """The same pairs as `source`; each pass over them is told."""

    def __init__(self, source: PairSource) -> None:
        super().__init__(source)
        self.num_pairs = source.num_pairs

    def blocks(self) -> Iterator[PairBlock]:
        with ProgressBar(self.num_pairs, "comparing", "pairs") as progress:
            for block in self._source.blocks():
                yield block
                progress.update(block.score.size)
