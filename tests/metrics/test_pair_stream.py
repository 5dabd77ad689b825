"""counting.py against double loops, for any tile; counted figures against exact ones."""

import math
from collections import Counter

import numpy as np
import pytest
import verification_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_dcal.errors import MetricError
from twin_dcal.metrics import error_rates, pair_stream
from twin_dcal.metrics.pair_stream import GRID, AllPairs, ListedPairs, count_pairs, grid_index
from twin_dcal.metrics.pairs import PairKind, all_pair_scores

KINDS = ("genuine", "twin", "unrelated")


def random_set(seed, images, people):
    """Embeddings, persons (not in order), families of one to three people."""
    rng = np.random.default_rng(seed)
    person = rng.integers(0, people, images)
    family_of_person = rng.integers(0, max(1, people // 2), people)
    return rng.normal(size=(images, 5)).astype(np.float32), person, family_of_person[person]


def tiles(monkeypatch, rows, columns):
    monkeypatch.setattr(pair_stream, "TILE_ROWS", rows)
    monkeypatch.setattr(pair_stream, "TILE_COLUMNS", columns)


def listed(source):
    """first, second, score and kind of every pair of a source."""
    blocks = list(source.blocks())
    return [np.concatenate([getattr(b, key) for b in blocks]) for key in ("first", "second", "score", "kind")]


@pytest.mark.parametrize("seed", range(12))
def test_every_pair_comes_once_with_its_kind_and_score_for_any_tile(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    embeddings, person, family = random_set(seed, int(rng.integers(2, 24)), int(rng.integers(1, 9)))
    tiles(monkeypatch, int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    source = AllPairs(embeddings, person, family)
    rows = embeddings.tolist()
    want = {
        (i, j): (kind, oracle.cosine(rows[i], rows[j]))
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        for kind in [
            "genuine" if person[i] == person[j] else "twin" if family[i] == family[j] else "unrelated"
        ]
    }
    pairs = list(zip(*listed(source), strict=True))
    assert len(pairs) == len(want) == source.num_pairs
    for first, second, score, kind in pairs:
        name, cosine = want.pop((min(first, second), max(first, second)))
        assert PairKind(kind).name.lower() == name
        assert score == pytest.approx(cosine, abs=1e-6)
        assert float(score) / GRID == round(float(score) / GRID)
    assert not want


def test_blocks_have_their_types_and_never_exceed_a_tile(monkeypatch):
    tiles(monkeypatch, 4, 6)
    source = AllPairs(*random_set(5, 40, 12))
    for block in source.blocks():
        assert 0 < block.score.size <= 24
        types = [block.first.dtype, block.second.dtype, block.score.dtype, block.kind.dtype]
        assert types == [np.int32, np.int32, np.float32, np.int8]
        assert block.kinds() == sorted(set(block.kind.tolist()))
        for kind in block.kinds():
            assert (block.only(kind).kind == kind).all()
        assert sum(block.only(kind).score.size for kind in block.kinds()) == block.score.size
    again = listed(source)
    for before, after in zip(listed(source), again, strict=True):
        np.testing.assert_array_equal(before, after)


def test_labels_may_be_names_and_become_numbers():
    embeddings, person, family = random_set(2, 20, 6)
    named = AllPairs(embeddings, [f"p{n}" for n in person], np.array([f"f{n}" for n in family], dtype=object))
    numbered = AllPairs(embeddings, person, family)
    for ours, theirs in zip(listed(named), listed(numbered), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(named.people.tolist()) == set(range(len(set(person))))
    assert ((named.families[:, None] == named.families) == (family[:, None] == family)).all()


@pytest.mark.parametrize("count_from", [1, 50, 10**9])
def test_counters_and_arrays_hold_the_same_scores(monkeypatch, count_from):
    """From no score, in the middle of a walk, and never."""
    monkeypatch.setattr(pair_stream, "COUNT_FROM", count_from)
    tiles(monkeypatch, 5, 7)
    source = AllPairs(np.round(random_set(3, 40, 12)[0]), *random_set(3, 40, 12)[1:])  # few values, so ties
    counts = count_pairs(source)
    _, _, scores, kinds = listed(source)
    for kind in PairKind:
        kind_counts, want = counts.of(kind), Counter(scores[kinds == kind].tolist())
        values, each = kind_counts.distinct()
        assert dict(zip(values.tolist(), each.tolist(), strict=True)) == want
        assert kind_counts.size == sum(want.values())
        assert values.dtype == np.float32
    assert (counts.unrelated.below is None) == (count_from == 10**9)  # counters, or the scores themselves
    assert counts.other.size == 0
    assert max(Counter(scores.tolist()).values()) > 1


@pytest.mark.parametrize("seed", range(4))
def test_counted_figures_have_no_bin_error(monkeypatch, seed):
    """Every figure of counted cosines is that of the loops over the very scores the source shows."""
    monkeypatch.setattr(pair_stream, "COUNT_FROM", 1)
    source = AllPairs(*random_set(seed, 24, 9))
    counts = count_pairs(source)
    _, _, scores, kinds = listed(source)
    genuine = scores[kinds == PairKind.GENUINE].tolist()
    for section, impostor_kinds in (("twin", [1]), ("unrelated", [2]), ("all", [1, 2])):
        impostor = scores[np.isin(kinds, impostor_kinds)].tolist()
        counted = counts.section(section)
        assert (counted.num_genuine, counted.num_impostors) == (len(genuine), len(impostor))
        assert error_rates.auc(counted) == pytest.approx(oracle.auc(genuine, impostor), abs=1e-12)
        rate, near = oracle.eer(genuine, impostor)
        assert error_rates.eer(counted).eer == pytest.approx(rate, abs=1e-12)
        assert error_rates.eer(counted).threshold in near
        for asked in (0.5, 0.1, 0.01):
            point = error_rates.operating_point(counted, asked)
            want = oracle.operating_point(genuine, impostor, asked)
            assert (point.threshold, point.fmr_achieved, point.fnmr) == want
        assert error_rates.best_accuracy(counted).value == pytest.approx(
            oracle.best_accuracy(genuine, impostor)[0]
        )


def test_the_grid_moves_no_figure_of_a_small_set():
    embeddings, person, family = random_set(7, 60, 20)
    exact = all_pair_scores(embeddings, person, family)
    counted = count_pairs(AllPairs(embeddings, person, family)).section("all")
    plain = error_rates.sort_scores(exact.genuine, exact.impostors)
    assert error_rates.auc(counted) == pytest.approx(error_rates.auc(plain), abs=1e-3 / plain.num_genuine)
    assert error_rates.eer(counted).eer == pytest.approx(error_rates.eer(plain).eer)
    assert error_rates.eer(counted).threshold == pytest.approx(error_rates.eer(plain).threshold, abs=GRID)


def test_tiles_do_not_matter(monkeypatch):
    source = AllPairs(*random_set(8, 50, 15))
    whole = count_pairs(source)
    tiles(monkeypatch, 3, 5)
    tiled = count_pairs(source)
    for kind in KINDS:  # BLAS may round the last bit another way
        ours, theirs = getattr(tiled, kind), getattr(whole, kind)
        np.testing.assert_allclose(ours.values, theirs.values, atol=4 * GRID)


def test_numbers_of_grid_values():
    values = np.float32([-1, -GRID, -0.0, 0.0, GRID, 0.5 + GRID, 1])
    middle = 2**24
    assert grid_index(values).tolist() == [
        0,
        middle - 1,
        middle,
        middle,
        middle + 1,
        middle + 2**23 + 1,
        2 * middle,
    ]


scores_and_kinds = st.lists(
    st.tuples(st.integers(-6, 6).map(lambda n: n / 2), st.sampled_from(list(PairKind))),
    min_size=1,
    max_size=30,
)


@given(scores_and_kinds, st.integers(1, 40), st.randoms())
@settings(max_examples=60)
def test_lists_are_counted_as_they_are_in_any_order_and_chunk(pairs, at_once, random):
    mixed = random.sample(pairs, len(pairs))
    source = ListedPairs(*zip(*mixed, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_stream, "LISTED_AT_ONCE", at_once)
        counts = count_pairs(source)
        assert source.num_pairs == len(pairs) == sum(block.score.size for block in source.blocks())
        assert all((block.first == -1).all() and (block.second == -1).all() for block in source.blocks())
    for kind in PairKind:
        values, each = counts.of(kind).distinct()
        want = Counter(score for score, its in pairs if its == kind)
        assert dict(zip(values.tolist(), each.tolist(), strict=True)) == want


def test_list_scores_keep_their_type_and_range():
    scores = [1e6 + 1e-7, 1e6, -3.0]
    source = ListedPairs(scores, [0, 2, 2])
    assert next(source.blocks()).score.dtype == np.float64
    assert error_rates.auc(count_pairs(source).section("unrelated")) == 1.0
    assert next(ListedPairs(np.float32([1, 2]), [0, 1]).blocks()).score.dtype == np.float32
    assert next(ListedPairs([3, 1], [0, 1]).blocks()).score.dtype == np.float64
    assert not source.on_grid


def test_a_list_knows_its_rows_and_labels():
    source = ListedPairs(
        [0.9, 0.5, 0.1], [0, 1, 2], [0, 0, 0], [1, 2, 3], people=["a", "a", "b", "c"], families=[7, 7, 7, 9]
    )
    assert [column.tolist() for column in listed(source)[:2]] == [[0, 0, 0], [1, 2, 3]]
    assert (source.people.tolist(), source.families.tolist()) == ([0, 0, 1, 2], [0, 0, 0, 1])
    untold = ListedPairs([0.9, 0.5], [0, 3], [0, 0], [1, 2], people=[5, 5, 6])
    assert untold.families is None
    assert untold.people.tolist() == [0, 0, 1]


def test_sections_and_their_impostors():
    counts = count_pairs(ListedPairs([3.0, 2, 1, 0], [0, 1, 2, 3]))
    assert [counts.section(name).num_impostors for name in pair_stream.SECTIONS] == [1, 1, 3]
    alone = count_pairs(ListedPairs([3.0, 2], [0, 3]))
    assert [alone.has(name) for name in pair_stream.SECTIONS] == [False, False, True]
    with pytest.raises(MetricError, match="section 'twin': impostor scores: there are none"):
        alone.section("twin")
    with pytest.raises(MetricError, match="section 'other' is unknown. Use twin, unrelated, all"):
        alone.has("other")
    with pytest.raises(MetricError, match="genuine scores: there are none"):
        count_pairs(ListedPairs([3.0, 2], [1, 3])).section("all")
    with pytest.raises(MetricError, match="those of 1 genuine and 2 impostor pairs"):
        count_pairs(ListedPairs([2.0, 2, 2], [0, 1, 2])).section("all")


ONE = {"people": [0, 0, 1, 2], "families": [0, 0, 0, 1]}


@pytest.mark.parametrize(
    ("arguments", "labels", "message"),
    [
        (([], []), {}, "at least one"),
        (([[0.1]], [[0]]), {}, r"shape \(1, 1\)"),
        ((["a"], [0]), {}, "one score per pair"),
        (([0.1, math.nan, math.inf], [0, 1, 1]), {}, "2 of 3 scores NaN or infinite, first pair 1"),
        (([0.1, 0.2], [0]), {}, "2 scores, 1 kind"),
        (([0.1, 0.2], [0, 4]), {}, "more than PairKind"),
        (([0.1, 0.2], [0.0, 1.0]), {}, "more than PairKind"),
        (([0.1], [0], [0]), {}, "both image rows or none"),
        (([0.1], [0], None, [0]), {}, "both image rows or none"),
        (([0.1], [0], [0, 1], [1, 2]), {}, "1 score, 1 kind"),
        (([0.1], [0], [0], [4]), ONE, "row numbers 4 to 4 for 4 images"),
        (([0.1], [0], [-1], [1]), ONE, "row numbers -1"),
        (([0.1], [0], [0.5], [1.0]), ONE, "list of row numbers"),
        (([0.1, 0.2], [0, 0], [0, 1], [1, 1]), ONE, "1 pair an image with itself, first pair 1 .image 1."),
        (([0.1], [0]), ONE, "no image rows"),
        (([0.1, 0.3], [0, 2], [0, 0], [1, 2]), ONE, "kind of 1 of 2 .* first pair 1: given UNRELATED, .* TWIN"),
        (([0.3], [3], [0], [2]), ONE, "given OTHER, by the labels TWIN"),
        (([0.1], [0], [0], [2]), {"people": [0, 0, 1]}, "given GENUINE, by the labels UNRELATED"),
        (([0.1], [2], [0], [1]), {"people": [0, 0, 1]}, "given UNRELATED, by the labels GENUINE"),
        (([0.1], [0], [0], [1]), {"people": [0, 0], "families": [0, 1]}, "person 0 is in family 0 and in 1"),
        (([0.1], [0], [0], [1]), {"people": [0, 0], "families": [0]}, "one of each"),
        (([0.1], [0], [0], [1]), {"families": [0, 0]}, "families are given but no people"),
        (([0.1], [0], [0], [1]), {"people": [[0, 0]]}, "one label per image"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_are_one_clear_line(arguments, labels, message):
    with pytest.raises(MetricError, match=message) as raised:
        ListedPairs(*arguments, **labels)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("embeddings", "person", "family", "message"),
    [
        (np.eye(3), [0, 1], [0, 1], "3 embeddings but 2 labels"),
        (np.eye(3), ["a", "b", "a"], ["f", "g", "g"], "person a is in family f and in g"),
        (np.zeros((2, 3)), [0, 1], [0, 1], "all zero"),
        (np.full((2, 3), np.nan), [0, 1], [0, 1], "NaN"),
    ],
)
def test_sets_that_cannot_be_are_one_clear_line(embeddings, person, family, message):
    with pytest.raises(MetricError, match=message):
        AllPairs(embeddings, person, family)


def test_one_image_has_no_pairs():
    source = AllPairs(np.eye(1), [0], [0])
    assert (source.num_pairs, list(source.blocks())) == (0, [])
    with pytest.raises(MetricError, match="there are none"):
        count_pairs(source).section("all")
