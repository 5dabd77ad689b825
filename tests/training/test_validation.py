import numpy as np
import pytest

from twin_dcal.errors import MetricError
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.training.validation import validate


def scores(genuine, twin, unrelated):
    rng = np.random.default_rng(0)
    drawn = [rng.normal(mean, 0.1, 400).astype(np.float32) if mean is not None else np.empty(0, np.float32)
             for mean in (genuine, twin, unrelated)]  # fmt: skip
    return PairScores(*drawn, np.empty(0, np.float32))


def test_the_best_model_is_best_against_twins_unless_asked_otherwise():
    twins_better = validate(scores(0.5, 0.3, 0.3), "a")
    strangers_better = validate(scores(0.5, 0.35, -0.5), "b")
    assert twins_better.key("twin_eer") < strangers_better.key("twin_eer")
    assert twins_better.key("mean_eer") > strangers_better.key("mean_eer")


@pytest.mark.parametrize("best_by", ["twin_eer", "mean_eer"])
def test_without_twins_all_impostors_count(best_by):
    validation = validate(scores(0.5, None, 0.2), "c")
    assert "twin_eer" not in validation.figures
    assert validation.key(best_by) == (validation.figures["all_eer"], -validation.figures["all_auc"])
    assert validation.threshold.origin["impostors"] == "all"


def test_threshold_and_calibration_are_set_on_twins():
    validation = validate(scores(0.6, 0.4, -0.4), "d")
    assert 0.45 < validation.threshold.value < 0.55
    assert validation.threshold.origin["num_impostors"] == 400
    assert float(validation.calibration([validation.threshold.value])[0]) == pytest.approx(0.5, abs=0.1)


def test_the_error_curve_has_the_rates_that_the_threshold_was_chosen_for():
    rng = np.random.default_rng(0)
    drawn = [rng.normal(mean, 0.1, 20_000).astype(np.float32) for mean in (0.6, 0.4)]
    validation = validate(PairScores(*drawn, np.empty(0, np.float32), np.empty(0, np.float32)), "f")
    rates = validation.error_curve.at(validation.threshold.value)
    origin = validation.threshold.origin
    assert (rates.fmr, rates.fnmr) == (origin["fmr"], origin["fnmr"])
    assert (rates.fmr, rates.fnmr) == (
        (drawn[1] >= validation.threshold.value).mean(),
        (drawn[0] < validation.threshold.value).mean(),
    )


def test_no_genuine_pair_is_an_error():
    with pytest.raises(MetricError):
        validate(scores(None, 0.1, 0.1), "e")
