"""The error curve that travels with a model, against counting by hand."""

import numpy as np
import pytest

from twin_dcal.errors import MetricError
from twin_dcal.metrics.error_curve import SCORES_PER_TAIL, ErrorCurve, Threshold
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.thresholds import counted


def scores_of(genuine=(), twin=(), unrelated=(), other=()):
    return counted(
        PairScores(*(np.asarray(values, np.float32) for values in (genuine, twin, unrelated, other)))
    )


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    drawn = {"genuine": (0.6, 4000), "twin": (0.4, 3000), "unrelated": (0.0, 9000)}
    kinds = {name: rng.normal(mean, 0.2, num).astype(np.float32) for name, (mean, num) in drawn.items()}
    return kinds, ErrorCurve.of(scores_of(**kinds), "drawn")


def test_a_small_set_is_kept_whole_with_ties():
    curve = ErrorCurve.of(scores_of([0.5, 0.75, 0.75], [0.25, 0.75], [-0.5, 0, 0, 0.5]), "by hand")
    assert curve.thresholds.tolist() == [-0.5, 0, 0.25, 0.5, 0.75]
    assert curve.fnmr.tolist() == [0, 0, 0, 0, pytest.approx(1 / 3)]
    assert curve.fmr["twin"].tolist() == [1, 1, 1, 0.5, 0.5]
    assert curve.fmr["unrelated"].tolist() == [1, 0.75, 0.25, 0.25, 0]
    assert curve.fmr["all"].tolist() == pytest.approx([1, 5 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert curve.num_impostors == {"twin": 2, "unrelated": 4, "all": 6}
    assert curve.on == "twin"


def test_rates_between_stored_scores_are_never_too_low():
    curve = ErrorCurve.of(scores_of([0.5, 0.75, 0.75], [0.25, 0.75], [-0.5, 0, 0, 0.5]), "by hand")
    between = curve.at(0.6)  # FMR as at 0.5, FNMR as at 0.75
    assert (between.fmr, between.fnmr, between.unrelated_fmr) == (0.5, pytest.approx(1 / 3), 0.25)
    assert (curve.at(-1).fmr, curve.at(-1).fnmr) == (1, 0)
    assert (curve.at(1).fmr, curve.at(1).fnmr) == (0.5, 1)
    assert curve.at(0.5).weak == ("fnmr", "fmr")


def test_rates_of_a_large_set_are_close_to_counting(large):
    kinds, curve = large
    assert curve.thresholds.size <= 6 * SCORES_PER_TAIL
    for score in np.linspace(-0.8, 1.2, 101):
        rates = curve.at(score)
        for found, exact in (
            (rates.twin_fmr, (kinds["twin"] >= score).mean()),
            (rates.unrelated_fmr, (kinds["unrelated"] >= score).mean()),
            (rates.fnmr, (kinds["genuine"] < score).mean()),
        ):
            assert exact <= found <= exact * 1.1 + 2e-3, score
    assert curve.at(0.5).weak == ()


def test_without_twins_all_impostors_judge():
    curve = ErrorCurve.of(scores_of([0.5, 0.9], other=[0.1, 0.6]), "pairs")
    rates = curve.at(0.6)
    assert (curve.on, rates.on, rates.fmr, rates.twin_fmr, rates.unrelated_fmr) == (
        "all",
        "all",
        0.5,
        None,
        None,
    )


def test_rates_at_a_threshold_between_two_scores_are_exact(large):
    kinds, curve = large
    threshold = float(np.mean(curve.thresholds[400:402]))  # no score of its own
    exact = ErrorCurve.of(scores_of(**kinds), "drawn", threshold).at(threshold)
    counted = {name: (kinds[name] >= threshold).mean() for name in ("twin", "unrelated")}
    assert (exact.fmr, exact.twin_fmr, exact.unrelated_fmr) == (counted["twin"], *counted.values())
    assert exact.fnmr == (kinds["genuine"] < threshold).mean()
    assert curve.at(threshold).fmr > exact.fmr
    assert curve.at(threshold).fnmr > exact.fnmr


def test_measured_rates_between_two_scores_join_the_curve(large):
    """What a model file says of its threshold, where its curve was stored without it."""
    kinds, curve = large
    threshold = float(np.mean(curve.thresholds[400:402]))
    exact = ErrorCurve.of(scores_of(**kinds), "drawn", threshold)
    found = curve.with_rates(threshold, "twin", exact.at(threshold).fmr, exact.at(threshold).fnmr)
    assert (found.at(threshold).fmr, found.at(threshold).fnmr) == (
        exact.at(threshold).fmr,
        exact.at(threshold).fnmr,
    )
    assert exact.fmr_at(threshold)["all"] <= found.fmr_at(threshold)["all"] < curve.fmr_at(threshold)["all"]
    assert (np.diff(found.fnmr) >= 0).all()
    assert all((np.diff(rates) <= 0).all() for rates in found.fmr.values())
    for elsewhere in (-0.5, 0.9, *curve.thresholds[[0, 400, 401, -1]]):
        assert found.at(elsewhere) == curve.at(elsewhere)


@pytest.mark.parametrize(
    ("score", "on", "fmr", "fnmr"),
    [(0.6, "twin", 0.6, 0.2), (0.6, "twin", 0.5, 0.4), (0.6, "nobody", 0.5, 0.2), (0.5, "twin", 0.5, 0.2)],
)
def test_rates_that_the_curve_contradicts_do_not_join_it(score, on, fmr, fnmr):
    curve = ErrorCurve.of(scores_of([0.5, 0.75, 0.75], [0.25, 0.75], [-0.5, 0, 0, 0.5]), "by hand")
    assert curve.with_rates(score, on, fmr, fnmr).to_dict() == curve.to_dict()


def test_it_travels_as_plain_values(large):
    _, curve = large
    again = ErrorCurve.from_dict(curve.to_dict())
    assert again.to_dict() == curve.to_dict()
    assert again.at(0.3) == curve.at(0.3)


@pytest.mark.parametrize(
    "damage",
    [
        {"thresholds": [0.2, 0.1]}, {"thresholds": []}, {"fnmr": [0.1, 2]}, {"fnmr": [0.1]}, {"fmr": {"twin": [0, 0]}},
        {"fmr": None}, {"num_impostors": {"twin": 3}}, {"thresholds": [0.1, float("nan")]}, {"num_genuine": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_values_are_refused(damage):
    values = ErrorCurve.of(scores_of([0.5, 0.75], other=[0.5, 0.75]), "x").to_dict()
    with pytest.raises(MetricError, match="cannot be read"):
        ErrorCurve.from_dict(values | damage)


def test_one_class_has_no_curve():
    with pytest.raises(MetricError, match="no impostor pair"):
        ErrorCurve.of(scores_of([0.5, 0.75]), "x")


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (
            {"criterion": "eer", "impostors": "twin", "data": "val.json"},
            "eer on the twin impostors of val.json",
        ),
        ({"criterion": "far=1e-3", "impostors": "all"}, "far=1e-3 on all impostors"),
        ({"criterion": "eer", "impostors": None}, "eer"),
        ({"criterion": "eer", "data": "val.json"}, "eer of val.json"),
        ({"data": "val.json"}, "the model file, which does not say how it was chosen"),
        ({}, "the model file, which does not say how it was chosen"),
    ],
)
def test_a_threshold_says_what_is_known_of_it(origin, told):
    assert Threshold(0.5, origin).chosen_by() == told
