"""metrics.py against loops, scikit-learn, a worked example, and the properties that must hold."""

import math

import numpy as np
import pytest
import verification_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sk

from twin_dcal.errors import MetricError
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.error_rates import ScoreCounts, count_scores, sort_scores

# Few distinct values, so that ties within and across the classes are the rule.
tied = st.lists(st.integers(-4, 4).map(lambda n: n / 4), min_size=1, max_size=14)
smooth = st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=14)
two_classes = st.one_of(st.tuples(tied, tied), st.tuples(smooth, smooth)).filter(
    lambda pair: len({*pair[0], *pair[1]}) > 1
)
rates = st.one_of(st.floats(1e-6, 1), st.fractions(0, 1).map(float).filter(lambda r: r > 0))


def labelled(genuine, impostor):
    return np.r_[np.ones(len(genuine)), np.zeros(len(impostor))], np.r_[genuine, impostor]


def gaussians(rng, genuine, impostor, dtype=np.float64):
    return (
        np.round(rng.normal(0.6, 0.2, genuine), 2).astype(dtype),
        np.round(rng.normal(0.3, 0.2, impostor), 2).astype(dtype),
    )


def test_worked_example_with_ties():
    # genuine 4 3 3 1, impostor 3 2 1 1 0: FMR 0 .2 .4 .8 1 and FNMR .75 .25 .25 0 0 at 4 3 2 1 0
    scores = sort_scores([3, 1, 4, 3], [1, 0, 3, 2, 1])
    curve = error_rates.roc(scores)
    assert curve.thresholds.tolist() == [math.inf, 4, 3, 2, 1, 0]
    assert curve.fmr.tolist() == [0, 0, 0.2, 0.4, 0.8, 1]
    assert curve.fnmr.tolist() == [1, 0.75, 0.25, 0.25, 0, 0]
    assert curve.tar.tolist() == [0, 0.25, 0.75, 0.75, 1, 1]
    assert (curve.num_genuine, curve.num_impostors) == (4, 5)
    # genuine 4: 5 wins; each 3: 4 wins, 1 tie; 1: 1 win, 2 ties -> 5 + 9 + 2 = 16 of 20
    assert error_rates.auc(scores) == 0.8
    # between t = 3 (FMR .2, FNMR .25) and t = 2 (.4, .25): the gap .05 closes at a quarter of the way
    equal = error_rates.eer(scores)
    assert equal.eer == pytest.approx(0.25)
    assert equal.threshold == 3
    assert error_rates.best_accuracy(scores) == error_rates.BestFigure(7 / 9, 3)
    assert error_rates.best_f1(scores) == error_rates.BestFigure(2 * 3 / (3 + 1 + 4), 3)
    at = error_rates.error_rates_at(scores, 3)
    counts = (at.num_true_matches, at.num_false_matches, at.num_true_non_matches, at.num_false_non_matches)
    assert counts == (3, 1, 4, 1)
    assert (at.fmr, at.fnmr, at.tar, at.accuracy, at.f1) == (0.2, 0.25, 0.75, 7 / 9, 0.75)
    point = error_rates.operating_point(scores, 0.3)
    assert (point.threshold, point.fmr_achieved, point.tar, point.num_false_matches) == (3, 0.2, 0.75, 1)


@given(two_classes)
def test_every_figure_equals_the_loops(pair):
    genuine, impostor = pair
    scores = sort_scores(genuine, impostor)
    curve = error_rates.roc(scores)
    assert curve.thresholds.tolist() == oracle.thresholds(genuine, impostor)
    for t, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert (fmr, fnmr) == oracle.rates(genuine, impostor, t)
    assert error_rates.auc(scores) == pytest.approx(oracle.auc(genuine, impostor), abs=1e-12)
    assert error_rates.average_precision(scores) == pytest.approx(oracle.average_precision(genuine, impostor))
    rate, near = oracle.eer(genuine, impostor)
    assert error_rates.eer(scores).eer == pytest.approx(rate, abs=1e-12)
    assert error_rates.eer(scores).threshold in near
    accuracy, accuracy_threshold = oracle.best_accuracy(genuine, impostor)
    assert error_rates.best_accuracy(scores) == error_rates.BestFigure(
        pytest.approx(accuracy), accuracy_threshold
    )
    f1, f1_threshold = oracle.best_f1(genuine, impostor)
    assert error_rates.best_f1(scores) == error_rates.BestFigure(pytest.approx(f1), f1_threshold)


@given(two_classes, rates)
def test_operating_point_equals_the_loops_and_keeps_its_promise(pair, requested):
    genuine, impostor = pair
    point = error_rates.operating_point(sort_scores(genuine, impostor), requested)
    assert point.fmr_achieved <= requested
    assert point.threshold in oracle.thresholds(genuine, impostor)
    assert (point.threshold, point.fmr_achieved, point.fnmr) == oracle.operating_point(
        genuine, impostor, requested
    )
    assert point.tar == pytest.approx(1 - point.fnmr)
    assert point.supported == (1 / len(impostor) <= requested)
    if math.isinf(point.threshold):
        assert (point.tar, point.num_false_matches) == (0, 0)


@given(two_classes, st.floats(-1.5, 1.5))
def test_rates_at_any_threshold_equal_the_loops(pair, threshold):
    genuine, impostor = pair
    at = error_rates.error_rates_at(sort_scores(genuine, impostor), threshold)
    assert (at.fmr, at.fnmr) == oracle.rates(genuine, impostor, threshold)
    assert (at.num_genuine, at.num_impostors) == (len(genuine), len(impostor))


@given(two_classes, st.randoms())
def test_order_of_the_scores_does_not_matter(pair, random):
    genuine, impostor = pair
    mixed = [random.sample(part, len(part)) for part in pair]
    assert figures(sort_scores(*mixed)) == figures(sort_scores(genuine, impostor))


thousandths = st.lists(st.integers(-1000, 1000).map(lambda n: n / 1000), min_size=1, max_size=14)


@given(st.tuples(thousandths, thousandths), st.floats(0.01, 50), st.floats(-3, 3))
def test_monotone_rescaling_leaves_rates_alone(pair, gain, shift):
    def stretch(values):  # not linear, leaves [0, 1], changes signs, and 0.001 apart stays apart
        return [gain * v**3 + v + shift for v in values]

    if len({*pair[0], *pair[1]}) > 1:
        before, after = sort_scores(*pair), sort_scores(*map(stretch, pair))
        assert figures(before)[:-1] == figures(after)[:-1]
        assert tuple(stretch(t for t in figures(before)[-1])) == figures(after)[-1]


def figures(scores):
    best = error_rates.best_accuracy(scores)
    point = error_rates.operating_point(scores, 0.25)
    return (
        error_rates.auc(scores),
        error_rates.eer(scores).eer,
        error_rates.average_precision(scores),
        error_rates.pr_auc(scores),
        best.value,
        error_rates.best_f1(scores).value,
        point.tar,
        point.fmr_achieved,
        (error_rates.eer(scores).threshold, best.threshold, point.threshold),
    )


@given(two_classes)
def test_swapping_and_negating_leaves_auc_alone_and_negating_mirrors_it(pair):
    genuine, impostor = (np.array(part) for part in pair)
    value = error_rates.auc(sort_scores(genuine, impostor))
    assert error_rates.auc(sort_scores(-impostor, -genuine)) == pytest.approx(value)
    assert error_rates.auc(sort_scores(impostor, genuine)) == pytest.approx(1 - value)


@given(two_classes)
def test_corners_are_operating_points_and_keep_the_polyline(pair):
    scores = sort_scores(*pair)
    full, corners = error_rates.roc(scores), error_rates.roc(scores, corners_only=True)
    rows = set(zip(full.thresholds, full.fmr, full.fnmr, strict=True))
    kept = list(zip(corners.thresholds, corners.fmr, corners.fnmr, strict=True))
    assert set(kept) <= rows
    assert len(kept) <= 2 * min(map(len, pair)) + 2
    assert sk.auc(corners.fmr, corners.tar) == pytest.approx(error_rates.auc(scores))
    # turned by 45°, so that vertical parts are compared too: fmr + tar increases strictly along the curve
    turned = np.interp(full.fmr + full.tar, corners.fmr + corners.tar, corners.fmr - corners.tar)
    np.testing.assert_allclose(turned, full.fmr - full.tar, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("num_genuine", "num_impostors"), [(400, 5000), (3000, 200)])
def test_scikit_learn_agrees(dtype, num_genuine, num_impostors):
    pair = gaussians(np.random.default_rng(num_genuine), num_genuine, num_impostors, dtype)
    scores, (labels, values) = sort_scores(*pair), labelled(*pair)
    assert error_rates.auc(scores) == pytest.approx(sk.roc_auc_score(labels, values), abs=1e-12)
    assert error_rates.average_precision(scores) == pytest.approx(sk.average_precision_score(labels, values))
    precision, recall, _ = sk.precision_recall_curve(labels, values)
    assert error_rates.pr_auc(scores) == pytest.approx(sk.auc(recall, precision), abs=1e-12)
    fpr, tpr, thresholds = sk.roc_curve(labels, values, drop_intermediate=False)
    np.testing.assert_allclose(error_rates.roc(scores).fmr, fpr)
    np.testing.assert_allclose(error_rates.roc(scores).tar, tpr)
    np.testing.assert_array_equal(error_rates.roc(scores).thresholds, thresholds)
    line = interp1d(fpr, tpr)
    crossing = brentq(lambda x: 1 - x - float(line(x)), 0, 1, xtol=1e-12)
    assert error_rates.eer(scores).eer == pytest.approx(crossing, abs=1e-9)
    accuracies = [sk.accuracy_score(labels, values >= t) for t in thresholds]
    assert error_rates.best_accuracy(scores).value == pytest.approx(max(accuracies))
    assert error_rates.accuracy_at(scores, thresholds[50]) == pytest.approx(accuracies[50])
    f1 = max(sk.f1_score(labels, values >= t, zero_division=0) for t in thresholds)
    assert error_rates.best_f1(scores).value == pytest.approx(f1)


@given(two_classes)
@settings(max_examples=60)
def test_pr_auc_equals_scikit_learn_with_ties(pair):
    precision, recall, _ = sk.precision_recall_curve(*labelled(*pair))
    assert error_rates.pr_auc(sort_scores(*pair)) == pytest.approx(sk.auc(recall, precision), abs=1e-12)


def test_trap_quantile_thresholds_ignore_ties():
    """Four of ten impostors share the top score: FMR jumps from 0 to .4, nothing in between exists."""
    impostor = [0.9] * 4 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    scores = sort_scores([0.95, 0.9, 0.8, 0.7], impostor)
    for requested in (0.1, 0.2, 0.3):
        naive = np.quantile(impostor, 1 - requested)
        assert error_rates.error_rates_at(scores, naive).fmr == 0.4  # the trap
        point = error_rates.operating_point(scores, requested)
        assert (point.threshold, point.fmr_achieved, point.tar) == (0.95, 0, 0.25)
    assert error_rates.operating_point(scores, 0.4).threshold == 0.7
    assert error_rates.operating_point(scores, 0.4).fmr_achieved == 0.4


def test_trap_negative_cosines_need_no_sigmoid():
    genuine, impostor = np.array([-0.1, 0.2, 0.9, 0.4]), np.array([-0.9, -0.3, 0.3, -0.2])
    scores, positive = sort_scores(genuine, impostor), sort_scores((genuine + 1) / 2, (impostor + 1) / 2)
    assert figures(scores)[:-1] == figures(positive)[:-1]
    assert error_rates.eer(scores).threshold in {*genuine, *impostor}
    assert error_rates.operating_point(scores, 0.25).threshold == -0.1


def test_rates_that_are_exact_shares_survive_rounding():
    """k / n as asked rate allows k false matches, the float below it k - 1, however k / n * n rounds."""
    for total in (29, 49, 98, 103, 107, 197):
        scores = sort_scores([total + 1.0], np.arange(total, dtype=np.float64))
        for count in range(1, total):
            rate = count / total
            assert error_rates.operating_point(scores, rate).num_false_matches == count
            assert error_rates.operating_point(scores, math.nextafter(rate, 0)).num_false_matches == count - 1


def test_impostor_on_top_leaves_no_threshold():
    point = error_rates.operating_point(sort_scores([0.1, 0.5], [0.9, 0.9, 0.0]), 0.1)
    assert (point.threshold, point.tar, point.fnmr, point.fmr_achieved) == (math.inf, 0, 1, 0)
    assert not point.supported
    assert "needs 10 impostor pairs or more, there are 3" in point.warning
    assert "every pair is rejected" in point.warning


def test_perfectly_separated_and_perfectly_wrong():
    right, wrong = sort_scores([0.8, 0.9], [0.1, 0.2]), sort_scores([0.1, 0.2], [0.8, 0.9])
    assert (error_rates.auc(right), error_rates.auc(wrong)) == (1, 0)
    assert error_rates.eer(right) == error_rates.EqualErrorRate(0.0, 0.8)
    assert error_rates.eer(wrong).eer == 1
    assert error_rates.best_accuracy(right) == error_rates.BestFigure(1.0, 0.8)
    assert error_rates.best_accuracy(sort_scores([0.1], [0.8, 0.9])) == error_rates.BestFigure(
        2 / 3, math.inf
    )


def test_eer_threshold_between_equally_close_points_is_the_stricter():
    assert error_rates.eer(sort_scores([1, 2], [1, 0])) == error_rates.EqualErrorRate(0.25, 2)


def test_rule_of_30_speaks_up_and_keeps_quiet():
    rng = np.random.default_rng(3)
    scores = sort_scores(rng.normal(1, 1, 2000), rng.normal(0, 1, 20000))
    assert error_rates.operating_point(scores, 0.01).warning is None
    weak = error_rates.operating_point(scores, 1e-3)
    assert weak.supported
    assert weak.num_false_matches == 20
    assert "20 false matches" in weak.warning
    assert "rule of 30" in weak.warning
    assert not error_rates.operating_point(scores, 4e-5).supported
    assert error_rates.operating_point(scores, 5e-5).supported


def test_float32_scores_against_float64_thresholds_compare_exactly():
    scores = sort_scores(np.float32([0.3, 0.7]), np.float32([0.1, 0.2]))
    stored = float(scores.genuine[0])  # 0.30000001…, what a JSON file holds
    assert error_rates.error_rates_at(scores, stored).num_true_matches == 2
    assert error_rates.error_rates_at(scores, np.nextafter(stored, 1)).num_true_matches == 1
    assert error_rates.error_rates_at(scores, np.nextafter(stored, 0)).num_true_matches == 2
    assert error_rates.error_rates_at(scores, 1e300).num_true_matches == 0
    assert error_rates.error_rates_at(scores, -1e300).num_true_matches == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_inputs_stay_as_they_are(dtype):
    genuine, impostor = np.array([3, 1, 2], dtype), np.array([2, 0, 1], dtype)
    sort_scores(genuine, impostor)
    assert (genuine.tolist(), impostor.tolist()) == ([3, 1, 2], [2, 0, 1])


def test_float32_stays_float32():
    scores = sort_scores(np.float32([1, 2]), np.float32([0]))
    assert scores.genuine.dtype == scores.impostor.dtype == np.float32
    assert sort_scores(np.float32([1, 2]), [0.0]).genuine.dtype == np.float64


@pytest.mark.parametrize(
    ("genuine", "impostor", "message"),
    [
        ([], [0.1], "genuine scores: there are none"),
        ([0.1], [], "impostor scores: there are none"),
        ([0.1, math.nan], [0.2], "genuine scores: 1 of 2 are NaN or infinite"),
        ([0.1], [math.inf, 0.0, -math.inf], "impostor scores: 2 of 3 are NaN or infinite"),
        ([-math.inf, 0.1], [0.2], "genuine scores: 1 of 2 are NaN or infinite"),
        ([0.5, 0.5], [0.5], "those of 2 genuine and 1 impostor pair:"),
        ([[0.5]], [0.1], r"shape \(1, 1\)"),
        (["a"], [0.1], "array of numbers"),
        ([True], [0.1], "array of numbers"),
        ([1j], [0.1], "array of numbers"),
    ],
)
def test_scores_without_a_figure_are_errors(genuine, impostor, message):
    with pytest.raises(MetricError, match=message):
        sort_scores(genuine, impostor)


@pytest.mark.parametrize("rate", [0, -0.1, 1.1, math.nan, math.inf])
def test_impossible_rates_are_errors(rate):
    with pytest.raises(MetricError, match="false match rate"):
        error_rates.operating_point(sort_scores([1.0], [0.0]), rate)


def test_nan_threshold_is_an_error():
    with pytest.raises(MetricError, match="NaN"):
        error_rates.error_rates_at(sort_scores([1.0], [0.0]), math.nan)


def counted(scores, dtype=np.float64):
    values, counts = np.unique(np.asarray(scores, dtype), return_counts=True)
    return ScoreCounts.of_counts(values, counts)


@given(two_classes, st.integers(0, 14), st.booleans(), rates, st.floats(-1.5, 1.5))
def test_counted_scores_give_the_figures_of_sorted_ones(pair, cut, as_counts, rate, threshold):
    """Whether impostors come in one part or two, one perhaps empty, counted or sorted."""
    genuine, impostor = pair
    made = counted if as_counts else lambda part: ScoreCounts(np.sort(np.asarray(part, np.float64)))
    ours = count_scores(counted(genuine), [made(impostor[:cut]), made(impostor[cut:])])
    theirs = sort_scores(genuine, impostor)
    assert (ours.num_genuine, ours.num_impostors) == (len(genuine), len(impostor))
    assert figures(ours) == figures(theirs)
    assert error_rates.d_prime(ours) == pytest.approx(error_rates.d_prime(theirs), nan_ok=True)
    assert error_rates.best_f1(ours) == error_rates.best_f1(theirs)
    assert error_rates.best_accuracy(ours) == error_rates.best_accuracy(theirs)
    assert error_rates.operating_point(ours, rate) == error_rates.operating_point(theirs, rate)
    assert error_rates.error_rates_at(ours, threshold) == error_rates.error_rates_at(theirs, threshold)
    full, corners = error_rates.roc(ours), error_rates.roc(ours, corners_only=True)
    for name in ("thresholds", "fmr", "fnmr"):
        assert getattr(full, name).tolist() == getattr(error_rates.roc(theirs), name).tolist()
    assert sk.auc(corners.fmr, corners.tar) == pytest.approx(error_rates.auc(theirs))
    assert corners.thresholds.size <= 2 * min(len(set(genuine)), len(set(impostor))) + 3


def test_worked_example_counted():
    # the example with ties above: genuine 4 3 3 1; impostors 3 2 1 and 1 0 as two parts
    scores = count_scores(counted([4, 3, 3, 1]), [counted([3, 2, 1]), counted([1, 0])])
    assert error_rates.auc(scores) == 0.8
    assert error_rates.eer(scores) == error_rates.EqualErrorRate(pytest.approx(0.25), 3)
    assert error_rates.best_accuracy(scores) == error_rates.BestFigure(7 / 9, 3)
    point = error_rates.operating_point(scores, 0.3)
    assert (point.threshold, point.fmr_achieved, point.tar, point.num_false_matches) == (3, 0.2, 0.75, 1)
    # means 2.75 and 1.4, variances 1.1875 and 1.04
    assert error_rates.d_prime(scores) == pytest.approx(1.35 / math.sqrt((1.1875 + 1.04) / 2))
    # precision 1, 3/4, 4/8 at 4, 3, 1; just above the 1: 3/5
    assert error_rates.pr_auc(scores) == pytest.approx(
        (1 + 1) / 2 / 4 + (1 + 3 / 4) / 2 / 2 + (3 / 5 + 1 / 2) / 2 / 4
    )


@given(two_classes)
def test_d_prime_and_pr_auc_equal_the_loops(pair):
    genuine, impostor = pair
    scores = sort_scores(genuine, impostor)
    assert error_rates.pr_auc(scores) == pytest.approx(oracle.pr_auc(genuine, impostor))
    if max(np.std(genuine), np.std(impostor)) > 1e-6:
        assert error_rates.d_prime(scores) == pytest.approx(oracle.d_prime(genuine, impostor), abs=1e-9)


def test_d_prime_of_many_scores_comes_in_parts(monkeypatch):
    monkeypatch.setattr("twin_dcal.metrics.score_counts.SCORES_AT_ONCE", 7)
    genuine, impostor = gaussians(np.random.default_rng(1), 50, 90)
    want = oracle.d_prime(genuine.tolist(), impostor.tolist())
    assert error_rates.d_prime(sort_scores(genuine, impostor)) == pytest.approx(want)
    assert error_rates.d_prime(count_scores(counted(genuine), [counted(impostor)])) == pytest.approx(want)
    assert error_rates.d_prime(sort_scores(impostor, genuine)) == pytest.approx(-want)


def test_d_prime_without_spread_is_infinite():
    assert error_rates.d_prime(sort_scores([2.0, 2], [1.0])) == math.inf
    assert error_rates.d_prime(sort_scores([1.0], [2.0, 2])) == -math.inf


def test_ranks_and_neighbours_of_a_tally():
    kind_counts = counted([3, 1, 3, 3, 2])
    assert kind_counts.at_ranks([0, 1, 2, 3, 4]).tolist() == [1, 2, 3, 3, 3]
    assert ScoreCounts(np.array([1.0, 2, 3, 3, 3])).at_ranks([0, 2, 4]).tolist() == [1, 3, 3]
    assert (kind_counts.lowest, kind_counts.highest, kind_counts.size) == (1, 3, 5)
    assert kind_counts.num_below([1, 2.5, 4]).tolist() == [0, 2, 5]
    assert kind_counts.num_at_or_below([1, 2.5, 4]).tolist() == [1, 2, 5]


def test_counted_classes_that_cannot_be_told_apart_are_errors():
    with pytest.raises(MetricError, match="those of 2 genuine and 3 impostor pairs"):
        count_scores(counted([1, 1]), [counted([1]), counted([1, 1])])
    with pytest.raises(MetricError, match="impostor scores: there are none"):
        count_scores(counted([1, 2]), [counted([])])
    with pytest.raises(MetricError, match="genuine scores: there are none"):
        count_scores(counted([]), [counted([1, 2])])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((1, 3), "1 false match and 3 false non-matches"),
        ((0, 1), "0 false matches and 1 false non-match"),
        ((30, 29), "29 false non-matches"),
        ((30, 30), ""),
    ],
)
def test_few_errors_in_words(counts, words):
    assert error_rates.few_errors(*counts) == words
