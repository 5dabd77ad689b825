"""Costs of errors: by loops over every threshold, and by scikit-learn's isotonic regression."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from twin_dcal.metrics import costs, error_rates
from twin_dcal.metrics.calibration import Platt, fit_isotonic
from twin_dcal.metrics.error_rates import sort_scores

SCORES = st.lists(st.integers(-6, 6), min_size=1, max_size=25)


def operating_points(genuine, impostor):
    """[(FMR, FNMR)] at every threshold, reject-all first; loops only."""
    thresholds = [math.inf, *sorted({*genuine, *impostor}, reverse=True)]
    return [
        (sum(s >= t for s in impostor) / len(impostor), sum(s < t for s in genuine) / len(genuine))
        for t in thresholds
    ]


def lowest_cost(genuine, impostor, prior, miss=1.0, false_match=1.0):
    least = min(
        miss * prior * fnmr + false_match * (1 - prior) * fmr
        for fmr, fnmr in operating_points(genuine, impostor)
    )
    return least / min(miss * prior, false_match * (1 - prior))


def sets(genuine, impostor):
    return sort_scores(np.array(genuine, np.float32), np.array(impostor, np.float32))


def usable(genuine, impostor):
    return len({*genuine, *impostor}) > 1


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_detection_costs_are_those_of_a_loop(genuine, impostor):
    if not usable(genuine, impostor):
        return
    scores = sets(genuine, impostor)
    hull = costs.convex_hull(scores)
    for prior, miss, false_match in ((0.01, 1, 1), (0.001, 1, 1), (0.5, 1, 1), (0.01, 10, 1), (0.3, 2, 5)):
        found = costs.min_detection_cost(hull, prior, miss, false_match)
        assert found.cost == pytest.approx(lowest_cost(genuine, impostor, prior, miss, false_match))
        at = error_rates.error_rates_at(scores, found.threshold)
        assert costs.detection_cost(at, prior, miss, false_match) == pytest.approx(found.cost)
        assert found.cost <= 1


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_the_eer_of_the_hull_is_the_worst_of_the_lowest_errors(genuine, impostor):
    """max over priors of min over thresholds of prior · FNMR + (1 − prior) · FMR: linear between a few priors."""
    if not usable(genuine, impostor):
        return
    points = operating_points(genuine, impostor)
    priors = {0.5}
    for fmr, fnmr in points:  # where two thresholds are equally good
        for other_fmr, other_fnmr in points:
            slope = (fnmr - fmr) - (other_fnmr - other_fmr)
            if slope:
                priors.add(min(max((other_fmr - fmr) / slope, 0), 1))
    worst = max(min(p * fnmr + (1 - p) * fmr for fmr, fnmr in points) for p in priors)
    found = costs.hull_eer(costs.convex_hull(sets(genuine, impostor)))
    assert found == pytest.approx(worst, abs=1e-12)
    assert found <= error_rates.eer(sets(genuine, impostor)).eer + 1e-12


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_min_cllr_is_that_of_isotonic_regression(genuine, impostor):
    if not usable(genuine, impostor):
        return
    values, truth = [*genuine, *impostor], [1] * len(genuine) + [0] * len(impostor)
    share = IsotonicRegression(out_of_bounds="clip").fit(values, truth).predict(values)
    prior = math.log(len(genuine) / len(impostor))
    total = {1: 0.0, 0: 0.0}
    for probability, same in zip(share, truth, strict=True):
        if same:
            ratio = math.inf if probability >= 1 else math.log(probability / (1 - probability)) - prior
            total[1] += 0 if ratio == math.inf else math.log2(1 + math.exp(-ratio))
        else:
            ratio = -math.inf if probability <= 0 else math.log(probability / (1 - probability)) - prior
            total[0] += 0 if ratio == -math.inf else math.log2(1 + math.exp(ratio))
    expected = (total[1] / len(genuine) + total[0] / len(impostor)) / 2
    assert costs.min_cllr(costs.convex_hull(sets(genuine, impostor))) == pytest.approx(expected, abs=1e-9)


def test_cllr_is_that_of_a_loop_and_no_better_than_its_minimum():
    rng = np.random.default_rng(3)
    genuine, impostor = rng.normal(1, 1, 300).astype(np.float32), rng.normal(-1, 1, 500).astype(np.float32)
    scores = sort_scores(genuine, impostor)
    least = costs.min_cllr(costs.convex_hull(scores))
    for calibration in (Platt(2.0, 0.3, 0.5, 1, 1, ""), fit_isotonic(genuine, impostor)):
        told = [
            [math.log(p / (1 - p)) for p in calibration(values).tolist()] for values in (genuine, impostor)
        ]
        expected = sum(math.log2(1 + math.exp(-r)) for r in told[0]) / len(told[0]) / 2
        expected += sum(math.log2(1 + math.exp(r)) for r in told[1]) / len(told[1]) / 2
        found = costs.cllr(scores, calibration)
        assert found == pytest.approx(expected)
        assert least - 1e-3 < found < 1  # smoothed targets may touch it, and no calibration is better
    assert costs.cllr(scores, Platt(0.0, 0.0, 0.5, 1, 1, "")) == pytest.approx(1.0)


@pytest.mark.parametrize("separated", [True, False])
def test_extreme_scores(separated):
    genuine, impostor = ([3.0, 4.0], [1.0, 2.0]) if separated else ([1.0, 2.0], [3.0, 4.0])
    hull = costs.convex_hull(sets(genuine, impostor))
    expected = 0.0 if separated else 1.0
    assert costs.hull_eer(hull) == pytest.approx(expected / 2)
    assert costs.min_cllr(hull) == pytest.approx(expected)
    assert costs.min_detection_cost(hull, 0.01).cost == pytest.approx(expected)


def test_a_hull_of_many_points_is_the_hull_of_a_plain_loop():
    rng = np.random.default_rng(0)
    scores = sort_scores(rng.normal(1, 1, 6000).astype(np.float32), rng.normal(0, 1, 9000).astype(np.float32))
    hull = costs.convex_hull(scores)
    curve = error_rates.roc(scores)
    x, y = np.round(curve.fmr * 9000).astype(int).tolist(), np.round(curve.fnmr * 6000).astype(int).tolist()
    corners = []
    for point in zip(x, y, strict=True):
        while len(corners) > 1 and (
            (corners[-1][0] - corners[-2][0]) * (point[1] - corners[-1][1])
            <= (corners[-1][1] - corners[-2][1]) * (point[0] - corners[-1][0])
        ):
            corners.pop()
        corners.append(point)
    assert list(zip(hull.false_matches.tolist(), hull.false_non_matches.tolist(), strict=True)) == corners
