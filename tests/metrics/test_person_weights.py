"""person_weights.py: rates are means of the people's own rates; loops and scikit-learn with weights as oracles."""

from collections import defaultdict

import numpy as np
import people_oracle as oracle
import pytest
from made_faces import Split, all_listed, faces, uneven
from sklearn.metrics import average_precision_score, roc_auc_score

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.table import format_table
from twin_dcal.metrics import error_rates, pair_stream
from twin_dcal.metrics.intervals import family_intervals
from twin_dcal.metrics.pair_stream import ListedPairs, count_pairs
from twin_dcal.metrics.person_weights import PersonWeighted

BY_PEOPLE = EvaluationOptions(weights="people")


@pytest.fixture(scope="module")
def made():
    comparisons, vectors = uneven(9, large=11)
    found = evaluate(pair_source(comparisons, vectors), comparisons, Decision(0.55, "validation"), BY_PEOPLE)
    return comparisons, vectors, found.figures


def mean_of_people(listed, people, kind, wrong):
    """Mean over people with such pairs of the share of their pairs that are wrong."""
    of = defaultdict(list)
    for one, other, score, of_kind in listed:
        if of_kind == kind:
            for person in {people[one], people[other]}:
                of[person].append(wrong(score))
    return sum(sum(each) / len(each) for each in of.values()) / len(of)


def weights_by_loops(listed, people, kind):
    """Scores and weights of one kind of pair, weights adding up to the number of pairs."""
    number = defaultdict(int)
    for one, other, _, of_kind in listed:
        for person in {people[one], people[other]} if of_kind == kind else ():
            number[person] += 1
    these = [(score, one, other) for one, other, score, of_kind in listed if of_kind == kind]
    raw = [sum(1 / number[person] for person in {people[one], people[other]}) for _, one, other in these]
    return [score for score, *_ in these], [len(these) * weight / sum(raw) for weight in raw]


def test_rates_at_the_threshold_are_means_over_people(made):
    comparisons, vectors, figures = made
    listed, people = all_listed(comparisons, vectors), comparisons.people.tolist()
    fnmr = mean_of_people(listed, people, "genuine", lambda score: oracle.wrong(score, "genuine", 0.55))
    plain = evaluate(
        pair_source(comparisons, vectors), comparisons, Decision(0.55, "x"), EvaluationOptions()
    ).figures
    for name in ("twin", "unrelated"):
        fmr = mean_of_people(listed, people, name, lambda score: oracle.wrong(score, "twin", 0.55))
        section = figures[name]
        assert (section["fmr"], section["fnmr"]) == (pytest.approx(fmr), pytest.approx(fnmr))
        assert section["fnmr"] != pytest.approx(plain[name]["fnmr"], rel=1e-3)
        counts = {key: value for key, value in section["confusion"].items() if key.startswith("num")}
        assert counts.items() <= plain[name]["confusion"].items()
        assert all(type(count) is int for count in counts.values())
        assert section["num_genuine"] == plain[name]["num_genuine"]


@pytest.mark.parametrize("name", ["twin", "unrelated", "all"])
def test_figures_over_all_thresholds_are_those_of_scikit_learn(made, name):
    comparisons, vectors, figures = made
    listed, people = all_listed(comparisons, vectors), comparisons.people.tolist()
    kinds = ("twin", "unrelated") if name == "all" else (name,)
    parts = [weights_by_loops(listed, people, kind) for kind in ("genuine", *kinds)]
    scores, weights = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    same = np.repeat([1, 0], [len(parts[0][0]), sum(len(part[0]) for part in parts[1:])])
    section = figures[name]
    assert section["roc_auc"] == pytest.approx(roc_auc_score(same, scores, sample_weight=weights))
    assert section["average_precision"] == pytest.approx(
        average_precision_score(same, scores, sample_weight=weights)
    )
    rates = [
        (weights[(same == 0) & (scores >= at)].sum() / weights[same == 0].sum(),
         weights[(same == 1) & (scores < at)].sum() / weights[same == 1].sum())
        for at in np.unique(scores)[::-1]
    ]  # fmt: skip
    assert section["fnmr_at_fmr_0.1"] == pytest.approx(min(fnmr for fmr, fnmr in rates if fmr <= 0.1))
    after = next(index for index, (fmr, fnmr) in enumerate(rates) if fmr >= fnmr)
    (fmr, fnmr), (fmr_after, fnmr_after) = rates[after - 1], rates[after]
    share = (fnmr - fmr) / ((fnmr - fmr) - (fnmr_after - fmr_after))
    assert section["eer"] == pytest.approx(fmr + share * (fmr_after - fmr))
    for prior in (0.01, 0.001):
        cheapest = min(prior * fnmr + (1 - prior) * fmr for fmr, fnmr in [(0, 1), *rates])
        assert section[f"min_dcf_{prior:g}"] == pytest.approx(cheapest / min(prior, 1 - prior))
    right = max(
        (1 - fmr) * weights[same == 0].sum() + (1 - fnmr) * weights[same == 1].sum() for fmr, fnmr in rates
    )
    assert section["best_accuracy"] == pytest.approx(right / weights.sum())


def test_where_all_have_equally_many_images_nothing_changes():
    comparisons, vectors = faces(8, images_each=3)
    decision = Decision(0.55, "x")
    plain, by_people = (
        evaluate(pair_source(comparisons, vectors), comparisons, decision, effort).figures
        for effort in (EvaluationOptions(), BY_PEOPLE)
    )
    for name in ("twin", "unrelated", "all"):
        for key in ("eer", "roc_auc", "fmr", "fnmr", "best_accuracy", "d_prime", "tar_at_far_0.01"):
            assert by_people[name][key] == pytest.approx(plain[name][key], rel=1e-9), (name, key)
        for key, ends in plain[name]["intervals"].items():
            assert by_people[name]["intervals"][key] == pytest.approx(ends, rel=1e-6), (name, key)


def test_intervals_leave_out_families_of_the_weighted_pairs(made):
    """The jackknife's values of FMR and FNMR, again by loops, hidden in the interval's width: compared through it."""
    comparisons, vectors, figures = made
    source = PersonWeighted(pair_source(comparisons, vectors))
    found = family_intervals(source, threshold=0.55)
    for name in ("fmr", "fnmr", "eer"):
        ends = found.figures["twin"][name]
        assert figures["twin"]["intervals"][name] == [ends.low, ends.high]
        assert ends.low < figures["twin"][name] < ends.high
        assert ends.estimate == pytest.approx(figures["twin"][name])


def test_blocks_and_counters_do_not_matter(made, monkeypatch):
    comparisons, vectors, _ = made
    source = pair_source(comparisons, vectors)
    whole = count_pairs(PersonWeighted(source))
    assert whole.is_weighted
    assert not count_pairs(source).is_weighted
    monkeypatch.setattr(pair_stream, "COUNT_FROM", 100)
    parts = count_pairs(PersonWeighted(Split(source, 7)))
    for kind in ("genuine", "twin", "unrelated"):
        one, other = getattr(whole, kind), getattr(parts, kind)
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.below, other.below)  # sums of rounded weights are exact
        assert one.size == pytest.approx(getattr(count_pairs(source), kind).size, rel=1e-9)


def test_weights_are_stated(made):
    _, _, figures = made
    assert figures["weights"] == "people"
    assert figures["sentence"].startswith("Every person counts the same. At the decision threshold 0.55,")
    assert "every person counts the same in each kind of pair" in format_table(figures)


def test_weights_need_people_and_exclude_folds():
    listed = ListedPairs([0.1, 0.9], [3, 0])
    with pytest.raises(MetricError, match="whose images are compared is not known"):
        PersonWeighted(listed)
    with pytest.raises(ConfigError, match="exclude each other"):
        EvaluationOptions(weights="people", num_folds=3)


def test_a_request_is_met_as_by_counting():
    """The loosest threshold whose FMR, a quotient of whole numbers, does not exceed the request."""
    rng = np.random.default_rng(3)
    genuine, impostor = rng.integers(0, 40, 50) / 40, rng.integers(-20, 30, 300) / 40
    scores = error_rates.sort_scores(genuine, impostor)
    for asked in (1 / 3, 0.1, 0.07, 7 / 300, 1 / 300, 1e-3):
        point = error_rates.operating_point(scores, asked)
        loosest = min(
            (at for at in {*genuine, *impostor} if sum(impostor >= at) / 300 <= asked), default=np.inf
        )
        assert point.threshold == loosest
        assert point.supported == (asked >= 1 / 300)
