"""Thinned curves look the same; labels stand clear of curves and of each other."""

from itertools import pairwise

import numpy as np
import pytest

from twin_dcal.report.layout import place_labels, thin


def staircase(rng, size, jumps=0):
    steps = rng.exponential(size=(size, 2)) * (rng.random((size, 1)) < [[0.5]])
    steps[rng.integers(0, size, jumps)] *= size / 8
    path = np.cumsum(np.where(rng.random((size, 1)) < 0.5, steps * [1, 0], steps * [0, 1]), axis=0)
    return path / path[-1]


def distance_to_line(point, line):
    """The smallest distance from a point to any piece of a line: an oracle in plain loops."""
    best = np.inf
    for one, two in pairwise(line):
        along = two - one
        length = along @ along
        at = 0.0 if length == 0 else min(max((point - one) @ along / length, 0.0), 1.0)
        best = min(best, float(np.hypot(*(point - one - at * along))))
    return best


@pytest.mark.parametrize("jumps", [0, 3])
@pytest.mark.parametrize("falling", [False, True])
def test_a_thinned_curve_stays_within_a_fraction_of_a_line_width(jumps, falling):
    rng = np.random.default_rng(jumps)
    path = staircase(rng, 20_000, jumps)
    x, y = path[:, 0], 1 - path[:, 1] if falling else path[:, 1]
    kept = thin(x, y)
    assert kept.size <= 1000
    assert (kept[0], kept[-1]) == (0, x.size - 1)
    assert (np.diff(kept) > 0).all()
    line = np.stack([x, y], axis=1)
    for point in line[
        rng.integers(0, len(line), 200)
    ]:  # axes are some 280 points long, lines 1.7 points wide
        assert distance_to_line(point, line[kept]) * 280 < 0.6


def test_a_short_curve_is_left_alone():
    assert thin(np.arange(1000.0), np.arange(1000.0)).size == 1000
    assert thin(np.zeros(3000), np.zeros(3000)).size <= 1000


def test_thinning_does_not_depend_on_the_units():
    path = staircase(np.random.default_rng(5), 5000)
    once, scaled = thin(path[:, 0], path[:, 1]), thin(path[:, 0] * 7 - 6, path[:, 1] * 0.01)
    assert np.array_equal(once, scaled)


BOX = (280.0, 240.0)


def boxes_of(lines, sizes):
    return [
        (x, y, x + w, y + h) for (x, y), (w, h) in zip(place_labels(lines, sizes, BOX), sizes, strict=True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_inside_and_apart(seed):
    rng = np.random.default_rng(seed)
    lines = [staircase(rng, 300) * BOX for _ in range(3)]
    boxes = boxes_of(lines, [(110.0, 10.0), (90.0, 10.0), (120.0, 10.0)])
    for left, bottom, right, top in boxes:
        assert left >= 0
        assert bottom >= 0
        assert right <= BOX[0]
        assert top <= BOX[1]
    for one in range(3):
        for two in range(one):
            a, b = boxes[one], boxes[two]
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_label_covers_no_curve_where_there_is_room_and_stands_near_its_own():
    rising = np.stack([np.linspace(0, 280, 50), np.linspace(0, 240, 50)], axis=1)
    flat = np.array([[0.0, 120.0], [280.0, 120.0]])
    boxes = boxes_of([rising, flat], [(60.0, 10.0), (60.0, 10.0)])
    dense = [
        np.stack([np.linspace(*line[[0, -1], axis], 2000) for axis in (0, 1)], axis=1)
        for line in (rising, flat)
    ]
    for own, (left, bottom, right, top) in zip(dense, boxes, strict=True):
        for line in dense:
            inside = (line[:, 0] > left) & (line[:, 0] < right) & (line[:, 1] > bottom) & (line[:, 1] < top)
            assert not inside.any()
        gap = np.hypot(
            own[:, 0] - np.clip(own[:, 0], left, right), own[:, 1] - np.clip(own[:, 1], bottom, top)
        )
        assert gap.min() < 12


def test_curves_outside_the_axes_still_get_a_name():
    below = np.array([[10.0, -50.0], [270.0, -60.0]])
    ((x, y),) = place_labels([below], [(80.0, 10.0)], BOX)
    assert 0 <= x <= 200
    assert 0 <= y <= 230


def test_further_lines_are_kept_clear_of():
    point, wall = (
        np.array([[140.0, 120.0]]),
        np.stack([np.full(400, 150.0), np.linspace(0, 240, 400)], axis=1),
    )
    ((x, _),) = place_labels([point, wall], [(60.0, 10.0)], BOX)
    assert x + 60 < 150 or x > 150
