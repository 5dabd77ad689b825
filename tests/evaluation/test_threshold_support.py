"""What validation pairs support: the upper bound of the FMR at a threshold, in result, table and JSON."""

import numpy as np
import pytest
from made_faces import faces
from scipy import stats

from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.report_schema import evaluation_figures
from twin_dcal.evaluation.run import Tuning, _told, tune_on
from twin_dcal.evaluation.systems import Scored
from twin_dcal.evaluation.table import format_table
from twin_dcal.metrics.intervals import family_intervals
from twin_dcal.metrics.pair_stream import count_pairs
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.thresholds import choose_threshold


def drawn(num_unrelated, seed=2):
    rng = np.random.default_rng(seed)
    parts = [(0.7, 300), (0.5, 200), (0.1, num_unrelated)]
    return PairScores(*(rng.normal(m, 0.15, n).astype(np.float32) for m, n in parts), np.empty(0, np.float32))


@pytest.mark.parametrize("metric", ["eer", "far=0.01", "far=1e-3"])
def test_the_bound_is_that_of_clopper_and_pearson_or_a_little_above(metric):
    scores = drawn(3000)
    choice = choose_threshold(scores, metric)
    errors = round(choice.fmr * choice.num_impostors)
    exact = stats.beta.ppf(0.95, errors + 1, choice.num_impostors - errors)
    assert exact <= choice.fmr_upper <= 1.15 * exact
    assert choice.fmr_upper_by == "pairs"


@pytest.mark.parametrize(("num_unrelated", "upper"), [(1000, 0.003), (10_000, None)])
def test_no_error_is_bounded_by_the_rule_of_three(num_unrelated, upper):
    choice = choose_threshold(drawn(num_unrelated), "far=1e-4")
    assert choice.pairs_needed == 10_000
    assert choice.origin("val")["pairs_needed"] == 10_000
    told = choice.described("val")
    assert "far=1e-4 needs 10,000 pairs or more" in told
    assert f"FMR up to {100 * choice.fmr_upper:.2g} %" in told
    if upper is not None:
        assert choice.fmr == 0
        assert choice.fmr_upper == pytest.approx(upper, rel=2e-3)  # 3 / 1,000
        assert "needs 10,000 impostor pairs or more, there are 1,000" in choice.warning


class Given:
    """A system that has scores already."""

    def __init__(self, comparisons, vectors):
        self.made = Scored(comparisons, pair_source(comparisons, vectors), vectors)

    def scored(self, data, split):
        return self.made


@pytest.fixture(scope="module")
def tuned() -> Tuning:
    return tune_on(Given(*faces(24, images_each=3)), None, "val", "far=0.01", EvaluationOptions())


def test_families_bound_it_where_they_are_known(tuned):
    comparisons, vectors = faces(24, images_each=3)
    source = pair_source(comparisons, vectors)
    choice = tuned.choice
    expected = family_intervals(source, threshold=choice.threshold).figures["unrelated"]["fmr"].high
    assert (choice.fmr_upper, choice.fmr_upper_by) == (expected, "families")
    assert choice.fmr_upper > choice.fmr
    plain = tune_on(
        Given(comparisons, vectors), None, "val", "far=0.01", EvaluationOptions(num_replicates=0)
    ).choice
    assert plain.fmr_upper_by == "pairs"
    assert plain.threshold == choice.threshold
    assert count_pairs(source).unrelated.size == choice.num_impostors


def test_json_and_table_say_it(tuned):
    told = _told(tuned)
    assert told["fmr_upper"] == tuned.choice.fmr_upper
    assert (told["fmr_upper_by"], told["pairs_needed"]) == ("families", 100)

    text = " ".join(format_table({**evaluation_figures(drawn(3000), 0.6, "x"), "tuning": told}).split())
    assert f"up to {100 * tuned.choice.fmr_upper:.2g} % (95 %, over families)" in text
    assert "it needs 100 pairs or more" in text


def test_an_evaluation_tells_what_became_of_the_fmr_asked_for(tuned):
    comparisons, vectors = faces(20, images_each=3, seed=7)
    source = pair_source(comparisons, vectors)
    told = evaluate(source, comparisons, tuned.decision(), EvaluationOptions()).figures
    achieved, section = told["achieved_fmr"], told["unrelated"]
    assert (achieved["impostors"], achieved["expected"]) == ("unrelated", 0.01)
    assert achieved["fmr"] == section["fmr"] > 0
    narrow, wide = section["intervals"]["fmr"], achieved["interval"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert achieved["sentence"] in " ".join(format_table(told).split())

    by_hand = Decision(tuned.choice.threshold, "--threshold")
    assert evaluate(source, comparisons, by_hand, EvaluationOptions()).figures["achieved_fmr"] is None


@pytest.mark.parametrize(("expected", "words"), [(0.05, "may be chance"), (0.0001, "is more than chance")])
def test_whether_it_may_be_chance(tuned, expected, words):
    comparisons, vectors = faces(20, images_each=3, seed=7)
    origin = tuned.choice.origin("val")
    error = {**origin["error_of_choice"], "error": 0.1, "freedom": 20.0, "expected_fmr": expected}
    decision = Decision(tuned.choice.threshold - 0.15, "x", origin={**origin, "error_of_choice": error})
    told = evaluate(pair_source(comparisons, vectors), comparisons, decision, EvaluationOptions()).figures[
        "achieved_fmr"
    ]
    assert told["sentence"].endswith(f"the difference {words}."), told
