"""A second recipe, independent of the first: thin-plate splines through points of the face, and changes of colour.

The first recipe moves traits by bumps in face coordinates of a head in space. This one knows no head: five landmarks
give an affine map of the picture, every point of a mean face moves on its own, and a spline carries what lies between
(Bookstein, IEEE TPAMI 11, 1989). Instead of a few moles it changes lips, irises, brows, cheeks, folds and freckles.
What is learnt from one recipe alone fails on the other.

Shapes: a picture is (H, W, 3) uint8 RGB; C control points, R fixed points around the face. Needs OpenCV when called.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .face import LANDMARKS, Camera
from .identity import key_of
from .skin import Skin, skin_of

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

_KEY = 18  # first entry of the keys of this module's generators
_MOST = 2.2  # standard deviations at which a change is cut off
_SPREAD = 0.020  # eye distances that a point moves, at strength 1
_SHARED = 0.85  # share of that which both sides of the face have in common, in standard deviations
_BUMP = 0.3  # standard deviation, in eye distances, of how far a landmark bends the map around it
_GRID = 8  # pixels between the points at which the spline is computed
_STIFF = 1e-3  # how little the spline bends to reach a point

_MIDDLE = ((0.0, 0.05), (0.0, 0.30), (0.0, 0.60), (0.0, 0.76), (0.0, 0.95), (0.0, 1.20), (0.0, 1.65))
_SIDE = (
    (0.76, 0.0), (0.24, 0.02), (0.5, -0.10), (0.5, 0.10), (0.22, -0.27), (0.5, -0.36), (0.85, -0.24), (0.24, 0.62),
    (0.43, 1.06), (0.40, 1.55), (0.85, 1.10), (1.0, 0.45), (0.62, 0.60),
)  # fmt: skip
_RING = [(1.55 * np.cos(angle), 0.45 + 1.9 * np.sin(angle)) for angle in np.arange(16) * np.pi / 8]
_POINTS: Array = np.array([*_MIDDLE, *_SIDE, *((-u, v) for u, v in _SIDE)])

_COLOURS = {"lips": 0.07, "brows": 0.22, "cheeks": 0.035, "irises": 0.16, "folds": 0.05}
"""Standard deviations of changes of colour at strength 1."""


@dataclass(frozen=True)
class SplineEdit:
    """What makes a person.

    moves: (C, 2) eye distances. colours: lips more or less red, brows more or less dense, cheeks more or less red,
    irises lighter or darker in red, green and blue, folds beside the mouth deeper. freckles: u, v, radius and darkening
    of each.
    """

    moves: tuple[tuple[float, float], ...]
    colours: dict[str, tuple[float, ...]]
    freckles: tuple[tuple[float, float, float, float], ...]

    def scaled(self, strength: float) -> "SplineEdit":
        return replace(
            self,
            moves=tuple((x * strength, y * strength) for x, y in self.moves),
            colours={
                name: tuple(value * strength for value in values) for name, values in self.colours.items()
            },
            freckles=tuple(
                (u, v, radius, min(dark * strength, 0.6)) for u, v, radius, dark in self.freckles if strength
            ),
        )

    def described(self) -> dict[str, Any]:
        """Moves by the mean face's points."""
        return {
            "points": _POINTS.round(3).tolist(),
            "moves": np.round(self.moves, 5).tolist(),
            "colours": {name: [round(value, 5) for value in values] for name, values in self.colours.items()},
            "freckles": np.round(self.freckles, 5).tolist() if self.freckles else [],
        }


def draw_splines(seed: int, person: str, half: int, *more: int) -> SplineEdit:
    """The edit of one self of a person; the same key draws the same edit."""
    rng = np.random.default_rng((_KEY, seed, key_of(person), half, *more))
    count = len(_SIDE)
    own = _drawn(rng, (len(_POINTS), 2)) * np.sqrt(1 - _SHARED**2)
    both = _drawn(rng, (count, 2)) * _SHARED
    middle = _drawn(rng, (len(_MIDDLE), 2)) * [0.3, _SHARED]
    moves = own + np.concatenate([middle, both, both * [-1, 1]])
    colours = {
        name: tuple(_drawn(rng, (3 if name == "irises" else 1,)) * spread)
        for name, spread in _COLOURS.items()
    }
    spots = int(rng.integers(0, 15))
    freckles = np.column_stack([
        rng.uniform(-0.75, 0.75, spots), rng.uniform(0.28, 0.85, spots), rng.uniform(0.008, 0.016, spots),
        rng.uniform(0.06, 0.24, spots),
    ])  # fmt: skip
    return SplineEdit(
        tuple((float(x), float(y)) for x, y in moves * _SPREAD),
        {name: tuple(float(value) for value in values) for name, values in colours.items()},
        tuple((float(u), float(v), float(radius), float(dark)) for u, v, radius, dark in freckles),
    )


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.clip(rng.standard_normal(shape), -_MOST, _MOST)


def apply_splines(pixels_HW3: Pixels, camera: Camera, edit: SplineEdit) -> Pixels:
    """The photograph with a face edited; colours first, then every pixel is moved once, as in the first recipe.

    Of the camera only landmarks count, and where skin was sampled.
    """
    cv2: Any = import_module("cv2")
    frame = Frame.of(camera.landmarks)
    painted = _coloured(pixels_HW3, frame, edit, skin_of(pixels_HW3, camera))
    height, width = painted.shape[:2]
    moved = spline_field(frame, edit, height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(
        cv2.remap(painted, columns - moved[..., 0], rows - moved[..., 1], cv2.INTER_LANCZOS4,
                  borderMode=cv2.BORDER_REFLECT_101),
        np.uint8,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """How the mean face lies in one picture: an affine map, bent so that the landmarks are met."""

    turn: Array
    shift: Array
    bend: Array
    """(5, 2) of a bump at each landmark, so that together they make up for what the affine map misses."""

    @classmethod
    def of(cls, landmarks_52: Array) -> "Frame":
        design = np.column_stack([LANDMARKS, np.ones(5)])
        found = np.linalg.lstsq(design, landmarks_52, rcond=None)[0]
        bend = np.linalg.solve(_bumps(LANDMARKS), landmarks_52 - design @ found)
        return cls(np.array(found[:2].T), np.array(found[2]), bend)

    def place(self, points_G2: Array) -> Array:
        """Pixels of points of the mean face."""
        return np.asarray(points_G2 @ self.turn.T + self.shift + _bumps(points_G2) @ self.bend)

    @property
    def unit(self) -> float:
        """Pixels of an eye distance, by area."""
        return float(np.sqrt(abs(np.linalg.det(self.turn))))


def _bumps(points_G2: Array) -> Array:
    """(…, 5) of a point, how near it is to each landmark of the mean face, 0 to 1."""
    away = ((points_G2[..., None, :] - LANDMARKS) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-away / (2 * _BUMP**2)))


def spline_field(frame: Frame, edit: SplineEdit, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 2) by how many pixels what is seen at each pixel was moved to the right, and down; 0 around the face."""
    cv2: Any = import_module("cv2")
    ring = _within(frame.place(np.array(_RING)), height, width)
    fixed = np.concatenate([ring, _border(height, width)])
    points = np.concatenate([frame.place(_POINTS), fixed]) / frame.unit
    moves = np.concatenate([np.array(edit.moves) @ frame.turn.T, np.zeros_like(fixed)])
    across, down = (np.linspace(0, side, -(-side // _GRID) + 1) for side in (width, height))
    grid = np.stack(np.meshgrid(across, down), axis=-1) / frame.unit
    coarse = _spline(points, moves, grid.reshape(-1, 2)).reshape(*grid.shape).astype(np.float32)
    columns = (np.arange(width, dtype=np.float32) + 0.5) * ((len(across) - 1) / width)
    rows = (np.arange(height, dtype=np.float32) + 0.5) * ((len(down) - 1) / height)
    maps = np.broadcast_to(columns, (height, width)), np.broadcast_to(rows[:, None], (height, width))
    fine = cv2.remap(coarse, *(np.ascontiguousarray(each) for each in maps), cv2.INTER_CUBIC,
                     borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    return np.asarray(fine)


def _within(points: Array, height: int, width: int) -> Array:
    """Points beyond the picture brought to its border, where pixels may not move either."""
    return np.clip(points, 0, [width, height])


def _border(height: int, width: int) -> Array:
    share = np.linspace(0, 1, 9)
    sides = [(share, 0 * share), (share, 0 * share + 1), (0 * share, share), (0 * share + 1, share)]
    return np.concatenate([np.column_stack(side) for side in sides]) * [width, height]


def _spline(points_C2: Array, values_C2: Array, at_G2: Array) -> Array:
    """A thin-plate spline through values at points, read elsewhere."""
    count = len(points_C2)
    flat = np.column_stack([np.ones(count), points_C2])
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bending(points_C2, points_C2) + _STIFF * np.eye(count)
    system[:count, count:], system[count:, :count] = flat, flat.T
    weights = np.linalg.solve(system, np.concatenate([values_C2, np.zeros((3, 2))]))
    return np.asarray(
        _bending(at_G2, points_C2) @ weights[:count]
        + np.column_stack([np.ones(len(at_G2)), at_G2]) @ weights[count:]
    )


def _bending(one: Array, other: Array) -> Array:
    squared = ((one[:, None] - other[None]) ** 2).sum(axis=-1)
    return np.asarray(squared * np.log(np.maximum(squared, 1e-12)) / 2)


def _coloured(pixels: Pixels, frame: Frame, edit: SplineEdit, skin: Skin) -> Pixels:
    """Colours changed part by part; nothing but these parts is touched."""
    painted = pixels.copy()
    lips, brows, cheeks, folds = (edit.colours[name][0] for name in ("lips", "brows", "cheeks", "folds"))
    irises = np.array(edit.colours["irises"])
    for part, gain in _gains(lips, cheeks, irises):
        _multiply(painted, frame, part, gain, None if part.kind != "cheek" else skin)
    for u in (-0.52, 0.52):
        _thicken(painted, frame, Part("brow", (u, -0.33), (0.36, 0.11)), brows)
        for at in np.linspace(0, 1, 7):  # a line from the nose to the corner of the mouth
            spot = Part("fold", (float(np.sign(u)) * (0.30 + 0.2 * at), 0.66 + 0.42 * at), (0.045, 0.07))
            _multiply(painted, frame, spot, np.exp(-np.abs(folds) * np.array([0.5, 0.6, 0.6])), skin)
    for u, v, radius, dark in edit.freckles:
        _multiply(
            painted, frame, Part("freckle", (u, v), (radius, radius)), 1 - dark * np.array([0.7, 1, 1]), skin
        )
    return painted


@dataclass(frozen=True)
class Part:
    """A soft ellipse of the face: its middle and half axes, (u, v)."""

    kind: str
    middle: tuple[float, float]
    size: tuple[float, float]


def _gains(lips: float, cheeks: float, irises: Array) -> Iterator[tuple[Part, Array]]:
    yield Part("lips", (0.0, 1.06), (0.40, 0.15)), np.exp(lips * np.array([0.5, -1.0, -0.8]))
    for u in (-0.56, 0.56):
        yield Part("cheek", (u, 0.56), (0.26, 0.22)), np.exp(cheeks * np.array([0.6, -1.0, -1.0]))
    for u in (-0.5, 0.5):
        yield Part("iris", (u, 0.0), (0.085, 0.085)), np.exp(irises)


def _window(shape: tuple[int, ...], frame: Frame, part: Part) -> tuple[tuple[slice, slice], Array] | None:
    """Rows and columns around a part, and how much of each pixel it covers, 0 to 1; None outside the picture."""
    height, width = shape[:2]
    middle = frame.place(np.array(part.middle))
    reach = np.abs(frame.turn) @ (np.array(part.size) * 1.6) + 2
    left, top = np.maximum(np.floor(middle - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + reach), [width, height]).astype(int)
    if left >= right or top >= bottom:
        return None
    rows, columns = np.mgrid[top:bottom, left:right] + 0.5
    around = (np.stack([columns, rows], axis=-1) - middle) @ np.linalg.inv(frame.turn).T
    distance = np.hypot(around[..., 0] / part.size[0], around[..., 1] / part.size[1])
    soft = np.maximum(0.15, 0.4 / (min(part.size) * frame.unit))
    return (slice(top, bottom), slice(left, right)), 1 / (1 + np.exp((distance - 1) / soft))


def _multiply(painted: Pixels, frame: Frame, part: Part, gain_3: Array, skin: Skin | None) -> None:
    """Multiply the colours of a part, in place; with `skin`, only where the picture shows skin.

    Without it (lips, irises) bright pixels are spared: teeth and the white of the eye.
    """
    window = _window(painted.shape, frame, part)
    if window is None:
        return
    where, cover = window
    patch = painted[where].astype(np.float64)
    if skin is not None:
        cover = cover * skin.likelihood(painted[where])
    else:
        grey = patch.mean(axis=-1)
        usual = np.average(grey, weights=cover)
        cover = cover / (1 + np.exp((grey - 1.25 * usual) / (0.08 * usual + 1)))
    painted[where] = np.clip(np.round(patch * (1 + cover[..., None] * (gain_3 - 1))), 0, 255).astype(np.uint8)


def _thicken(painted: Pixels, frame: Frame, part: Part, change: float) -> None:
    """Raise or lower the contrast of what is darker than its surroundings, in place."""
    cv2: Any = import_module("cv2")
    window = _window(painted.shape, frame, part)
    if window is None:
        return
    where, cover = window
    patch = painted[where].astype(np.float32)
    around = cv2.GaussianBlur(patch, (0, 0), 0.14 * frame.unit, borderType=cv2.BORDER_REPLICATE)
    darker = np.minimum(patch - around, 0) * (change * cover[..., None])
    painted[where] = np.clip(np.round(patch + darker), 0, 255).astype(np.uint8)
