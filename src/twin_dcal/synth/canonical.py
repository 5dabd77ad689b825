"""The face itself, before any photo: a height field and an albedo map over the frontal plane.

Legend: C texels a side, arrays are (C, C) or (C, C, channels), float32, row = y, column = x. Light is linear.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .identity import Geometry, Mark, Person, Skin

Field = NDArray[np.float32]

HALF = 1.75
"""Half the side of the maps, in face units."""
CENTRE_Y = 0.1
CHEEK_Y = 0.2
"""Height of the widest part of the face."""
DEPTH = 0.62
"""From the rim of the face to its middle."""
ALBEDO, NORMAL, OUTLINE, OCCLUSION = slice(0, 3), slice(3, 6), 6, 7
"""Channels of `Maps.layers`."""

_FAIR, _DARK = np.array([0.80, 0.54, 0.42], np.float32), np.array([0.11, 0.052, 0.033], np.float32)
_LOG_MELANIN = np.log(_DARK / _FAIR)
_LOG_BLOOD = np.log(np.array([0.97, 0.80, 0.78], np.float32))
_BLACK_HAIR, _BLOND_HAIR = np.array([0.012, 0.009, 0.008]), np.array([0.48, 0.32, 0.15])


class Maps(NamedTuple):
    """A person's maps: `height` (C, C) in face units; `layers` (C, C, 8): albedo, normal, signed distance to the
    outline (negative inside), and how open to the sky each point is (0 to 1)."""

    height: Field
    layers: Field

    @property
    def size(self) -> int:
        return int(self.height.shape[0])


def grid(size: int) -> tuple[Field, Field]:
    """Face coordinates x, y of every texel, (C, C) each."""
    line = ((np.arange(size) + 0.5) * (2 * HALF / size) - HALF).astype(np.float32)
    x, y = np.meshgrid(line, line + np.float32(CENTRE_Y))
    return x, y


def paint(person: Person, size: int) -> Maps:
    """All maps of a person; `size` texels a side."""
    x, y = grid(size)
    face = person.geometry
    outline = outline_distance(face, x, y)
    height = _height(face, x, y)
    step = 2 * HALF / size
    dz_dy, dz_dx = np.gradient(height, step)
    normal = np.stack([-dz_dx, -dz_dy, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    occlusion = _openness(height, step)
    albedo = _albedo(person, x, y)
    layers = np.concatenate([albedo, normal, outline[..., None], occlusion[..., None]], axis=-1)
    return Maps(height, np.ascontiguousarray(layers, dtype=np.float32))


def outline_distance(face: Geometry, x: Field, y: Field) -> Field:
    """About the distance to the outline of the face, negative inside."""
    level = _outline_level(face, x, y)
    step = 2 * HALF / level.shape[0]
    dy, dx = np.gradient(level, step)
    return np.asarray(level / np.maximum(np.hypot(dx, dy), 0.3), dtype=np.float32)


def _outline_level(face: Geometry, x: Field, y: Field) -> Field:
    """Below 0 inside the outline, 0 on it: superellipses above and below the cheekbones."""
    across = np.abs(x) / face.cheek_width
    below = np.maximum(y - CHEEK_Y, 0) / (face.chin_y - CHEEK_Y)
    above = np.maximum(CHEEK_Y - y, 0) / (CHEEK_Y - face.top_y)
    exponent = np.where(y > CHEEK_Y, 1 / face.chin, 2.4)
    return np.asarray(across**exponent + below**face.jaw + above**2.4 - 1, dtype=np.float32)


def bump(x: Field, y: Field, centre: tuple[float, float], width: tuple[float, float]) -> Field:
    """exp(-(dx² + dy²)) with distances in units of `width`."""
    away = ((x - centre[0]) / width[0]) ** 2 + ((y - centre[1]) / width[1]) ** 2
    return np.asarray(np.exp(-away), dtype=np.float32)


def eye_centres(face: Geometry) -> tuple[tuple[float, float], tuple[float, float]]:
    """The eye at the viewer's left, then the one at the right."""
    return (-face.eye_x, -face.eye_offset / 2), (face.eye_x, face.eye_offset / 2)


def _height(face: Geometry, x: Field, y: Field) -> Field:
    middle = (face.chin_y + face.top_y) / 2
    round_ = (x / (1.08 * face.cheek_width)) ** 2 + ((y - middle) / (0.55 * (face.chin_y - face.top_y))) ** 2
    z = DEPTH * (1 - np.minimum(round_, 1.6))
    for side, (eye_x, eye_y) in zip((-1, 1), eye_centres(face), strict=True):
        z -= 0.10 * bump(x, y, (eye_x - side * 0.04, eye_y - 0.03), (0.27, 0.15))
        z += 0.05 * bump(x, y, (eye_x, eye_y), (0.15, 0.11))
        z += face.brow_ridge * bump(x, y, (eye_x, face.brow_y), (0.35, 0.10))
        z += face.cheek_fullness * bump(x, y, (side * 0.58, 0.38), (0.26, 0.26))
    z += _nose(face, x, y) + _lips(face, x, y)
    z += face.chin_height * bump(x, y, (0, face.chin_y - 0.2), (0.24, 0.18))
    z -= 0.5 * face.fold * _folds(face, x, y)
    return np.asarray(z, dtype=np.float32)


def _nose(face: Geometry, x: Field, y: Field) -> Field:
    """Ridge from between the eyes to the tip, and the wings."""
    along = np.clip((y + 0.10) / (face.nose_y + 0.10), 0, 1)
    below = np.exp(-((np.maximum(y - face.nose_y, 0) / 0.11) ** 2))
    ridge = face.nose_height * (0.22 + 0.78 * along**1.4) * below
    ridge *= np.exp(-((np.maximum(-0.10 - y, 0) / 0.14) ** 2))
    half = face.nose_bridge + (0.60 * face.nose_width - face.nose_bridge) * along**2
    ridge *= np.exp(-(((x - face.nose_offset * along) / half) ** 2))
    wings = [
        bump(x, y, (side * 0.72 * face.nose_width + face.nose_offset, face.nose_y + 0.05), (0.075, 0.085))
        for side in (-1, 1)
    ]
    return np.asarray(ridge + 0.30 * face.nose_height * (wings[0] + wings[1]))


def _lips(face: Geometry, x: Field, y: Field) -> Field:
    middle = face.mouth_offset
    upper = bump(
        x, y, (middle, face.mouth_y - 0.5 * face.upper_lip), (0.8 * face.mouth_width, face.upper_lip)
    )
    lower = bump(
        x, y, (middle, face.mouth_y + 0.55 * face.lower_lip), (0.65 * face.mouth_width, face.lower_lip)
    )
    crease = bump(x, y, (middle, face.mouth_y + 0.24), (0.22, 0.07))
    around = bump(x, y, (middle, face.mouth_y), (0.5, 0.32))
    return np.asarray(0.055 * upper + 0.06 * lower - 0.04 * crease + 0.06 * around)


def _folds(face: Geometry, x: Field, y: Field) -> Field:
    """The lines from the wings of the nose to the corners of the mouth."""
    along = np.clip((y - face.nose_y) / (face.mouth_y - face.nose_y), 0, 1)
    line = 1.15 * face.nose_width + (1.12 * face.mouth_width - 1.0 * face.nose_width) * along
    window = bump(x, y, (0, (face.nose_y + face.mouth_y) / 2 + 0.05), (9, 0.26))
    return np.asarray(np.exp(-(((np.abs(x) - line) / 0.05) ** 2)) * window)


def _openness(height: Field, step: float) -> Field:
    """How much of the light of the sky reaches a point: low where the surroundings are higher."""
    surroundings = box_blur(height, max(1, round(0.10 / step)))
    return np.asarray(np.clip(1 - 4.0 * (surroundings - height), 0.45, 1.1), dtype=np.float32)


def box_blur(field: Field, radius: int) -> Field:
    """Mean over a square window of 2 radius + 1, twice, edges repeated."""
    for _ in range(2):
        for axis in (0, 1):
            padding = [(0, 0)] * field.ndim
            padding[axis] = (radius + 1, radius)
            total = np.cumsum(np.pad(field, padding, mode="edge"), axis=axis, dtype=np.float64)
            length, window = field.shape[axis], 2 * radius + 1
            after = np.take(total, np.arange(window, window + length), axis=axis)
            field = ((after - np.take(total, np.arange(length), axis=axis)) / window).astype(np.float32)
    return field


def _albedo(person: Person, x: Field, y: Field) -> Field:
    face, skin = person.geometry, person.skin
    rng = np.random.default_rng(skin.pigment_key)
    melanin = skin.melanin + 0.05 * _waves(rng, x, y, 10, 3.0) + 0.02 * _waves(rng, x, y, 24, 14.0)
    red = 0.5 * skin.redness + 0.12 * _waves(rng, x, y, 8, 4.0)
    for side, (eye_x, eye_y) in zip((-1, 1), eye_centres(face), strict=True):
        red = red + 0.7 * bump(x, y, (side * 0.58, 0.45), (0.26, 0.22))
        melanin = melanin + 0.14 * bump(x, y, (eye_x, eye_y + 0.12), (0.22, 0.06))
        melanin = melanin + 0.05 * bump(x, y, (eye_x, eye_y - 0.02), (0.26, 0.12))
    red = red + 0.6 * bump(x, y, (face.nose_offset, face.nose_y), (0.16, 0.13))
    melanin = melanin + 2.2 * face.fold * _folds(face, x, y)
    melanin = melanin + 1.2 * _nostrils(face, x, y)
    albedo = skin_colour(melanin, red)
    albedo = _beard(albedo, face, skin, rng, x, y)
    for mark in person.marks:
        albedo = add_mark(albedo, mark, x, y)
    return _brows(albedo, face, skin, x, y)


def skin_colour(melanin: Field, redness: Field) -> Field:
    """(..., 3) linear albedo: pigments multiply, so mix in the logarithm."""
    density = np.clip(melanin, 0, 1.2)[..., None] * _LOG_MELANIN
    density += np.clip(redness, 0, 2)[..., None] * _LOG_BLOOD
    return np.asarray(np.exp(density, out=density) * _FAIR)


def hair_colour(skin: Skin) -> Field:
    """(3,) linear albedo of the hair."""
    colour = np.exp(np.log(_BLOND_HAIR) + skin.hair_melanin**0.7 * np.log(_BLACK_HAIR / _BLOND_HAIR))
    colour = colour * (1 + skin.hair_red * np.array([0.5, -0.15, -0.45]))
    return np.asarray(colour + skin.hair_grey * (0.35 - colour), dtype=np.float32)


def add_mark(albedo: Field, mark: Mark, x: Field, y: Field) -> Field:
    """Darken (or lighten) an ellipse with a soft rim; texels beyond it keep their bits."""
    cos, sin = np.cos(mark.angle), np.sin(mark.angle)
    reach = mark.radius * np.sqrt(mark.stretch) * 1.35
    rows = np.flatnonzero(np.abs(y[:, 0] - mark.y) <= reach)
    columns = np.flatnonzero(np.abs(x[0] - mark.x) <= reach)
    if not (rows.size and columns.size):
        return albedo
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dx, dy = x[window] - mark.x, y[window] - mark.y
    long, short = cos * dx + sin * dy, cos * dy - sin * dx
    distance = np.sqrt(long**2 / mark.stretch + short**2 * mark.stretch) / mark.radius
    inside = np.clip((1.3 - distance) / 0.6, 0, 1)
    inside = inside * inside * (3 - 2 * inside)
    loss = mark.contrast * (np.array([0.85, 1.0, 1.05]) - 0.25 * mark.redness * np.array([1, 0, 0]))
    marked = albedo.copy()
    marked[window] *= (1 - inside[..., None] * np.minimum(loss, 0.95)).astype(np.float32)
    return marked


def _waves(rng: np.random.Generator, x: Field, y: Field, count: int, frequency: float) -> Field:
    """A smooth random field of unit variance: plane waves of about `frequency` radians a unit."""
    kx, ky = rng.normal(0, frequency, (2, count)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    total = np.zeros_like(x)
    for a, b, phase in zip(kx, ky, phases, strict=True):  # a plane wave is an outer product: cheap
        row, column = np.exp(1j * (a * x[0] + phase)), np.exp(1j * b * y[:, 0])
        total += np.outer(column.real, row.real) - np.outer(column.imag, row.imag)
    return np.asarray(total * np.sqrt(2 / count), dtype=np.float32)


def _nostrils(face: Geometry, x: Field, y: Field) -> Field:
    sides = [
        bump(x, y, (side * 0.38 * face.nose_width + face.nose_offset, face.nose_y + 0.115), (0.055, 0.028))
        for side in (-1, 1)
    ]
    base = bump(x, y, (face.nose_offset, face.nose_y + 0.125), (0.8 * face.nose_width, 0.035))
    wings = [
        bump(x, y, (side * 1.05 * face.nose_width + face.nose_offset, face.nose_y + 0.05), (0.03, 0.08))
        for side in (-1, 1)
    ]
    return np.asarray(sides[0] + sides[1] + 0.25 * base + 0.2 * (wings[0] + wings[1]))


def _beard(albedo: Field, face: Geometry, skin: Skin, rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Stubble over jaw, chin and upper lip, in the colour of the hair."""
    grain = rng.normal(1, 0.25, x.shape).astype(np.float32)
    if skin.beard == 0:
        return albedo
    jaw = 1 / (1 + np.exp(-(y - 0.72 - 0.55 * (1 - np.abs(x) / face.cheek_width)) / 0.07))
    lip = bump(x, y, (0, face.mouth_y - 0.17), (0.42, 0.09))
    bare = bump(x, y, (0, face.mouth_y), (1.1 * face.mouth_width, 0.12))
    cover = np.clip(skin.beard * np.maximum(jaw, lip) * (1 - bare) * grain, 0, 0.95)[..., None]
    return np.asarray(albedo + cover * (hair_colour(skin) - albedo), dtype=np.float32)


def _brows(albedo: Field, face: Geometry, skin: Skin, x: Field, y: Field) -> Field:
    colour = np.float32(0.8) * hair_colour(skin)
    rows = np.flatnonzero(np.abs(y[:, 0] - face.brow_y) < 0.3)
    band = slice(rows[0], rows[-1] + 1)
    x, y, painted = x[band], y[band], albedo.copy()
    for side in (-1, 1):
        along = (side * x - face.eye_x + 0.02) / face.brow_length
        centre = face.brow_y + side * face.brow_offset / 2 - face.brow_arch * (1 - (along - 0.25) ** 2) * 0.9
        half = face.brow_thickness * np.sqrt(np.clip(1 - along**2, 0, 1)) * (1 - 0.45 * np.clip(along, -1, 1))
        cover = np.clip((half - np.abs(y - centre)) / 0.03 + 0.5, 0, 1) * (np.abs(along) < 1)
        cover = (skin.brow_darkness * cover)[..., None]
        painted[band] += cover * (colour - painted[band])
    return painted
