"""Templates: scores against loops, and thresholds for numbers of photographs."""

import math

import numpy as np
import pytest
from templates_oracle import dot
from templates_oracle import template_score as by_loops

from twin_dcal.metrics.fusion import PRIOR, Fusion, similarity_rows
from twin_dcal.metrics.templates import (
    DRAWS,
    RULES,
    TemplateDecision,
    calibrate_templates,
    decision_for,
    fused_features,
    template_score,
)

FUSION = Fusion(4, 0.3, (-2.0, 9.0, -4.0), (20.0, 3.0, -9.0), "made up")


def fused_score(one, other):
    untouched, own = dot(one[:4], other[:4]) / 0.3, dot(one[4:], other[4:]) / 0.7
    twins, strangers = -2 * untouched + 9 * own - 4, 20 * untouched + 3 * own - 9
    return math.tanh(-math.log(math.exp(-twins) + math.exp(PRIOR - strangers)) / 8)


def rows(count, seed=0):
    """Features of two parts, of squared lengths 0.3 and 0.7."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(count, width)) for width in (4, 6)]
    untouched, own = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    return np.concatenate([np.sqrt(0.3) * untouched, np.sqrt(0.7) * own], axis=1).astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (3, 2)])
def test_scores_are_those_of_loops(rule, weighted, sizes):
    one, two = rows(sizes[0], 1), rows(sizes[1], 2)
    weights = [np.random.default_rng(number).uniform(0.1, 1, count) for number, count in enumerate(sizes)]
    given = tuple(weights) if weighted else (None, None)
    taken = [each.tolist() if weighted else [1] * len(each) for each in weights]
    for fusion, score, parts in (
        (None, dot, [(0, 10, 1)]),
        (FUSION, fused_score, [(0, 4, 0.3), (4, 10, 0.7)]),
    ):
        expected = by_loops(one.tolist(), two.tolist(), rule, taken, parts, score)
        assert template_score(one, two, rule, fusion, given) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_one_photograph_each_is_the_pair_to_the_last_digit(fusion):
    one, two = rows(1, 1), rows(1, 2)
    pair = float(similarity_rows(one, two, fusion)[0])
    assert [template_score(one, two, rule, fusion) for rule in RULES] == [pair] * 3
    assert fused_features(one, [0.3], fusion) is not None
    np.testing.assert_array_equal(fused_features(one, [0.3], fusion), one[0])


def people(num_families=20, images=6, noise=0.8, seed=0):
    """Unit features of twins who share most of their direction, their people and families."""
    rng = np.random.default_rng(seed)
    family = rng.normal(size=(num_families, 1, 1, 16))
    person = family + 0.9 * rng.normal(size=(num_families, 2, 1, 16))
    each = person + noise * rng.normal(size=(num_families, 2, images, 16))
    features = each.reshape(-1, 16) / np.linalg.norm(each.reshape(-1, 16), axis=1, keepdims=True)
    person_of = np.repeat(np.arange(2 * num_families), images)
    return features.astype(np.float32), person_of, person_of // 2


def test_thresholds_are_of_the_templates_they_are_for():
    features, person_of, family_of = people()
    found = calibrate_templates(features, person_of, family_of, "made")
    assert {each.sizes for each in found} == {(1, 2), (1, 3), (2, 2), (2, 3), (3, 3), (1, 5)}
    assert {each.rule for each in found} == set(RULES)
    for each in found:
        origin = each.threshold.origin
        assert (origin["num_genuine"], origin["impostors"]) == (DRAWS * 40, "twin")
        assert origin["num_impostors"] == DRAWS * 40, "each person's twin, in either order"
        small, large = each.sizes
        assert origin["data"] == f"made, templates of {small} and {large} photographs"
        rates = each.error_curve.at(each.threshold.value)
        assert (rates.fmr, rates.fnmr) == (origin["fmr"], origin["fnmr"])
    error = {each.sizes: each.threshold.origin["fnmr"] for each in found if each.rule == "mean"}
    assert error[3, 3] < error[2, 2] < error[1, 2], "more photographs, fewer errors"
    # Rates hold for other people drawn alike.
    other, person_of, family_of = people(seed=1)
    decision = decision_for(found, "mean", (3, 3))
    means = other.reshape(40, 2, 3, 16).mean(axis=2)
    means /= np.linalg.norm(means, axis=2, keepdims=True)
    refused = (np.einsum("pe,pe->p", means[:, 0], means[:, 1]) < decision.threshold.value).mean()
    assert refused == pytest.approx(decision.threshold.origin["fnmr"], abs=0.12)


def test_calibration_is_the_same_each_time_and_leaves_out_what_there_is_too_little_of():
    features, person_of, family_of = people(num_families=3, images=3)
    one, again = (
        calibrate_templates(features, person_of, family_of, "made", rules=["mean"]) for _ in range(2)
    )
    assert [each.to_dict() for each in one] == [each.to_dict() for each in again]
    assert [each.sizes for each in one] == [(1, 2)]
    assert calibrate_templates(features[:6], person_of[:6], family_of[:6], "made")[0].sizes == (1, 2)
    assert calibrate_templates(features[:3], person_of[:3], family_of[:3], "one person") == ()
    flat = np.ones_like(features) / 4
    assert calibrate_templates(flat, person_of, family_of, "all scores alike") == ()


def test_thresholds_without_a_meaning_are_told_once(caplog):
    features, person_of, family_of = people(num_families=6, noise=0.5)
    assert calibrate_templates(features, person_of, family_of, "made")
    assert caplog.messages == []
    each = person_of.copy()  # every image under the twin's number where it lies at an even place
    each[::2] ^= 1
    found = calibrate_templates(features, each, family_of, "made")
    flat = sum(decision.calibration.slope == 0 for decision in found)
    assert flat > 1
    assert caplog.messages == [
        f"{flat} of {len(found)} thresholds for several photographs of each: genuine scores are not higher than "
        "impostor scores, and every calibrated score is 0.5"
    ]


def test_a_twin_family_is_never_cut_by_a_draw(monkeypatch):
    monkeypatch.setattr("twin_dcal.metrics.templates.MAX_PEOPLE", 8)
    found = calibrate_templates(*people(), "made", rules=["mean"], sizes=[1, 2])
    assert {each.threshold.origin["num_impostors"] for each in found} == {DRAWS * 8}


def test_the_nearest_smaller_numbers_decide():
    made = [TemplateDecision("mean", sizes, None, None, None) for sizes in ((1, 2), (2, 2), (1, 3), (3, 5))]
    expected = {(2, 1): (1, 2), (2, 2): (2, 2), (3, 2): (2, 2), (4, 1): (1, 3), (9, 9): (3, 5), (1, 1): None}
    found = {sizes: decision_for(made, "mean", sizes) for sizes in expected}
    assert {sizes: each and each.sizes for sizes, each in found.items()} == expected
    assert decision_for(made, "max", (9, 9)) is None
