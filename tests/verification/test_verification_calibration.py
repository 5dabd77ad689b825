"""calibration.py: monotone, bounded, better than the raw score, and finite where classes do not overlap."""

import json
import math

import numpy as np
import pytest
import verification_oracle as oracle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression

from twin_dcal.errors import MetricError
from twin_dcal.verification import calibration as module
from twin_dcal.verification.calibration import Calibration, fit_platt

SOME = Calibration(slope=12.0, intercept=-5.0, prior=0.5, num_genuine=10, num_impostors=20, source="val")
cosines = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1, 1))


def overlapping(seed, genuine=400, impostor=3000):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0.55, 0.15, genuine), -1, 1), np.clip(rng.normal(0.3, 0.15, impostor), -1, 1)


@given(cosines, cosines)
def test_probabilities_are_bounded_and_never_fall_with_the_score(genuine, impostor):
    if np.unique(np.r_[genuine, impostor]).size < 2:
        return
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
    with pytest.raises(MetricError, match="1 of 2 scores are NaN"):
        SOME([0.1, math.nan])


def test_round_trip_through_json():
    written = json.loads(json.dumps(SOME.to_dict(), allow_nan=False))
    assert Calibration.from_dict(written) == SOME
    fitted = fit_platt(*overlapping(6), source="validation pairs")
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert fitted.source == "validation pairs"


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
        Calibration.from_dict({**SOME.to_dict(), **change})
    with pytest.raises(MetricError, match="missing keys"):
        Calibration.from_dict({"slope": 1.0})


def test_scores_without_two_classes_are_errors():
    with pytest.raises(MetricError, match="there are none"):
        fit_platt([0.5], [])
