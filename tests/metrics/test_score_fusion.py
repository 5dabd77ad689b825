"""Fusion of scores: scikit-learn's logistic regression as oracle."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from twin_dcal.errors import MetricError
from twin_dcal.metrics.score_fusion import RIDGE, fit_score_fusion


@pytest.fixture
def made():
    """Scores of three systems on other scales, kinds of unequal number."""
    rng = np.random.default_rng(2)
    kinds = rng.permutation(np.repeat([0, 1, 2], [80, 40, 400]))
    means = np.array([[1.0, 0.6, -1.0], [1.0, -0.3, -0.5], [0.2, 0.1, 0.0]])[:, kinds]
    scores = (means + rng.normal(size=means.shape)) * [[1.0], [30.0], [0.01]] + [[0.0], [5.0], [-2.0]]
    return scores, kinds


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (0, 1, 3)])
def test_weights_are_those_of_scikit_learn(made, present):
    scores, kinds = made
    kinds = np.where(kinds == 2, 3, kinds) if 3 in present else kinds
    chosen = np.isin(kinds, present)
    scores, kinds = scores[:, chosen], kinds[chosen]
    found = fit_score_fusion(scores, kinds)
    standard = ((scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)).T
    share = {0: 0.5, **dict.fromkeys(present[1:], 0.5 / (len(present) - 1))}
    weight = [share[kind] / (kinds == kind).sum() for kind in kinds.tolist()]
    theirs = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=10_000).fit(standard, kinds == 0, weight)
    np.testing.assert_allclose(found(scores), theirs.decision_function(standard), atol=1e-4)
    assert (found.num_genuine, found.num_impostors) == ((kinds == 0).sum(), (kinds != 0).sum())


def test_scales_of_systems_do_not_matter(made):
    scores, kinds = made
    moved = scores * [[-3.0], [0.5], [1000.0]] + [[1.0], [2.0], [3.0]]
    np.testing.assert_allclose(
        fit_score_fusion(scores, kinds)(scores), fit_score_fusion(moved, kinds)(moved), atol=1e-8
    )


def test_separable_scores_have_finite_weights():
    found = fit_score_fusion([[1.0, 2.0, -1.0, -2.0], [0.0, 1.0, 0.5, 0.2]], [0, 0, 2, 2])
    assert np.isfinite(found.weights).all()
    assert found.weights[0] > 0


def test_what_cannot_be_fused_is_an_error():
    with pytest.raises(MetricError, match="genuine and impostor pairs"):
        fit_score_fusion([[1.0, 2.0]], [0, 0])
    with pytest.raises(MetricError, match="all scores of one system are the same"):
        fit_score_fusion([[1.0, 2.0], [3.0, 3.0]], [0, 1])


def test_scores_too_large_to_add_up_are_refused_silently(made, recwarn):
    scores, kinds = made
    with pytest.raises(MetricError, match="too large to be added up"):
        fit_score_fusion(scores * 1e300, kinds)
    assert not recwarn.list
