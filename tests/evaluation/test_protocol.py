"""protocols.py: which pairs are compared, drawn fairly, and folds that never split a family."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_faces import faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.protocol import (
    Comparisons,
    distinct_numbers,
    family_folds,
    keep_people,
    pair_source,
    sample_unrelated,
)
from twin_dcal.metrics.pair_stream import count_pairs
from twin_dcal.metrics.pairs import PairKind


def pairs_of(comparisons):
    """{(low row, high row): kind} of listed comparisons."""
    rows = zip(
        comparisons.pairs.first.tolist(),
        comparisons.pairs.second.tolist(),
        comparisons.pairs.kinds.tolist(),
        strict=True,
    )
    return {(min(one, other), max(one, other)): kind for one, other, kind in rows}


def test_a_sample_has_every_genuine_and_twin_pair_and_only_true_unrelated_ones():
    comparisons, _ = faces(num_families=5, images_each=3, seed=3)
    order = np.random.default_rng(0).permutation(len(comparisons.names))
    comparisons = Comparisons(
        "x",
        [comparisons.names[i] for i in order],
        comparisons.people[order],
        comparisons.families[order],
        None,
        {},
    )
    sampled = sample_unrelated(comparisons, 40, seed=1)
    found = pairs_of(sampled)
    assert len(found) == len(sampled.pairs.first)  # no pair twice
    counts = Counter(found.values())
    assert counts[PairKind.UNRELATED] == 40
    for one, other in itertools.combinations(range(len(comparisons.names)), 2):
        if comparisons.people[one] == comparisons.people[other]:
            assert found[one, other] == PairKind.GENUINE
        elif comparisons.families[one] == comparisons.families[other]:
            assert found[one, other] == PairKind.TWIN
        else:
            assert found.get((one, other), PairKind.UNRELATED) == PairKind.UNRELATED
    assert sampled.protocol == {"name": "sampled", "max_unrelated": 40, "of_unrelated": 6 * 6 * 10, "seed": 1}


def test_a_sample_is_set_by_its_seed_and_scores_are_those_of_all_pairs():
    comparisons, vectors = faces(num_families=5)
    one, again, other = (sample_unrelated(comparisons, 50, seed=seed) for seed in (1, 1, 2))
    assert pairs_of(one) == pairs_of(again) != pairs_of(other)
    every, some = count_pairs(pair_source(comparisons, vectors)), count_pairs(pair_source(one, vectors))
    np.testing.assert_allclose(some.genuine.values, every.genuine.values, atol=1e-6)
    assert some.twin.size == every.twin.size
    assert (some.unrelated.size, every.unrelated.size) == (50, 640)


def test_few_unrelated_pairs_and_lists_stay_as_they_are():
    comparisons, _ = faces(num_families=3, images_each=2)
    assert sample_unrelated(comparisons, 1000, 0) is comparisons
    listed = sample_unrelated(comparisons, 5, 0)
    assert sample_unrelated(listed, 1, 0) is listed
    with pytest.raises(MetricError, match="at least 1"):
        sample_unrelated(comparisons, 0, 0)


@given(st.integers(1, 60), st.data())
def test_distinct_numbers_are_distinct_and_in_range(total, data):
    size = data.draw(st.integers(0, total))
    drawn = distinct_numbers(total, size, np.random.default_rng(0))
    assert drawn.size == np.unique(drawn).size == size
    assert (np.diff(drawn) > 0).all()
    assert size == 0 or (drawn.min() >= 0 and drawn.max() < total)


@pytest.mark.parametrize(("total", "size"), [(12, 3), (12, 9), (40, 15)])
def test_every_number_is_as_likely_as_any_other(total, size):
    rng = np.random.default_rng(5)
    hits = np.bincount(
        np.concatenate([distinct_numbers(total, size, rng) for _ in range(4000)]), minlength=total
    )
    expected = 4000 * size / total
    assert np.abs(hits - expected).max() < 5 * np.sqrt(expected * (1 - size / total))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=8, max_size=80), st.integers(2, 5), st.integers(0, 5))
def test_folds_never_split_a_family_and_are_even(families, num_folds, seed):
    distinct = len(set(families))
    if distinct < 2 * num_folds:
        with pytest.raises(MetricError, match="folds of"):
            family_folds(families, None, num_folds, seed)
        return
    fold = family_folds(families, None, num_folds, seed)
    per_family = {family: set(fold[np.array(families) == family].tolist()) for family in families}
    assert all(len(folds) == 1 for folds in per_family.values())
    sizes = Counter(next(iter(folds)) for folds in per_family.values())
    assert len(sizes) == num_folds
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_every_fold_has_its_share_of_twin_families():
    families = np.array([f"t{n}" for n in range(10) for _ in range(2)] + [f"s{n}" for n in range(30)])
    people = np.array([f"p{n}" for n in range(50)])
    for seed in range(5):
        fold = family_folds(families, people, 5, seed)
        twins = {(fold[row], families[row]) for row in range(20)}
        assert Counter(number for number, _ in twins) == dict.fromkeys(range(5), 2)
    assert not np.array_equal(family_folds(families, people, 5, 0), family_folds(families, people, 5, 1))


def test_unknown_people_cannot_be_compared_in_all_pairs():
    comparisons, vectors = faces(2)
    unknown = Comparisons("some.npz", comparisons.names, None, None, None, {})
    with pytest.raises(MetricError, match=r"some\.npz: whose images these are is not known.*--data_dir"):
        pair_source(unknown, vectors)


def test_keeping_people_keeps_their_images_and_families():
    comparisons, _ = faces(3)
    kept = keep_people(comparisons, ["F01b", "F02a"])
    assert kept.known_people() == {"F01b", "F02a"}
    assert kept.known_families() == {"F01", "F02"}
    assert all("F01b" in name or "F02a" in name for name in kept.names)
    assert len(kept.names) == len(kept.people) == len(kept.families) == 8
