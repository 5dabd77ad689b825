"""calibration.py: monotone, bounded, better than the raw score, and finite where classes do not overlap."""

import json
import math

import numpy as np
import pytest
import verification_oracle as oracle
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from twin_dcal.errors import MetricError
from twin_dcal.metrics import calibration as module
from twin_dcal.metrics.calibration import (
    Isotonic,
    Platt,
    calibration_from_dict,
    fit_isotonic,
    fit_platt,
    pool_adjacent_violators,
)

SOME = Platt(slope=12.0, intercept=-5.0, prior=0.5, num_genuine=10, num_impostors=20, source="val")
KNOTS = Isotonic((-0.5, 0.25, 0.5), (0.1, 0.1, 0.9), 0.5, 10, 20, "val")
cosines = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1, 1))


def overlapping(seed, genuine=400, impostor=3000):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0.55, 0.15, genuine), -1, 1), np.clip(rng.normal(0.3, 0.15, impostor), -1, 1)


@given(cosines, cosines)
@example(
    np.array([1, -1, 2.1201835e-265, 1, 1, -1, 1, -1, 1, 1]), np.array([-1.0, -1, -1, -1])
)  # one rounding off
def test_probabilities_are_bounded_and_never_fall_with_the_score(genuine, impostor):
    if np.unique(np.r_[genuine, impostor]).size < 2:
        return
    stepwise = fit_isotonic(genuine, impostor)(np.linspace(-1, 1, 101))
    assert stepwise.min() > 0
    assert stepwise.max() < 1
    assert (np.diff(stepwise) >= 0).all()
    fitted = fit_platt(genuine, impostor)
    probabilities = fitted(np.linspace(-1, 1, 101))
    assert np.isfinite(probabilities).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert (np.diff(probabilities) >= 0).all()
    assert fitted.slope >= 0


def test_beats_the_raw_score_on_unseen_pairs():
    fitted, (genuine, impostor) = fit_platt(*overlapping(0)), overlapping(1)
    raw = [np.clip(part, 1e-6, 1 - 1e-6).tolist() for part in (genuine, impostor)]
    calibrated = [fitted(part).tolist() for part in (genuine, impostor)]
    assert oracle.log_loss(*calibrated) < oracle.log_loss(*raw) - 0.05
    assert oracle.log_loss(*calibrated) < math.log(2)


def test_equal_variance_gaussians_give_the_true_posterior():
    """log-likelihood ratio of N(.55, .15) to N(.3, .15): slope .25 / .0225, ½ in the middle."""
    fitted = fit_platt(*overlapping(2, 40_000, 120_000))
    assert fitted.slope == pytest.approx(0.25 / 0.15**2, rel=0.02)
    assert float(fitted(0.425)) == pytest.approx(0.5, abs=0.01)


def test_scikit_learn_finds_the_same_line():
    genuine, impostor = overlapping(3, 5000, 20_000)
    labels = np.r_[np.ones(5000), np.zeros(20_000)]
    weights = np.where(labels == 1, 4.0, 1.0)
    model = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000)
    model.fit(np.r_[genuine, impostor][:, None], labels, sample_weight=weights)
    fitted = fit_platt(genuine, impostor)
    assert fitted.slope == pytest.approx(model.coef_[0, 0], rel=5e-3)  # apart by the smoothed targets
    assert fitted.intercept == pytest.approx(model.intercept_[0], rel=5e-3)


def test_the_share_of_impostors_does_not_move_the_probability():
    genuine, impostor = overlapping(4)
    once, often = fit_platt(genuine, impostor), fit_platt(genuine, np.repeat(impostor, 20))
    assert float(once(0.4)) == pytest.approx(float(often(0.4)), abs=2e-3)
    assert once.prior == often.prior == 0.5


@pytest.mark.parametrize(
    ("genuine", "impostor"),
    [([0.9], [0.1]), ([0.8, 0.9, 0.85], [0.1, 0.2]), ([0.9] * 5000, [0.1] * 50_000), ([1e-9], [0.0])],
)
def test_separable_scores_give_a_finite_slope(genuine, impostor):
    fitted = fit_platt(genuine, impostor)
    assert math.isfinite(fitted.slope)
    assert fitted.slope > 0
    assert float(fitted(min(genuine))) > 0.5 > float(fitted(max(impostor)))


def test_two_constant_classes_meet_their_smoothed_targets():
    fitted = fit_platt([0.9] * 8, [0.1] * 18)
    assert float(fitted(0.9)) == pytest.approx(9 / 10, abs=1e-6)
    assert float(fitted(0.1)) == pytest.approx(1 / 20, abs=1e-6)


def test_scores_that_point_the_wrong_way_tell_nothing(caplog):
    fitted = fit_platt([0.1, 0.2], [0.8, 0.9])
    assert fitted([-1, 0, 1]).tolist() == [0.5, 0.5, 0.5]
    assert "not higher than impostor" in caplog.text


def test_thinning_is_deterministic_and_order_free(monkeypatch):
    genuine, impostor = overlapping(5)
    full = fit_platt(genuine, impostor)
    monkeypatch.setattr(module, "MAX_SCORES", 300)
    thin, again = fit_platt(genuine, impostor), fit_platt(genuine[::-1], np.sort(impostor))
    assert thin == again
    assert (thin.num_genuine, thin.num_impostors) == (300, 300)
    np.testing.assert_allclose(thin([0.2, 0.4, 0.6]), full([0.2, 0.4, 0.6]), atol=0.02)


def test_extreme_scores_saturate_without_a_warning():
    assert SOME([-1e6, 1e6, -np.inf, np.inf]).tolist() == [0, 1, 0, 1]
    assert SOME(np.zeros((2, 3))).shape == (2, 3)
    with pytest.raises(MetricError, match="1 of 2 scores NaN"):
        SOME([0.1, math.nan])


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_round_trip_through_json(fit):
    fitted = fit(*overlapping(6), source="validation pairs")
    again = calibration_from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    assert (again.source, again.method) == ("validation pairs", fitted.to_dict()["method"])
    assert np.array_equal(again([0.1, 0.5]), fitted([0.1, 0.5]))


def test_what_earlier_releases_stored_is_platt():
    values = SOME.to_dict()
    del values["method"]
    assert calibration_from_dict(values) == SOME


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slope": math.nan}, "finite"),
        ({"slope": -1.0}, "at least 0"),
        ({"prior": 1.0}, "prior between"),
        ({"slope": "12"}, "must be numbers"),
        ({"slope": True}, "must be numbers"),
        ({"bias": 1.0}, r"unknown keys \['bias'\]"),
    ],
)
def test_damaged_calibrations_are_errors(change, message):
    with pytest.raises(MetricError, match=message):
        calibration_from_dict({**SOME.to_dict(), **change})
    with pytest.raises(MetricError, match="missing keys"):
        calibration_from_dict({"slope": 1.0})


def test_scores_without_two_classes_are_errors():
    with pytest.raises(MetricError, match="there are none"):
        fit_platt([0.5], [])
    with pytest.raises(MetricError, match="there are none"):
        fit_isotonic([0.5], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "beta"}, "method 'beta' is unknown"),
        ({"scores": [0.1, 0.1, 0.2]}, "3 scores must rise"),
        ({"scores": [0.1, 0.2]}, "2 scores must rise, 3 probabilities"),
        ({"scores": [0.1, 0.2, math.inf]}, "must rise"),
        ({"probabilities": [0.5, 0.4, 0.6]}, "must not fall"),
        ({"probabilities": [0.5, 0.6, 1.1]}, "in \\[0, 1\\]"),
        ({"probabilities": [-0.1, 0.6, 1]}, "in \\[0, 1\\]"),
        ({"scores": [], "probabilities": []}, "0 scores"),
        ({"scores": "abc"}, "lists of numbers"),
        ({"scores": [0.1, True, 0.3]}, "lists of numbers"),
        ({"prior": 0}, "prior 0 must"),
        ({"slope": 1.0}, r"unknown keys \['slope'\]"),
    ],
)
def test_damaged_isotonic_calibrations_are_errors(change, message):
    with pytest.raises(MetricError, match=message):
        calibration_from_dict({**KNOTS.to_dict(), **change})


def test_an_isotonic_calibration_runs_through_its_knots():
    assert KNOTS([-2, -0.5, 0.0, 0.25, 0.375, 0.5, 2]).tolist() == pytest.approx(
        [0.1, 0.1, 0.1, 0.1, 0.5, 0.9, 0.9]
    )
    assert KNOTS(np.zeros((2, 3))).shape == (2, 3)
    with pytest.raises(MetricError, match="1 of 1 score NaN"):
        KNOTS([math.nan])


@given(
    arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 6)),
    arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 6)),
)
def test_scikit_learn_pools_the_same_scores(genuine, impostor):
    """With many ties, and Platt's smoothed targets given to both."""
    if np.unique(np.r_[genuine, impostor]).size < 2:
        return
    same, different = (genuine.size + 1) / (genuine.size + 2), 1 / (impostor.size + 2)
    targets = np.repeat([same, different], [genuine.size, impostor.size])
    weights = np.repeat([0.5 / genuine.size, 0.5 / impostor.size], [genuine.size, impostor.size])
    oracle_fit = IsotonicRegression(out_of_bounds="clip").fit(
        np.r_[genuine, impostor], targets, sample_weight=weights
    )
    at = np.linspace(-1, 7, 81)
    np.testing.assert_allclose(fit_isotonic(genuine, impostor)(at), oracle_fit.predict(at), atol=1e-6)


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_pooling_gives_rising_levels_with_the_same_mean(values, random):
    weights = np.array([random.uniform(0.1, 3) for _ in values])
    levels, sizes = pool_adjacent_violators(values, weights)
    assert (np.diff(levels) > 0).all()
    assert sizes.sum() == values.size
    assert np.repeat(levels, sizes) @ weights == pytest.approx(values @ weights)


def test_isotonic_probabilities_are_those_of_the_truth_where_there_is_plenty():
    """Not logistic: P rises in a step at 0.4; Platt cannot follow, isotonic regression does."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 60_000)
    same = rng.uniform(size=60_000) < np.where(scores < 0.4, 0.2, 0.8)
    fitted = fit_isotonic(scores[same], scores[~same])
    odds = np.mean(~same) / np.mean(same)  # to the prior of one half
    for score, share in ((0.2, 0.2), (0.7, 0.8)):
        expected = share * odds / (share * odds + 1 - share)
        assert float(fitted(score)) == pytest.approx(expected, abs=0.02)
