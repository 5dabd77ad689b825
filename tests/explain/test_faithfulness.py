"""Deletion, insertion, pointing and ranking on cases worked out by hand or by loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from twin_dcal.explain.faithfulness import (
    Deletion,
    blurred,
    deletion_curves,
    half_of,
    points_at,
    rank_correlation,
    ranking,
    widened,
    with_shuffled_weights,
)


def test_areas_are_trapezoids():
    curve = Deletion(np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0]))
    assert curve.deletion == pytest.approx(0.25)
    assert curve.insertion == pytest.approx(0.75)


def two_cells(images):
    """An embedding of two cells of a 4 x 4 grid: (0, 0) and (3, 3), of 8 pixels each."""
    parts = [images[:, 0, :2, :2].flatten(1), images[:, 0, -2:, -2:].flatten(1)]
    return torch.nn.functional.normalize(torch.cat(parts, 1), dim=-1)


def test_hiding_follows_the_map_in_both_pictures():
    """One cell alike, one different. The right map falls at once and rises at once; the turned one does the reverse."""
    pair = torch.zeros(2, 3, 8, 8)
    pair[:, 0, :2, :2] = torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    pair[0, 0, -2:, -2:] = torch.tensor([[3.0, -3.0], [3.0, -3.0]])
    pair[1, 0, -2:, -2:] = -pair[0, 0, -2:, -2:]
    right = np.zeros((2, 4, 4))
    right[:, 0, 0], right[:, 3, 3] = 1, -1
    told = deletion_curves(two_cells, pair, right, num_steps=16)
    turned = deletion_curves(two_cells, pair, -right, num_steps=16)
    assert told.most_first[0] == pytest.approx(float(two_cells(pair)[0] @ two_cells(pair)[1]))
    assert told.most_first[1] < told.most_first[0] - 0.3
    assert told.least_first[1] > told.least_first[0] + 0.3
    assert told.most_first[-1] == pytest.approx(told.least_first[-1])
    assert told.insertion - told.deletion > 0.5
    assert turned.insertion - turned.deletion < -0.5


def test_each_picture_is_hidden_by_its_own_map():
    pair = torch.ones(2, 3, 8, 8)
    seen = []

    def embed(images):
        seen.append(images.clone())
        return torch.nn.functional.normalize(images.flatten(1), dim=-1)

    pair[0, :, :2, :2], pair[1, :, -2:, :2] = 5, 7
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 0] = maps[1, 3, 0] = 1
    deletion_curves(embed, pair, maps, num_steps=16)
    first_step = seen[0].reshape(17, 2, 3, 8, 8)[1]
    changed = (first_step != pair).any(1)
    assert changed[0, :2, :2].any()
    assert not changed[0, 2:].any()
    assert changed[1, -2:, :2].any()
    assert not changed[1, :-2].any()


def test_blur_keeps_constants_and_the_mean_of_an_inner_point():
    flat = torch.full((1, 3, 16, 16), 2.5)
    torch.testing.assert_close(blurred(flat, 2.0), flat)
    point = torch.zeros(1, 3, 33, 33)
    point[:, 1, 16, 16] = 1
    out = blurred(point, 2.0)
    assert out[0, 1].sum() == pytest.approx(1, abs=1e-4)
    assert out[0, 1, 16, 16] == pytest.approx(1 / (2 * np.pi * 4), rel=0.02)
    assert out[0, 0].abs().max() == 0


def test_half_of_a_difference_is_its_smallest_region():
    difference = np.array([[8.0, 1.0], [5.0, 2.0]])
    assert half_of(difference).tolist() == [[True, False], [False, False]]
    assert half_of(np.array([[7.0, 1.0], [6.0, 2.0]])).tolist() == [[True, False], [True, False]]


def test_pointing_allows_two_pixels_of_sixty_four():
    target = np.zeros((64, 64), bool)
    target[20, 30] = True
    wide = widened(target)
    assert wide.sum() == 25
    for place, hit in (((22, 32), True), ((23, 30), False), ((20, 27), False)):
        map_ = np.zeros((64, 64))
        map_[place] = 1
        assert points_at(map_, wide) is hit


def test_ranking_is_the_area_under_roc_within_the_face():
    rng = np.random.default_rng(0)
    map_, target, face = rng.integers(0, 5, (9, 9)) / 4, rng.random((9, 9)) < 0.3, rng.random((9, 9)) < 0.8
    assert ranking(map_, target, face) == pytest.approx(roc_auc_score(target[face], map_[face]))
    assert np.isnan(ranking(map_, np.zeros((9, 9), bool), face))


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (one, two)]
    assert rank_correlation(one, two) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, np.ones((4, 4))) == 0
    tied = np.array([1.0, 1.0, 2.0]), np.array([3.0, 3.0, 1.0])
    assert rank_correlation(*tied) == pytest.approx(-1)


def test_shuffled_weights_are_the_same_values_elsewhere():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5))
    shuffled = with_shuffled_weights(model, 0)
    before, after = model[0].weight.flatten(), shuffled[0].weight.flatten()
    assert not torch.equal(before, after)
    torch.testing.assert_close(before.sort().values, after.sort().values)
    torch.testing.assert_close(shuffled[0].weight, with_shuffled_weights(model, 0)[0].weight)
