"""Where a point of the face lands in a crop, and which point of the face a pixel shows.

A face is turned (yaw, then pitch) and seen without perspective; the crop is then aligned by a similarity transform as
real crops are, from the family's landmarks, so that a twin's own geometry does not move hair or background. Plane
coordinates are face units in the crop: (0, `FRAME_Y`) is its middle and it reaches `FRAME_HALF` each way.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .canonical import CENTRE_Y, HALF, Field, eye_centres
from .identity import MEAN, Geometry
from .photo import Photo

FRAME_HALF = 1.62
FRAME_Y = 0.12
STEPS = 5

Points = NDArray[np.float64]


class View(NamedTuple):
    """A turn of the head, and plane = scale · R(roll) · turned + shift."""

    cos_yaw: float
    sin_yaw: float
    cos_pitch: float
    sin_pitch: float
    matrix: Points
    """(2, 2)."""
    shift: Points
    """(2,)."""


def view_of(frame: Geometry, depth: "Depth", photo: Photo) -> View:
    """The view of a photo of a member of the family with geometry `frame`, whose height field is `depth`."""
    turned = _turn(_landmarks_3d(frame, depth), photo.yaw, photo.pitch)
    matrix, shift = _similarity(turned, _TEMPLATE)
    cos, sin = np.cos(photo.roll), np.sin(photo.roll)
    jitter = photo.scale * np.array([[cos, -sin], [sin, cos]])
    move = np.array([photo.shift_x, photo.shift_y])
    return View(
        float(np.cos(photo.yaw)), float(np.sin(photo.yaw)), float(np.cos(photo.pitch)), float(np.sin(photo.pitch)),
        jitter @ matrix, jitter @ shift + move,
    )  # fmt: skip


class Depth:
    """A height field that can be looked up at single points, nearest texel."""

    def __init__(self, height: Field) -> None:
        self._height = height

    def __call__(self, x: float, y: float) -> float:
        size = self._height.shape[0]
        column = int(np.clip((x + HALF) * size / (2 * HALF), 0, size - 1))
        row = int(np.clip((y - CENTRE_Y + HALF) * size / (2 * HALF), 0, size - 1))
        return float(self._height[row, column])


def landmarks(face: Geometry, depth: Depth, photo: Photo, view: View, size: int) -> Points:
    """(5, 2) pixel positions x, y of the left and right eye (of the viewer), tip of the nose, corners of the mouth."""
    points = _landmarks_3d(face, depth, photo)
    turned = _turn_with(points, view)
    plane = turned @ view.matrix.T + view.shift
    pixels = (plane - np.array([0, FRAME_Y]) + FRAME_HALF) * (size / (2 * FRAME_HALF)) - 0.5
    return np.asarray(pixels)


def plane_coordinates(size: int, view: View) -> tuple[Field, Field]:
    """(S, S) each: turned-face coordinates X, Y that every pixel shows."""
    line = (np.arange(size) + 0.5) * (2 * FRAME_HALF / size) - FRAME_HALF
    inverse = np.linalg.inv(view.matrix)
    x = (line[None, :] - view.shift[0]).astype(np.float32)
    y = (line[:, None] + FRAME_Y - view.shift[1]).astype(np.float32)
    a, b, c, d = (np.float32(value) for value in inverse.ravel())
    return a * x + b * y, c * x + d * y


def face_coordinates(plane_x: Field, plane_y: Field, height: Field, view: View) -> tuple[Field, Field, Field]:
    """The point (x, y, z) of the height field that is seen at each plane position, by fixed-point iteration.

    The field is shallow enough (slope times tangent of the turn below 1) for the iteration to close in.
    """
    f = np.float32
    cos_yaw, sin_yaw = f(view.cos_yaw), f(view.sin_yaw)
    cos_pitch, sin_pitch = f(view.cos_pitch), f(view.sin_pitch)
    x, y = plane_x, plane_y
    for _ in range(STEPS):
        z = sample(height, x, y)
        x = np.asarray((plane_x - z * sin_yaw) / cos_yaw, dtype=f)
        y = np.asarray((plane_y - (z * cos_yaw - x * sin_yaw) * sin_pitch) / cos_pitch, dtype=f)
    return x, y, z


def sample(field: Field, x: Field, y: Field) -> Field:
    """Bilinear lookup of a (C, C) or (C, C, K) map at face coordinates; the edge goes on outside."""
    size = field.shape[0]
    left, across = _texel(x, HALF, size)
    corner, down = _texel(y, HALF - CENTRE_Y, size)
    corner *= size
    corner += left
    if field.ndim == 3:
        across, down = across[..., None], down[..., None]
    flat = field.reshape(size * size, *field.shape[2:])
    upper = _between(flat, corner, across)
    corner += size
    lower = _between(flat, corner, across)
    lower -= upper
    lower *= down
    upper += lower
    return upper


def _texel(place: Field, offset: float, size: int) -> tuple[NDArray[np.intp], Field]:
    """Number of the texel at or before each place along one axis, and the share of the way to the next."""
    scale = size / (2 * HALF)
    exact = place * np.float32(scale)
    exact += np.float32(offset * scale - 0.5)
    np.maximum(exact, 0, out=exact)
    np.minimum(exact, np.float32(size - 1.001), out=exact)
    whole = np.floor(exact)
    exact -= whole
    return whole.astype(np.intp), exact


def _between(flat: Field, left: NDArray[np.intp], across: Field) -> Field:
    """Values `across` of the way from texel `left` to the next one."""
    # Texels are in range already; "clip" spares a check of each.
    first = flat.take(left, axis=0, mode="clip")
    second = flat[1:].take(left, axis=0, mode="clip")
    second -= first
    second *= across
    first += second
    return first


def _landmarks_3d(face: Geometry, depth: Depth, photo: Photo | None = None) -> Points:
    """(5, 3) of eyes, nose tip, mouth corners; at rest, or with the expression of `photo`."""
    smile = 0.0 if photo is None else photo.smile
    reach = face.mouth_width * (1 + SMILE_WIDENS * smile)
    corner_y = float(mouth_line(face, smile, np.float32(1)))
    places = [
        *eye_centres(face),
        (face.nose_offset, face.nose_y),
        (face.mouth_offset - reach, corner_y),
        (face.mouth_offset + reach, corner_y),
    ]
    return np.array([(x, y, depth(x, y)) for x, y in places])


def mouth_line(face: Geometry, smile: float, along: Field | np.float32) -> Field:
    """y where the lips meet, at places from -1 to 1 `along` the mouth: a smile lifts the corners, lowers the middle."""
    return np.asarray(
        face.mouth_y + SMILE_BENDS * smile * (np.float32(0.3) - along * along), dtype=np.float32
    )


SMILE_WIDENS, SMILE_BENDS = 0.16, 0.11
"""Share by which a full smile widens the mouth, and how much higher the corners are than the middle."""


def _turn(points: Points, yaw: float, pitch: float) -> Points:
    """(N, 3) points to (N, 2), turned and seen from the front."""
    sideways = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    depth = points[:, 2] * np.cos(yaw) - points[:, 0] * np.sin(yaw)
    return np.stack([sideways, points[:, 1] * np.cos(pitch) + depth * np.sin(pitch)], axis=1)


def _turn_with(points: Points, view: View) -> Points:
    return _turn(
        points,
        float(np.arctan2(view.sin_yaw, view.cos_yaw)),
        float(np.arctan2(view.sin_pitch, view.cos_pitch)),
    )


def _similarity(points: Points, target: Points) -> tuple[Points, Points]:
    """The rotation with scale (2, 2) and shift (2,) that take points nearest to target (least squares).

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991);
    in the plane it is a quotient of complex numbers.
    """
    source, goal = points - points.mean(0), target - target.mean(0)
    a, b = source @ [1, 1j], goal @ [1, 1j]
    factor = (np.conj(a) @ b) / (np.conj(a) @ a)
    matrix = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return matrix, target.mean(0) - matrix @ points.mean(0)


_TEMPLATE = np.array(
    [
        (-MEAN.eye_x, 0.0),
        (MEAN.eye_x, 0.0),
        (0.0, MEAN.nose_y),
        (-MEAN.mouth_width, MEAN.mouth_y),
        (MEAN.mouth_width, MEAN.mouth_y),
    ]
)
