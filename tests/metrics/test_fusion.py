"""Three-way fusion of two cosines: against scikit-learn and loops, in every place that scores pairs."""

import numpy as np
import pytest

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.evaluation.systems import fusion_from
from twin_dcal.metrics.error_rates import eer, sort_scores
from twin_dcal.metrics.fusion import PRIOR, Fusion, fit_fusion, similarity_matrix, similarity_rows
from twin_dcal.metrics.pair_stream import AllPairs
from twin_dcal.metrics.pairs import all_pair_scores, pair_scores

FUSION = Fusion(4, 0.3, (-2.0, 9.0, -4.0), (20.0, 3.0, -9.0), "made up")


def features(count=9, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(count, width)) for width in (4, 6)]
    untouched, own = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    return (
        np.concatenate([np.sqrt(0.3) * untouched, np.sqrt(0.7) * own], axis=1).astype(np.float32),
        untouched,
        own,
    )


def by_hand(u, o):
    twins, strangers = -2 * u + 9 * o - 4, 20 * u + 3 * o - 9
    return np.tanh(-np.log(np.exp(-twins) + np.exp(PRIOR - strangers)) / 8)


def test_every_way_to_score_pairs_is_the_loop():
    rows, untouched, own = features()
    expected = np.array([[by_hand(u @ v, o @ p) for v, p in zip(untouched, own, strict=True)]
                         for u, o in zip(untouched, own, strict=True)])  # fmt: skip
    np.testing.assert_allclose(similarity_matrix(rows, rows, FUSION), expected, atol=1e-5)
    first, second = np.triu_indices(9, 1)
    listed = expected[first, second]
    np.testing.assert_allclose(similarity_rows(rows[first], rows[second], FUSION), listed, atol=1e-5)
    np.testing.assert_allclose(pair_scores(3 * rows, first, second, FUSION), listed, atol=1e-5)
    people, families = np.arange(9) // 2, np.arange(9) // 4
    by_kind = all_pair_scores(rows, people, families, fusion=FUSION, block=2)
    kinds = np.where(people[first] == people[second], 0, np.where(families[first] == families[second], 1, 2))
    for kind, scores in enumerate((by_kind.genuine, by_kind.twin, by_kind.unrelated)):
        np.testing.assert_allclose(np.sort(scores), np.sort(listed[kinds == kind]), atol=1e-5)
    labels = np.array([str(person) for person in people]), np.array([str(family) for family in families])
    comparisons = Comparisons("made", [str(n) for n in range(9)], *labels, None, {})
    blocks = list(pair_source(comparisons, rows, FUSION).blocks())
    assert isinstance(pair_source(comparisons, rows, FUSION), AllPairs)
    for block in blocks:
        np.testing.assert_allclose(block.score, expected[block.first, block.second], atol=1e-5)


def test_without_fusion_scores_are_cosines():
    rows, _, _ = features()
    np.testing.assert_array_equal(similarity_matrix(rows, rows), rows @ rows.T)
    np.testing.assert_allclose(similarity_rows(rows, rows), 1, atol=1e-6)


def made_cosines(seed=0, count=4000):
    """Genuine pairs high in both, twins high in the untouched cosine, strangers low in it."""
    rng = np.random.default_rng(seed)

    def drawn(u, o):
        return np.clip(rng.normal(u, 0.12, count), -1, 1), np.clip(rng.normal(o, 0.15, count), -1, 1)

    kinds = {"genuine": drawn(0.6, 0.7), "twin": drawn(0.58, 0.35), "unrelated": drawn(0.05, 0.25)}
    return ({kind: pair[place] for kind, pair in kinds.items()} for place in (0, 1))


def test_log_odds_are_those_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    untouched, own = made_cosines()
    found = fit_fusion(untouched, own, split=4, share=0.5)
    for kind, coefficients in (("twin", found.twins), ("unrelated", found.strangers)):
        design = np.concatenate(
            [np.column_stack([c[each] for c in (untouched, own)]) for each in ("genuine", kind)]
        )
        target = np.repeat([1, 0], len(design) // 2)
        # Our loss is a mean over pairs with a ridge of 1e-5 / 2; scikit-learn's is a sum with 1 / (2 C).
        model = linear.LogisticRegression(C=1 / (1e-5 * len(design)), tol=1e-10, max_iter=1000).fit(
            design, target
        )
        np.testing.assert_allclose(coefficients, [*model.coef_[0], model.intercept_[0]], rtol=2e-3)


def test_it_beats_every_weighted_sum_where_impostors_are_of_two_kinds():
    untouched, own = made_cosines()
    fusion = fit_fusion(untouched, own, split=4, share=0.5)

    def errors(score):
        scores = {kind: np.asarray(score(untouched[kind], own[kind]), np.float32) for kind in untouched}
        return [eer(sort_scores(scores["genuine"], scores[kind])).eer for kind in ("twin", "unrelated")]

    twin, unrelated = errors(fusion.score)
    for share in (0, 0.25, 0.5, 0.75):
        one, other = errors(lambda u, o, share=share: share * u + (1 - share) * o)
        assert one > twin + 0.002 or other > unrelated + 0.002, share


def test_equal_cosines_keep_their_order():
    """Epoch 0: both cosines are the network's own, and so is the order of pairs."""
    rng = np.random.default_rng(0)
    cosines = {
        kind: rng.normal(mean, 0.1, 300)
        for kind, mean in (("genuine", 0.6), ("twin", 0.5), ("unrelated", 0.1))
    }
    fusion = fit_fusion(cosines, cosines, split=4, share=0.5)
    values = np.sort(np.concatenate(list(cosines.values())))
    assert (np.diff(fusion.score(values, values)) >= 0).all()


def test_one_kind_of_impostors_is_enough_and_none_is_refused():
    untouched, own = (dict(each) for each in made_cosines())
    for kind, missing in (("twin", "strangers"), ("unrelated", "twins")):
        left = [
            {key: value if key in ("genuine", kind) else [] for key, value in each.items()}
            for each in (untouched, own)
        ]
        fusion = fit_fusion(*left, split=4, share=0.5)
        assert getattr(fusion, missing) is None
        assert fusion.score(0.9, 0.9) > fusion.score(0.0, 0.1)
    empty = [{**each, "twin": [], "unrelated": []} for each in (untouched, own)]
    with pytest.raises(MetricError, match="needs genuine pairs"):
        fit_fusion(*empty, split=4, share=0.5)


def test_stored_values_come_back_and_damaged_ones_do_not():
    assert Fusion.from_dict(FUSION.to_dict()) == FUSION
    good = FUSION.to_dict()
    for damage in (
        {"split": 0}, {"split": 1.5}, {"split": True}, {"share": 1.0}, {"share": "x"}, {"twins": [1, 2]},
        {"twins": [1, 2, float("nan")]},
        {"strangers": [1e9, 0, 0]}, {"twins": None, "strangers": None},
    ):  # fmt: skip
        with pytest.raises((KeyError, TypeError, ValueError)):
            Fusion.from_dict(good | damage)
        with pytest.raises(MetricError, match=r"file\.npz: its entry 'fusion' is damaged"):
            fusion_from(good | damage, "file.npz")
    assert fusion_from(None, "file.npz") is None
