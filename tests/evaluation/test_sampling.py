"""sampling.py: which images of each person are compared depends on seed and names alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.protocol import PairRows, keep_images
from twin_dcal.evaluation.sampling import Sampling, limit_images


@pytest.fixture
def comparisons():
    return faces(4, images_each=6)[0]


def test_everybody_keeps_at_most_so_many(comparisons):
    kept, rows = limit_images(comparisons, 4, 0)
    assert set(Counter(kept.people.tolist()).values()) == {4}
    assert kept.names == [comparisons.names[row] for row in rows.tolist()]
    assert np.array_equal(kept.families, comparisons.families[rows])
    assert kept.protocol == {"name": "all pairs", "max_images_per_person": 4, "of_images": 48, "seed": 0}
    everything, all_rows = limit_images(comparisons, 6, 0)
    assert everything.names == comparisons.names
    assert all_rows.size == 48


def test_the_choice_is_by_seed_whatever_the_order_and_the_folder(comparisons):
    chosen = set(limit_images(comparisons, 3, 0)[0].names)
    order = np.random.default_rng(0).permutation(len(comparisons.names))
    shuffled = replace(
        comparisons,
        names=[comparisons.names[row] for row in order],
        people=comparisons.people[order],
        families=comparisons.families[order],
    )
    assert set(limit_images(shuffled, 3, 0)[0].names) == chosen
    moved = replace(
        comparisons, names=[name.replace("/data/root", "/elsewhere") for name in comparisons.names]
    )
    assert {name.replace("/elsewhere", "/data/root") for name in limit_images(moved, 3, 0)[0].names} == chosen
    assert set(limit_images(comparisons, 3, 1)[0].names) != chosen


def test_a_list_keeps_the_pairs_of_images_that_are_kept(comparisons):
    rng = np.random.default_rng(1)
    first, second = rng.permutation(48)[:30], rng.permutation(48)[:30]
    kinds = np.arange(30, dtype=np.int8) % 3
    listed = replace(comparisons, pairs=PairRows(first, second, kinds))
    kept, rows = limit_images(listed, 4, 0)
    expected = [
        (comparisons.names[one], comparisons.names[other], kind)
        for one, other, kind in zip(first, second, kinds, strict=True)
        if one in rows and other in rows
    ]
    found = kept.pairs
    assert expected == [
        (kept.names[one], kept.names[other], kind)
        for one, other, kind in zip(found.first, found.second, found.kinds, strict=True)
    ]
    with pytest.raises(MetricError, match="no pair is left"):
        limit_images(keep_images(listed, np.array([0, 7])), 2, 0)


def test_unknown_people_are_refused(comparisons):
    with pytest.raises(MetricError, match="does not say whose images"):
        limit_images(replace(comparisons, people=None), 2, 0)


def test_both_limits_together(comparisons):
    kept, rows = Sampling(20, 0, 3).of(comparisons)
    assert rows.size == 24
    assert Counter(kept.pairs.kinds.tolist())[2] == 20
    assert kept.protocol["name"] == "sampled"
    assert kept.protocol["max_images_per_person"] == 3
    assert Sampling().of(comparisons)[0] is comparisons
