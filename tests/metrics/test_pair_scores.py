"""scores.py against double loops, for random labels and any block size."""

import numpy as np
import pytest
import verification_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_dcal.errors import MetricError
from twin_dcal.metrics import pairs as module
from twin_dcal.metrics.pairs import (
    PairKind,
    PairScores,
    all_pair_scores,
    normalize_rows,
    pair_kinds,
    pair_scores,
    split_by_kind,
)

KINDS = ("genuine", "twin", "unrelated")


def random_set(seed, images, people):
    """Embeddings, persons (not in order), families of one to three people."""
    rng = np.random.default_rng(seed)
    person = rng.integers(0, people, images)
    family_of_person = rng.integers(0, max(1, people // 2), people)
    return rng.normal(size=(images, 5)).astype(np.float32), person, family_of_person[person]


@given(st.integers(0, 10**6), st.integers(1, 24), st.integers(1, 9), st.integers(1, 30))
@settings(max_examples=60)
def test_all_pairs_equal_a_double_loop_for_any_block(seed, images, people, block):
    embeddings, person, family = random_set(seed, images, people)
    got = all_pair_scores(embeddings, person, family, block=block)
    want = oracle.all_pairs(embeddings.tolist(), person.tolist(), family.tolist())
    assert got.other.size == 0
    for kind in KINDS:
        values = getattr(got, kind)
        assert values.dtype == np.float32
        np.testing.assert_allclose(np.sort(values), np.sort(want[kind]), atol=1e-6)
    whole = all_pair_scores(embeddings, person, family, block=images)
    for kind in KINDS:  # not only the same values: in the same order
        np.testing.assert_allclose(getattr(got, kind), getattr(whole, kind), atol=1e-6)


def test_all_pairs_equal_explicit_pairs_sorted_by_kind():
    embeddings, person, family = random_set(1, 40, 12)
    first, second = np.triu_indices(40, 1)
    listed = split_by_kind(pair_scores(embeddings, first, second), pair_kinds(first, second, person, family))
    every = all_pair_scores(embeddings, person, family)
    for kind in PairKind:
        np.testing.assert_allclose(np.sort(every.of(kind)), np.sort(listed.of(kind)), atol=1e-6)


def test_labels_may_be_names():
    embeddings, person, family = random_set(2, 20, 6)
    named = all_pair_scores(
        embeddings, [f"p{n}" for n in person], np.array([f"family {n}" for n in family], dtype=object)
    )
    numbered = all_pair_scores(embeddings, person, family)
    for kind in KINDS:
        np.testing.assert_allclose(np.sort(getattr(named, kind)), np.sort(getattr(numbered, kind)), atol=1e-6)


def test_pairs_keep_their_order_across_chunks(monkeypatch):
    embeddings, _, _ = random_set(3, 15, 4)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 15, 50), rng.integers(0, 15, 50)
    whole = pair_scores(embeddings, first, second)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(pair_scores(embeddings, first, second), whole)
    rows = embeddings.tolist()
    want = [oracle.cosine(rows[i], rows[j]) for i, j in zip(first, second, strict=True)]
    np.testing.assert_allclose(whole, want, atol=1e-6)
    assert pair_scores(embeddings, np.empty(0, int), np.empty(0, int)).shape == (0,)


def test_scores_stay_within_one():
    same = np.tile(np.random.default_rng(0).normal(size=(1, 384)), (50, 1))
    got = all_pair_scores(np.concatenate([same, -same]), np.arange(100), np.arange(100)).unrelated
    assert (got.min(), got.max()) == (-1, 1)


def test_kinds_of_pairs():
    person, family = ["a", "a", "b", "c"], [0, 0, 0, 1]
    kinds = pair_kinds([0, 0, 0, 2], [1, 2, 3, 3], person, family)
    assert kinds.tolist() == [PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED, PairKind.UNRELATED]


def test_split_keeps_order_and_impostors_gather_all_kinds():
    split = split_by_kind([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 3, 1, 2])
    assert [split.of(kind).tolist() for kind in PairKind] == [
        np.float32(part).tolist() for part in ([0.2], [0.1, 0.4], [0.5], [0.3])
    ]
    assert split.impostors.tolist() == np.float32([0.1, 0.4, 0.5, 0.3]).tolist()
    assert split_by_kind([0.1], [0]).impostors.shape == (0,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_rows_get_unit_length_and_the_input_stays(dtype):
    given_rows = np.array([[3, 4], [0, -2], [-128, 0]], dtype)
    before = given_rows.copy()
    unit = normalize_rows(given_rows)
    np.testing.assert_array_equal(given_rows, before)
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, -1], [-1, 0]], atol=1e-7)
    assert unit.dtype == np.float32


def test_huge_and_tiny_rows_keep_their_direction():
    unit = normalize_rows(np.array([[3e300, 4e300], [3e-200, 4e-200]]))
    np.testing.assert_allclose(unit, [[0.6, 0.8]] * 2, rtol=1e-6)
    np.testing.assert_allclose(normalize_rows(np.float32([[3e38, 3e38]])), [[0.5**0.5] * 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 0], [0, 0]], r"1 of 2 rows are all zero.*row 1"),
        ([[1.0, np.nan], [1, 1]], r"1 of 2 rows hold NaN.*row 0"),
        ([[1.0, np.inf]], "NaN or infinity"),
        ([1.0, 2.0], "shape"),
        (np.empty((3, 0)), "shape"),
        ([["a"]], "expected numbers"),
    ],
)
def test_embeddings_without_a_direction_are_errors(rows, message):
    with pytest.raises(MetricError, match=message):
        normalize_rows(rows)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0], [1, 2], "1 first but 2 second"),
        ([-1], [0], "row numbers -1"),
        ([0], [3], "row numbers 3 to 3 for 3 images"),
        ([0.0], [1.0], "list of row numbers"),
        ([[0]], [[1]], "list of row numbers"),
    ],
)
def test_impossible_pairs_are_errors(first, second, message):
    with pytest.raises(MetricError, match=message):
        pair_scores(np.eye(3), first, second)


@pytest.mark.parametrize(
    ("person", "family", "message"),
    [
        ([0, 1], [0, 1], "3 embeddings but 2 labels"),
        ([0, 1, 2], [0, 1], "Give one of each"),
        (["a", "b", "a"], ["f", "g", "g"], "person a is in family f and in g"),
        ([], [], "Give one of each"),
    ],
)
def test_impossible_labels_are_errors(person, family, message):
    with pytest.raises(MetricError, match=message):
        all_pair_scores(np.eye(3), person, family)


def test_other_misuse_is_an_error():
    with pytest.raises(MetricError, match="block"):
        all_pair_scores(np.eye(3), [0, 1, 2], [0, 1, 2], block=0)
    with pytest.raises(MetricError, match="one PairKind"):
        split_by_kind([0.1, 0.2], [0])
    with pytest.raises(MetricError, match="one PairKind"):
        split_by_kind([0.1], [4])
    empty = np.empty(0, np.float32)
    with pytest.raises(MetricError, match=r"PairScores\.twin"):
        PairScores(genuine=empty, twin=np.empty(0), unrelated=empty, other=empty)
