"""Differences at a false match rate, and Holm's correction: by loops, and against the intervals of one system."""

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.pair_stream import ListedPairs, count_pairs
from twin_dcal.metrics.paired import holm, paired_rates, rates_of


@pytest.fixture(scope="module")
def two():
    comparisons, vectors = faces(12, images_each=4)
    noise = 0.6 * np.random.default_rng(5).normal(size=vectors.shape).astype(np.float32)
    return pair_source(comparisons, vectors), pair_source(comparisons, vectors + noise)


def test_differences_are_those_of_the_figures(two):
    a, b = two
    found = paired_rates(a, b)
    counts = [count_pairs(source) for source in two]
    assert {key[0] for key in found} == {"twin", "unrelated", "all", "headline"}
    for (section, figure), told in found.items():
        assert told.low <= told.difference <= told.high
        if section == "headline":
            continue
        asked = float(figure.rpartition("_")[2])
        one, other = (error_rates.operating_point(each.section(section), asked) for each in counts)
        values = (one.fnmr, other.fnmr) if figure.startswith("fnmr") else (one.tar, other.tar)
        assert (told.a, told.b) == values
        if figure.startswith("tar"):
            missed = found[section, f"fnmr_at_fmr_{asked:g}"]
            assert told.difference == pytest.approx(-missed.difference)
            assert (told.low, told.high) == pytest.approx((-missed.high, -missed.low))
            assert told.p_value == pytest.approx(missed.p_value)
    unrelated = counts[0].section("unrelated")
    point = error_rates.operating_point(unrelated, 1 / unrelated.num_impostors)
    at = error_rates.error_rates_at(counts[0].section("twin"), point.threshold)
    assert (found["headline", "twin_fmr"].a, found["headline", "fnmr"].a) == (at.fmr, at.fnmr)
    assert found["unrelated", "fnmr_at_fmr_0.01"].difference < 0
    turned = paired_rates(b, a)
    for key, told in found.items():
        assert turned[key].difference == -told.difference
        assert turned[key].p_value == pytest.approx(told.p_value)


def test_a_system_does_not_differ_from_itself(two):
    for told in paired_rates(two[0], two[0]).values():
        assert (told.difference, told.low, told.high, told.p_value) == (0, 0, 0, 1)


def test_without_families_there_are_none():
    pairs = ListedPairs([0.9, 0.8, 0.1, 0.2], [0, 0, 3, 3], [0, 2, 0, 1], [1, 3, 2, 3])
    assert paired_rates(pairs, pairs) == {}
    assert set(rates_of(count_pairs(pairs))) == set()


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_stepwise_procedure_rejects(seed):
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.uniform(0, 0.2, 6), 3).tolist()
    adjusted = holm(p_values)
    for alpha in np.linspace(0.001, 0.999, 60):
        rejected = set()
        for rank, index in enumerate(sorted(range(6), key=lambda at: p_values[at])):
            if p_values[index] > alpha / (6 - rank):
                break
            rejected.add(index)
        assert rejected == {index for index in range(6) if adjusted[index] <= alpha + 1e-12}
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
