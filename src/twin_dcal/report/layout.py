"""Geometry of plots in numpy: curves thinned without changing how they look, labels placed beside their curves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Line = NDArray[np.float64]
"""(K, 2) points of a curve, in points from the lower left corner of its axes."""

MAX_POINTS = 1000
_SAMPLES = 300


def thin(x: Line, y: Line, max_points: int = MAX_POINTS) -> NDArray[np.intp]:
    """Which points of a monotone curve to keep: at most `max_points`, the first and the last among them.

    The curve's length, with the span of each axis as 1, is at most 2; it is cut into equal stretches and the first
    and last point in each are kept. Between them a monotone curve cannot leave a box as small as the stretch.

    Args: x, y: (K,) coordinates as drawn, each never rising or never falling. Returns: ascending indices.
    """
    if x.size <= max_points:
        return np.arange(x.size)
    steps = [np.abs(np.diff(axis)) / (np.ptp(axis) or 1.0) for axis in (x, y)]
    length = np.concatenate([[0.0], np.cumsum(steps[0] + steps[1])])
    stretches = max_points // 2
    stretch = np.minimum((length / (length[-1] or 1.0) * stretches).astype(np.int64), stretches - 1)
    changes = stretch[1:] != stretch[:-1]
    return np.flatnonzero(np.concatenate([[True], changes]) | np.concatenate([changes, [True]]))


def place_labels(
    lines: Sequence[Line], sizes: Sequence[tuple[float, float]], box: tuple[float, float]
) -> list[tuple[float, float]]:
    """Where to write each curve's name: beside it, inside the axes, off every curve and every other name.

    Of many places along the curve the one that covers least is taken; an earlier one where several cover nothing.

    Args: lines: (K, 2) with K >= 1, one per label; further ones are only kept clear of. sizes: width and height of
        each label. box: width and height of the axes. All in points. Returns: lower left corners.
    """
    sampled = [_resample(line) for line in lines]
    placed: list[tuple[float, float, float, float]] = []
    for index, size in enumerate(sizes):
        inside = _inside(sampled[index], box)
        anchors = inside[np.unique(np.linspace(0, len(inside) - 1, 40).astype(int))]
        corners = _corners(anchors, size, box)
        cost = sum(_covered(corners, size, line, 2.0) for line in sampled)
        cost = cost + 1000.0 * _overlaps(corners, size, placed) + 0.001 * np.arange(len(corners))
        x, y = corners[int(np.argmin(cost))]
        placed.append((x, y, *size))
    return [(x, y) for x, y, _, _ in placed]


def _resample(line: Line) -> Line:
    """Points at equal distances along a line, close enough that none can jump over a label."""
    if len(line) < 2:
        return line
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0, length[-1], _SAMPLES)
    return np.stack([np.interp(at, length, line[:, axis]) for axis in (0, 1)], axis=1)


def _inside(line: Line, box: tuple[float, float]) -> Line:
    kept = line[((line >= 0) & (line <= box)).all(axis=1)]
    return kept if len(kept) else np.clip(line, 0, box)


def _corners(anchors: Line, size: tuple[float, float], box: tuple[float, float]) -> Line:
    """Eight places around each anchor, those nearest first, pushed back inside the axes."""
    width, height = size
    places = []
    for gap in (4.0, 10.0, 18.0):
        left, right, below, above = -width - gap, gap, -height - gap, gap
        middle_x, middle_y = -width / 2, -height / 2
        places += [(right, below), (left, above), (right, above), (left, below)]
        places += [(middle_x, above), (middle_x, below), (right, middle_y), (left, middle_y)]
    corners = (np.array(places)[:, None] + anchors[None]).reshape(-1, 2)
    room = np.maximum(np.subtract(box, size) - 2, 2)
    return np.clip(corners, 2, room)


def _covered(corners: Line, size: tuple[float, float], points: Line, pad: float) -> NDArray[np.float64]:
    low = corners[:, None] - pad
    high = corners[:, None] + np.add(size, pad)
    inside = np.logical_and.reduce((points >= low) & (points <= high), axis=2)
    return np.asarray(inside.sum(axis=1), dtype=np.float64)


def _overlaps(
    corners: Line, size: tuple[float, float], placed: Sequence[tuple[float, float, float, float]]
) -> NDArray[np.float64]:
    hits = np.zeros(len(corners))
    for x, y, width, height in placed:
        apart_x = (corners[:, 0] >= x + width + 3) | (corners[:, 0] + size[0] + 3 <= x)
        apart_y = (corners[:, 1] >= y + height + 1) | (corners[:, 1] + size[1] + 1 <= y)
        hits += ~(apart_x | apart_y)
    return hits
