"""Thresholds carried to other people, against loops: the error of the choice, and the interval with it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from test_intervals import NAMES, faces, pairs_of

from twin_dcal.metrics.carried import achieved_interval
from twin_dcal.metrics.confidence import Spread
from twin_dcal.metrics.error_rates import eer, sort_scores
from twin_dcal.metrics.intervals import family_intervals, over_families
from twin_dcal.metrics.pair_stream import AllPairs, count_pairs
from twin_dcal.metrics.thresholds import choose_threshold


def source_of(seed, families, **more):
    return AllPairs(*faces(seed, families, **more))


def kept(source, impostor, without=None):
    """(genuine, impostor) scores that no face of a family is in."""
    rows = [row for row in pairs_of(source) if without not in row[:2]]
    return [np.array([score for *_, kind, score in rows if kind == name]) for name in (NAMES[0], impostor)]


def logit(rate):
    return math.log(rate) - math.log1p(-rate)


def test_the_error_of_a_threshold_at_an_fmr_is_that_of_the_fmr_the_other_way_round():
    source = source_of(3, 8, noise=1.2)
    choice = choose_threshold(count_pairs(source), "far=0.1")
    made = family_intervals(source, threshold=choice.threshold)
    fmr = [np.mean(kept(source, "unrelated", family)[1] >= choice.threshold) for family in range(8)]
    away = -(np.array([logit(each) for each in fmr]) - np.mean([logit(each) for each in fmr]))
    error = over_families(choice, made).error_of_choice
    assert error.error == pytest.approx(math.sqrt(7 / 8 * np.sum(away**2)), rel=1e-9)
    assert error.skewness == pytest.approx(-np.sum(away**3) / np.sum(away**2) ** 1.5, rel=1e-6)


def test_the_error_of_an_eer_threshold_is_how_far_the_fmr_goes_when_it_is_chosen_anew():
    source = source_of(5, 40, images=6, noise=1.2)
    choice = choose_threshold(count_pairs(source), "eer")
    error = over_families(choice, family_intervals(source, threshold=choice.threshold)).error_of_choice
    impostors = kept(source, "twin")[1]
    anew = [eer(sort_scores(*kept(source, "twin", family))).threshold for family in range(40)]
    moved = np.array([logit(np.mean(impostors >= threshold)) for threshold in anew])
    assert error.error == pytest.approx(math.sqrt(39 / 40 * np.sum((moved - moved.mean()) ** 2)), rel=0.15)


def test_without_an_error_of_the_choice_the_interval_is_that_of_a_fixed_threshold():
    source = source_of(3, 8, noise=1.2)
    made = family_intervals(source, threshold=0.4)
    fixed, here = made.figures["unrelated"]["fmr"], made.errors_of_choice["unrelated"]["far"]
    whole = achieved_interval(fixed.estimate, here, Spread(0.0, 7.0, 0.0), 0.95)
    assert (whole.low, whole.high) == pytest.approx((fixed.low, fixed.high), rel=1e-9)


def test_errors_of_both_sets_add_up_as_variances():
    here, chosen = Spread(0.3, 10.0, 0.0), Spread(0.4, 20.0, 0.0)
    freedom = 0.5**4 / (0.3**4 / 10 + 0.4**4 / 20)  # Satterthwaite's
    reach = stats.t.ppf(0.975, freedom) * 0.5
    found = achieved_interval(0.2, here, chosen, 0.95)
    assert (logit(found.low), logit(found.high)) == pytest.approx((logit(0.2) - reach, logit(0.2) + reach))
    doubtful = achieved_interval(0.2, here, replace(chosen, freedom=1.0), 0.95)
    assert doubtful.low < found.low
    assert doubtful.high > found.high


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_the_best_accuracy_has_no_error_of_choice(metric):
    source = source_of(3, 8, noise=1.2)
    choice = choose_threshold(count_pairs(source), metric)
    found = over_families(choice, family_intervals(source, threshold=choice.threshold))
    assert found.error_of_choice is None
    assert found.fmr_upper_by == "families"


def test_a_rate_of_zero_has_no_error_of_choice():
    source = source_of(3, 8, noise=0.05)
    choice = choose_threshold(count_pairs(source), "eer")
    assert choice.fmr == 0
    assert over_families(choice, family_intervals(source, threshold=choice.threshold)).error_of_choice is None
