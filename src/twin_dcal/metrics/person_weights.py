"""Every person counts the same: pairs weighted so that a rate is the mean of the people's own rates.

Of each kind of pair, a person's own rate is the share of their pairs with an error; without weights a person with many
images counts for many. A pair of two people counts for both. So a pair of i and j weighs 1/n_i + 1/n_j, n being the
number of a person's pairs of that kind, scaled so that the weights of a kind add up to its number of pairs: how much
twin and unrelated pairs count within "all" stays as it was. Legend: K kinds of pair, P people.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError

from .pair_stream import PairBlock, PairSource
from .pairs import PairKind

_DIGITS = 52
"""Weights are rounded to so few binary digits that sums of all of them are exact, in whatever order."""


class PersonWeighted:
    """The pairs of a source with weights. MetricError where it is not known whose the images are.

    Weights do not change where a family is left out (`family_jackknife`), although people then have fewer unrelated
    pairs: a share of about one in the number of families.
    """

    def __init__(self, source: PairSource) -> None:
        if source.people is None:
            raise MetricError("weights by people: whose images are compared is not known; name the data set.")
        self._source, self.people, self.families = source, source.people, source.families
        self.on_grid, self.num_pairs = source.on_grid, source.num_pairs
        self._of_person = self._inverse()
        self._step = 2.0 ** -max(_DIGITS - math.ceil(math.log2(max(self.num_pairs, 2))), 0)

    def blocks(self) -> Iterator[PairBlock]:
        """The source's pairs in their order, with weights."""
        for block in self._source.blocks():
            kind = block.kind.astype(np.intp)
            first, second = self.people[block.first], self.people[block.second]
            weight = self._of_person[kind, first] + self._of_person[kind, second]
            yield replace(block, weight=np.maximum(np.rint(weight / self._step), 1) * self._step)

    def _inverse(self) -> NDArray[np.float64]:
        """(K, P) what a person adds to the weight of one of their pairs."""
        num_people = int(self.people.max()) + 1
        touching = np.zeros((len(PairKind), num_people))
        for block in self._source.blocks():
            for kind in block.kinds():
                part = block.only(kind)
                for rows in (part.first, part.second):
                    touching[kind] += np.bincount(self.people[rows], minlength=num_people)
        num_pairs, having = touching.sum(axis=1) / 2, (touching > 0).sum(axis=1)
        scale = num_pairs / np.maximum(having, 1)
        return np.asarray(scale[:, None] / np.where(touching > 0, touching, 1))
