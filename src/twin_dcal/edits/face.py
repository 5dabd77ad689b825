"""Where the parts of a face lie in a photograph: face coordinates from five landmarks, and how far the head is turned.

Face coordinates (u, v) are those of a mean face seen from the front: the origin lies between the eyes, u runs to the
right of the picture, v down, the unit is the distance between the eyes. A simple depth (an ellipsoid with a nose) and
an affine camera carry them to a photograph: pixel = shift + turn (u, v) + lean z(u, v). numpy only.

Pixel i covers [i, i + 1). Shapes: G points in any arrangement.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LANDMARKS: Array = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.603], [-0.428, 1.057], [0.428, 1.057]])
"""The five landmarks of the mean face, (u, v), in YuNet's order: the mean over aligned crops, made symmetric."""

_HEAD = 1.3, 1.75, 0.45
"""Half width, half height and v of the middle of the ellipsoid of the head."""
_DEPTH, _NOSE = 0.95, 0.36
_NOSE_AT, _NOSE_WIDE, _NOSE_HIGH, _NOSE_LOW = 0.58, 0.15, 0.30, 0.13
_RIDGE = 0.35
"""How strongly the camera is held to one that neither shears nor leans, against the landmarks."""
_STEPS = 6
"""Of finding face coordinates of pixels."""
_STEEPER = 1.6
"""How many times steeper a head is than the ellipsoid, which is flat so that places near its outline are found."""


def depth(u: Array, v: Array) -> Array:
    """How far the mean face stands out towards the camera, 0 at the eyes."""
    nose_high = np.where(v < _NOSE_AT, _NOSE_HIGH, _NOSE_LOW)
    nose = np.exp(-0.5 * ((u / _NOSE_WIDE) ** 2 + ((v - _NOSE_AT) / nose_high) ** 2))
    return np.asarray(_ball(u, v) - _BALL_AT_EYES + _NOSE * nose)


def _ball(u: Array, v: Array) -> Array:
    wide, high, middle = _HEAD
    return _DEPTH * np.sqrt(np.maximum(1 - (u / wide) ** 2 - ((v - middle) / high) ** 2, 0.01))


_BALL_AT_EYES = float(_ball(np.array(0.5), np.array(0.0)))


@dataclass(frozen=True, eq=False)
class Camera:
    """How face coordinates are seen in one photograph, in its pixels."""

    turn: Array
    """(2, 2)"""
    lean: Array
    """(2,) pixels for each unit of depth."""
    shift: Array
    """(2,)"""
    landmarks: Array
    """(5, 2) what it was fitted to."""
    misfit: float
    """Root mean square distance of the landmarks from where this camera puts the mean face's, in eye distances."""

    @property
    def eye_distance(self) -> float:
        """Pixels between the eyes if the face looked at the camera."""
        across, down = np.hypot(*self.turn[:, 0]), np.hypot(*self.turn[:, 1])
        aside, along = self.lean @ self._across, self.lean @ self._along
        return float(np.hypot(across, aside) + np.hypot(down, along)) / 2

    @property
    def _across(self) -> Array:
        """The direction in the picture, of length 1, that u runs along."""
        return np.asarray(self.turn[:, 0] / np.hypot(*self.turn[:, 0]))

    @property
    def _along(self) -> Array:
        """The direction across that one, down the face."""
        return np.array([-self._across[1], self._across[0]])

    @property
    def yaw(self) -> float:
        """Degrees by which the head is turned aside, positive to the right of the picture."""
        return float(np.degrees(np.arctan2(self.lean @ self._across, np.hypot(*self.turn[:, 0]))))

    @property
    def pitch(self) -> float:
        """Degrees by which the head is nodded, positive down; faces with longer noses look down."""
        return float(np.degrees(np.arctan2(self.lean @ self._along, np.hypot(*self.turn[:, 1]))))

    def project(self, points_G2: Array) -> Array:
        """Face coordinates to pixels."""
        u, v = points_G2[..., 0], points_G2[..., 1]
        return np.asarray(points_G2 @ self.turn.T + depth(u, v)[..., None] * self.lean + self.shift)

    def locate(self, pixels_G2: Array) -> Array:
        """Pixels to face coordinates, where the face is seen; beyond its outline the plane of the face goes on."""
        back = np.linalg.inv(self.turn)
        flat = (pixels_G2 - self.shift) @ back.T
        aside = back @ self.lean
        point = flat
        for _ in range(_STEPS):
            point = flat - depth(point[..., 0], point[..., 1])[..., None] * aside
        return np.asarray(point)

    def facing(self, points_G2: Array) -> Array:
        """Cosine between the face's surface at these face coordinates and the line of sight; 0 or less is hidden."""
        step = 0.01
        u, v = points_G2[..., 0], points_G2[..., 1]
        slope_u = _STEEPER * (_ball(u + step, v) - _ball(u - step, v)) / (2 * step)
        slope_v = _STEEPER * (_ball(u, v + step) - _ball(u, v - step)) / (2 * step)
        yaw, pitch = np.radians(self.yaw), np.radians(self.pitch)
        sight = np.array([-np.sin(yaw), -np.sin(pitch) * np.cos(yaw), np.cos(pitch) * np.cos(yaw)])
        length = np.sqrt(slope_u**2 + slope_v**2 + 1)
        return np.asarray((-slope_u * sight[0] - slope_v * sight[1] + sight[2]) / length)


def fit_camera(landmarks_52: Array) -> Camera:
    """The camera under which the mean face's landmarks come nearest to these.

    Least squares, held towards a camera that only turns in the plane and scales, since five points of a face that is
    not the mean one say little about shear. ValueError for landmarks that coincide.
    """
    points = np.asarray(landmarks_52, np.float64)
    z = depth(LANDMARKS[:, 0], LANDMARKS[:, 1])
    plain = _similarity(LANDMARKS, points)
    design = np.column_stack([LANDMARKS, z, np.ones(5)])
    rest = points - design @ plain
    held = np.diag([_RIDGE, _RIDGE, 0.02, 0.0])
    change = np.linalg.solve(design.T @ design + held, design.T @ rest)
    found = plain + change
    scale = np.hypot(*plain[0])
    misfit = float(np.sqrt(((design @ found - points) ** 2).sum(axis=1).mean()) / scale)
    return Camera(found[:2].T.copy(), found[2].copy(), found[3].copy(), points, misfit)


def _similarity(source: Array, target: Array) -> Array:
    """(4, 2) rows for u, v, depth and shift of the best turn, scale and shift."""
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    along = float((s * t).sum() / (s * s).sum())
    across = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / (s * s).sum())
    if np.hypot(along, across) == 0:
        raise ValueError("all landmarks coincide")
    rows = np.array([[along, across], [-across, along]])
    return np.vstack([rows, [[0, 0]], [mean_t - mean_s @ rows]])
