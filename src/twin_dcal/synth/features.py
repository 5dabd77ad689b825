"""Eyes, mouth and glasses: the parts of a face that change from photo to photo, painted where each pixel looks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .camera import SMILE_WIDENS, mouth_line
from .canonical import Field, eye_centres
from .identity import Geometry, Person, Skin
from .photo import NO_GLASSES, Photo
from .scene import Scene, blend

_SCLERA = np.array([0.62, 0.57, 0.54], np.float32)
_TEETH = np.array([0.66, 0.60, 0.50], np.float32)
_MOUTH = np.array([0.05, 0.012, 0.012], np.float32)
_PUPIL = np.array([0.006, 0.005, 0.005], np.float32)
_LASH = np.array([0.015, 0.01, 0.01], np.float32)
_FRAME = np.array([0.02, 0.02, 0.022], np.float32)
_GLINT = np.full(3, 0.9, np.float32)


class _Window(NamedTuple):
    """The part of the picture that holds a feature, and face coordinates there."""

    place: tuple[slice, slice]
    x: Field
    y: Field


def mouth(albedo: Field, person: Person, photo: Photo, scene: Scene) -> Field:
    """Lips, and teeth and darkness between them."""
    face, skin = person.geometry, person.skin
    window = _window(scene, (face.mouth_offset, face.mouth_y), (1.4 * face.mouth_width, 0.42))
    if window is None:
        return albedo
    reach = face.mouth_width * (1 + SMILE_WIDENS * photo.smile)
    t = np.clip((window.x - np.float32(face.mouth_offset)) / np.float32(reach), -1.2, 1.2)
    arc = np.sqrt(np.clip(1 - t * t, 0, 1))
    middle = mouth_line(face, photo.smile, t)
    gap = (max(0.12 * photo.smile - 0.03, 0) + 0.17 * photo.mouth_open) * arc**0.7
    notch = 1 - face.cupid * np.exp(-((t / 0.16) ** 2))
    lip_top = middle - face.upper_lip * arc**1.3 * notch - 0.25 * gap
    open_top, open_bottom = middle - 0.15 * gap, middle + 0.85 * gap
    lip_bottom = middle + face.lower_lip * arc**0.9 + 0.85 * gap
    edge = np.float32(scene.pixel)
    y = window.y
    lips = np.clip(np.minimum(y - lip_top, lip_bottom - y) / edge + 0.5, 0, 1) * (np.abs(t) < 1)
    within = np.clip(np.minimum(y - open_top, open_bottom - y) / edge + 0.5, 0, 1) * (gap > 0.012)
    line = _stroke(y - middle, 0.024) * (np.abs(t) < 1.06) * (gap <= 0.02)
    patch = albedo[window.place]
    patch = blend(patch, patch * _lip_tint(skin), 0.95 * lips)
    patch = blend(patch, 0.72 * patch, lips * (y < middle))
    corners = _stroke(np.abs(t) - 1.02, 0.07) * _stroke(y - middle, 0.05)
    below = _stroke(y - lip_bottom - 0.05, 0.05) * np.clip(1.1 - t * t, 0, 1)
    patch = blend(patch, 0.12 * patch, np.maximum(0.9 * line, 0.6 * corners))
    patch = blend(patch, 0.6 * patch, 0.5 * below)
    teeth = np.clip((open_top + 0.10 - y) / 0.02, 0, 1)[..., None]
    return _put(albedo, window, blend(patch, _MOUTH + teeth * (_TEETH - _MOUTH), within))


def eyes(albedo: Field, person: Person, photo: Photo, scene: Scene) -> Field:
    """Lids, lashes, white, iris and pupil of both eyes."""
    for side, centre in zip((-1, 1), eye_centres(person.geometry), strict=True):
        window = _window(scene, centre, (1.5 * person.geometry.eye_width, 0.24))
        if window is not None:
            patch = _eye(albedo[window.place], person, photo, window, centre, side, scene.pixel)
            albedo = _put(albedo, window, patch)
    return albedo


def _eye(
    patch: Field,
    person: Person,
    photo: Photo,
    window: _Window,
    centre: tuple[float, float],
    side: int,
    pixel: float,
) -> Field:
    face = person.geometry
    t, up, y, arc = _lid_coordinates(face, window, centre, side)
    opening = face.eye_height * max(photo.lids, 0.05)
    upper, lower = -0.8 * opening * arc, 0.75 * face.eye_height * arc
    edge = np.float32(pixel)
    inside = np.clip(np.minimum(y - upper, lower - y) / edge + 0.5, 0, 1) * (np.abs(t) < 1)
    gaze_x, gaze_y = 0.09 * photo.gaze_x, 0.06 * photo.gaze_y
    out = np.hypot(up - np.float32(gaze_x), y - np.float32(gaze_y))
    iris = np.clip((face.iris_radius - out) / edge + 0.5, 0, 1)
    pupil = np.clip((0.42 * face.iris_radius - out) / edge + 0.5, 0, 1)
    shade = np.clip(0.55 + (y - upper) / 0.12, 0.5, 1)[..., None]
    ring = np.clip(out / face.iris_radius, 0, 1)[..., None]
    white, coloured = _SCLERA * shade, _iris_colour(person.skin) * (1.25 - 0.8 * ring**3) * shade
    ball = blend(np.asarray(white), coloured, iris)
    ball = blend(ball, _PUPIL, pupil)
    crease = _stroke(y - upper + face.crease, 0.02) * (np.abs(t) < 1.1) * arc
    patch = blend(patch, 0.6 * patch, 0.5 * crease)
    patch = blend(patch, ball, inside)
    lash = _stroke(y - upper, max(0.02, 0.5 * pixel)) * (np.abs(t) < 1.04)
    lower_lash = _stroke(y - lower, 0.014) * (np.abs(t) < 0.95)
    patch = blend(patch, _LASH, 0.85 * lash)
    return blend(patch, 0.5 * patch, 0.7 * lower_lash)


def _lid_coordinates(
    face: Geometry, window: _Window, centre: tuple[float, float], side: int
) -> tuple[Field, Field, Field, Field]:
    """Position along the lids (-1 to 1, outwards), across and down from the eye's centre, and the lids' arc."""
    dx, dy = window.x - np.float32(centre[0]), window.y - np.float32(centre[1])
    slope = np.float32(side * face.eye_tilt)  # outer corner higher
    y = dy + slope * dx
    t = np.clip(side * dx / np.float32(face.eye_width), -1.3, 1.3)
    arc = np.sqrt(np.clip(1 - t * t, 0, 1)) ** np.float32(1.25)
    return t, dx, y, arc


def glints(face: Field, person: Person, photo: Photo, scene: Scene, light: NDArray[np.float64]) -> Field:
    """The light's reflection in open eyes."""
    if photo.lids < 0.5:
        return face
    for centre in eye_centres(person.geometry):
        x = centre[0] + 0.09 * photo.gaze_x + 0.035 * light[0]
        y = centre[1] + 0.06 * photo.gaze_y - 0.02 + 0.035 * light[1]
        window = _window(scene, (float(x), float(y)), (0.06, 0.06))
        if window is not None:
            distance = np.hypot(window.x - np.float32(x), window.y - np.float32(y))
            amount = np.clip((0.02 - distance) / np.float32(scene.pixel) + 0.5, 0, 1)
            spot = blend(face[window.place], _GLINT, 0.8 * amount)
            face = _put(face, window, spot)
    return face


def glasses(picture: Field, face: Geometry, photo: Photo, scene: Scene) -> Field:
    """A dark frame, placed by the family's geometry."""
    if photo.glasses == NO_GLASSES:
        return picture
    return blend(picture, _FRAME, 0.92 * glasses_cover(face, photo, scene))


def glasses_cover(face: Geometry, photo: Photo, scene: Scene) -> Field:
    """(S, S) how much of each pixel is the frame of glasses, 0 to 1."""
    x, y = np.abs(scene.x), scene.y
    half = np.float32(0.5 * photo.glasses)
    power = np.float32(2 + 4 * photo.glasses_shape)
    across = np.abs(x - np.float32(face.eye_x)) / np.float32(0.34)
    along = np.abs(y - np.float32(0.06)) / np.float32(0.27)
    level = (across**power + along**power) ** (1 / power)
    rim = np.abs(level - 1) * np.float32(0.3) - half
    bridge = np.maximum(np.abs(y + np.float32(0.06)) - half, x - np.float32(face.eye_x - 0.33))
    temple = np.maximum(np.abs(y + np.float32(0.02)) - half, np.float32(face.eye_x + 0.33) - x)
    temple = np.maximum(temple, x - np.float32(face.cheek_width))
    distance = np.minimum(np.minimum(rim, bridge), temple)
    return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(scene.pixel), 0, 1))


def _window(scene: Scene, centre: tuple[float, float], half: tuple[float, float]) -> _Window | None:
    """The smallest part of the picture that holds every pixel within `half` of `centre`; None if there is none."""
    near = (np.abs(scene.x - np.float32(centre[0])) < half[0]) & (
        np.abs(scene.y - np.float32(centre[1])) < half[1]
    )
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not rows.size:
        return None
    place = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return _Window(place, scene.x[place], scene.y[place])


def _put(picture: Field, window: _Window, patch: Field) -> Field:
    changed = picture.copy()
    changed[window.place] = patch
    return changed


def _stroke(distance: Field | NDArray[np.float64], width: float) -> Field:
    """How dark a soft line is at some distance from its middle: 1 there, exp(-1) at `width`."""
    return np.asarray(np.exp(-((distance / np.float32(width)) ** 2)), dtype=np.float32)


def _lip_tint(skin: Skin) -> Field:
    return np.array([0.92, 0.55 - 0.18 * skin.lip_red, 0.58 - 0.15 * skin.lip_red], np.float32)


def _iris_colour(skin: Skin) -> Field:
    pale = np.array([0.12, 0.20, 0.30]) + skin.iris_green * np.array([0.03, 0.06, -0.14])
    colour = pale + skin.iris_brown * (np.array([0.06, 0.026, 0.012]) - pale)
    return np.asarray(colour, np.float32)
