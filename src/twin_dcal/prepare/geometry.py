"""Where a face lies in a crop: the template, and similarity transforms. numpy only.

Points are (x, y) with x to the right and y down; pixel i covers [i, i + 1), so a picture is [0, W] x [0, H]. Landmarks
are in YuNet's order: eye on the viewer's left, eye on the right, tip of the nose, corner of the mouth left, right.
"""

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.templates import OURS

Points = NDArray[np.float64]
"""(P, 2)"""
Matrix = NDArray[np.float64]
"""(2, 3): maps p to m[:, :2] @ p + m[:, 2]."""

TEMPLATE: Points = OURS


def fit_similarity(source_P2: Points, target_P2: Points) -> Matrix:
    """The rotation, scale and shift that bring `source` closest to `target` in the sum of squares.

    The closed form of Umeyama (IEEE TPAMI 13, 1991) for two dimensions; never a reflection. ValueError for source
    points that all coincide.
    """
    mean_s, mean_t = source_P2.mean(axis=0), target_P2.mean(axis=0)
    s, t = source_P2 - mean_s, target_P2 - mean_t
    spread = float((s * s).sum())
    if spread == 0:
        raise ValueError("all points coincide")
    along = float((s * t).sum()) / spread
    across = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()) / spread
    turn = np.array([[along, -across], [across, along]])
    return np.column_stack([turn, mean_t - turn @ mean_s])


def transform(matrix: Matrix, points: Points) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def invert(matrix: Matrix) -> Matrix:
    (a, b), (c, d) = matrix[:, :2]
    turn = np.array([[d, -b], [-c, a]]) / (a * d - b * c)  # several times faster than numpy's for one matrix
    return np.column_stack([turn, -turn @ matrix[:, 2]])


def compose(second: Matrix, first: Matrix) -> Matrix:
    """`first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def scale_of(matrix: Matrix) -> float:
    """How many times larger a similarity makes what it maps."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def roll_of(matrix: Matrix) -> float:
    """Degrees by which a similarity turns, counter-clockwise on the screen."""
    return float(-np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


def displacement(landmarks_52: Points, template: Points = TEMPLATE) -> float:
    """How far aligning would move a crop's pixels: root mean square over its square, as a share of the side.

    Args: landmarks: in a crop of side 1.
    """
    matrix = fit_similarity(landmarks_52, template)
    # Over the unit square, (A - I) p + b has the mean square |(A - I) c + b|^2 + |A - I|_F^2 / 12, c its centre.
    change = matrix[:, :2] - np.eye(2)
    at_centre = change @ [0.5, 0.5] + matrix[:, 2]
    return float(np.sqrt((at_centre**2).sum() + (change**2).sum() / 12))
