"""reliability.py: ECE and Brier by a loop, and isotonic regression only where held-out families speak for it."""

import numpy as np
import people_oracle as oracle
import pytest
from made_faces import Split, faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation import reliability as module
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.reliability import choose_calibration, collect, log_loss, reliability
from twin_dcal.metrics.calibration import Isotonic, Platt, fit_platt
from twin_dcal.metrics.error_rates import sort_scores
from twin_dcal.metrics.pair_stream import ListedPairs, count_pairs
from twin_dcal.metrics.pairs import PairKind

PLATT = Platt(9.0, -4.0, 0.5, 10, 10, "val")


def drawn(seed=0, genuine=300, impostor=900):
    rng = np.random.default_rng(seed)
    return rng.normal(0.6, 0.2, genuine), rng.normal(0.3, 0.2, impostor).round(2)  # with ties


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_ece_and_brier_are_those_of_a_loop(num_bins):
    genuine, impostor = drawn()
    found = reliability(PLATT, sort_scores(genuine, impostor), num_bins)
    ece, brier = oracle.reliability(PLATT(genuine).tolist(), PLATT(impostor).tolist(), num_bins)
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.brier == pytest.approx(brier, abs=1e-12)
    assert found.num_pairs.sum() == 1200
    assert found.method == "platt"


def test_bins_hold_what_was_promised_and_what_came():
    calibration = Isotonic((0.0, 1.0), (0.0, 1.0), 0.5, 1, 1, "")
    found = reliability(calibration, sort_scores([0.1, 0.9, 1.0], [0.1, 0.1, 0.4]), 2)
    np.testing.assert_allclose(found.observed, [(1 / 6) / (1 / 6 + 1 / 2), 1])
    np.testing.assert_allclose(found.predicted, [(0.1 / 6 + 0.2 / 6 + 0.4 / 6) / (4 / 6), 0.95])
    assert found.num_pairs.tolist() == [4, 2]
    empty = reliability(calibration, sort_scores([0.9], [0.1]), 3)
    assert np.isnan(empty.observed[1])
    assert np.isnan(empty.predicted[1])
    assert empty.num_pairs.tolist() == [1, 0, 1]


def test_chunks_and_counts_make_no_difference(monkeypatch):
    comparisons, vectors = faces(6)
    counts = count_pairs(pair_source(comparisons, vectors))
    whole = reliability(PLATT, counts.section("all"))
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 11)
    parts = reliability(PLATT, counts.section("all"))
    assert parts.ece == pytest.approx(whole.ece, abs=1e-12)
    assert parts.brier == pytest.approx(whole.brier, abs=1e-12)
    assert np.array_equal(parts.num_pairs, whole.num_pairs)


def test_a_fitted_calibration_is_reliable_and_a_shifted_one_is_not():
    rng = np.random.default_rng(1)
    scores = sort_scores(rng.normal(0.6, 0.2, 20_000), rng.normal(0.3, 0.2, 20_000))
    good = fit_platt(scores.genuine, scores.impostor)
    shifted = Platt(good.slope, good.intercept - 2, 0.5, 1, 1, "")
    assert reliability(good, scores).ece < 0.02
    assert reliability(shifted, scores).ece > 0.1
    assert reliability(good, scores).brier < reliability(shifted, scores).brier


def test_few_or_unknown_families_get_platt():
    few = choose_calibration(pair_source(*faces(19)), "twin", "val", 0)
    assert isinstance(few.calibration, Platt)
    assert few.reason == "platt: 19 families have genuine pairs, fewer than 20"
    assert few.calibration.source == "val"
    genuine, impostor = drawn()
    kinds = np.repeat([PairKind.GENUINE, PairKind.OTHER], [300, 900])
    unknown = choose_calibration(ListedPairs(np.r_[genuine, impostor], kinds), "all", "val", 0)
    assert unknown.reason == "platt: families are not known"
    with pytest.raises(MetricError):
        choose_calibration(ListedPairs(genuine, kinds[:300]), "all", "val", 0)


def test_families_without_genuine_pairs_do_not_speak_for_isotonic_regression():
    """30 families have impostor pairs, 19 of them genuine ones."""
    whole = stepped(30)
    first, second, scores, kinds = (
        np.concatenate([getattr(block, name) for block in whole.blocks()])
        for name in ("first", "second", "score", "kind")
    )
    kept = (kinds != 0) | (whole.families[first] < 19)
    source = ListedPairs(
        scores[kept], kinds[kept], first[kept], second[kept], people=whole.people, families=whole.families
    )
    choice = choose_calibration(source, "twin", "val", 0)
    assert isinstance(choice.calibration, Platt)
    assert choice.reason == "platt: 19 families have genuine pairs, fewer than 20"
    assert isinstance(choose_calibration(whole, "twin", "val", 0).calibration, Isotonic)


def stepped(num_families, seed=0):
    """Within families; a score below 0.4 says 2 in 10 genuine, above 8 in 10: no logistic curve."""
    rng = np.random.default_rng(seed)
    people = np.array(
        [f"{family}{twin}" for family in range(num_families) for twin in "ab" for _ in range(12)]
    )
    families = np.array([family for family in range(num_families) for _ in range(24)])
    first, second = np.triu_indices(people.size, 1)
    near = families[first] == families[second]
    first, second = first[near], second[near]
    same = people[first] == people[second]
    low = rng.uniform(size=same.size) < np.where(same, 0.2, 0.8)
    scores = np.where(low, rng.uniform(0, 0.4, same.size), rng.uniform(0.4, 4, same.size))
    return ListedPairs(scores, np.where(same, 0, 1), first, second, people=people, families=families)


def test_isotonic_regression_is_taken_where_held_out_families_speak_for_it():
    choice = choose_calibration(stepped(30), "twin", "val", 0)
    assert isinstance(choice.calibration, Isotonic)
    assert choice.reason.startswith("isotonic: held-out log loss of isotonic regression is lower by 0.")
    assert choice.on == "twin"


def test_platt_stays_where_the_curve_is_logistic():
    rng = np.random.default_rng(3)
    source = stepped(24)
    kinds = np.concatenate([block.kind for block in source.blocks()])
    rows = [
        np.concatenate([getattr(block, side) for block in source.blocks()]) for side in ("first", "second")
    ]
    scores = rng.normal(np.where(kinds == 0, 0.6, 0.3), 0.2)
    gaussian = ListedPairs(scores, kinds, *rows, people=source.people, families=source.families)
    assert isinstance(choose_calibration(gaussian, "twin", "val", 0).calibration, Platt)


def test_held_out_pairs_are_of_held_out_families_only(monkeypatch):
    """Every fit sees pairs with both families outside the fold; every loss pairs with both inside."""
    blocks = list(pair_source(*faces(25, images_each=2)).blocks())
    kinds, first, second = (
        np.concatenate([getattr(b, key) for b in blocks]) for key in ("kind", "first", "second")
    )
    comparisons, _ = faces(25, images_each=2)
    numbers = np.arange(kinds.size, dtype=float)  # a score names its pair
    source = ListedPairs(
        numbers, kinds, first, second, people=comparisons.people, families=comparisons.families
    )
    seen = []
    monkeypatch.setattr(
        module, "fit_platt", lambda genuine, impostor, **_: seen.append(("fit", impostor)) or PLATT
    )
    monkeypatch.setattr(module, "fit_isotonic", lambda genuine, impostor, **_: PLATT)
    monkeypatch.setattr(
        module, "log_loss", lambda _, genuine, impostor: seen.append(("judge", impostor)) or 0.0
    )
    choice = choose_calibration(source, "all", "val", 0)
    assert "5 folds" in choice.reason
    _, impostor = collect(source, "all")
    for (_, fitted), (_, judged) in zip(seen[1::3], seen[2::3], strict=True):  # the first fit is on all
        inside = {
            score: tuple(pair)
            for score, pair in zip(impostor.scores.tolist(), impostor.families, strict=True)
        }
        fit_families = {family for score in fitted.tolist() for family in inside[score]}
        held_out = {family for score in judged.tolist() for family in inside[score]}
        assert len(held_out) == 5
        assert not fit_families & held_out
        assert len(fit_families) == 20


def test_collecting_keeps_scores_and_families_together(monkeypatch):
    comparisons, vectors = faces(6, images_each=3)
    source = pair_source(comparisons, vectors)
    genuine, twin = collect(source, "twin")
    assert (genuine.scores.size, twin.scores.size) == (12 * 3, 6 * 9)
    assert (genuine.families[:, 0] == genuine.families[:, 1]).all()
    _, every = collect(source, "all")
    assert every.scores.size == 36 * 35 // 2 - 36
    chosen = np.arange(6) < 2
    assert every.within(chosen).size == 2 * 9 + 6 * 6
    monkeypatch.setattr(module, "MAX_PAIRS", 100)
    thinned, fewer = collect(source, "all")
    assert thinned.scores.size == 36
    assert fewer.scores.size == -(-594 // 6)
    assert set(fewer.scores.tolist()) <= set(every.scores.tolist())


def test_thinning_does_not_depend_on_blocks(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 100)
    source = pair_source(*faces(6, images_each=3))
    whole, parts = collect(source, "all"), collect(Split(source, 7), "all")
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one.scores, other.scores)
        assert np.array_equal(one.families, other.families)


@pytest.mark.parametrize(
    ("gains", "method"),
    [
        ([0.3, 0.4, 0.5], "isotonic"),
        ([0.9, -0.4, 0.1], "platt"),
        ([-0.3, -0.4, -0.5], "platt"),
        ([0.5], "platt"),
    ],
)
def test_a_gain_within_its_standard_error_is_none(monkeypatch, gains, method):
    """Exactly 20 families, which are enough."""
    monkeypatch.setattr(module, "_held_out_gain", lambda *_: np.array(gains))
    choice = choose_calibration(pair_source(*faces(20, images_each=2)), "twin", "val", 0)
    assert choice.calibration.method == method
    assert choice.reason.startswith(f"{method}: ")


def test_log_loss_is_finite_for_certain_probabilities():
    certain = Isotonic((0.0, 1.0), (0.0, 1.0), 0.5, 1, 1, "")
    assert log_loss(certain, np.array([1.0]), np.array([0.0])) == pytest.approx(0)
    assert 30 < log_loss(certain, np.array([0.0]), np.array([1.0])) < 40
    assert log_loss(certain, np.array([0.5]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))
