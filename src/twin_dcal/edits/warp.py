"""An edit applied to a photograph: marks painted where the face lies, then every pixel moved once.

Shapes: a picture is (H, W, 3) uint8 RGB. Needs OpenCV when called.
"""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .face import Camera
from .identity import Bump, Edit, Mark
from .skin import Skin, skin_of

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

_GRID = 4  # pixels between the points at which the field is computed; it is far smoother than that
_EDGE = 0.10  # share of the side next to the border in which movement fades to nothing
_FACING_FULL, _FACING_NONE = (
    0.45,
    0.15,
)  # cosine to the line of sight at which marks begin to fade, and are gone
_BARE_FULL, _BARE_NONE = 0.75, 0.55  # share of skin under a mark, likewise


def apply_edit(pixels_HW3: Pixels, camera: Camera, edit: Edit) -> Pixels:
    """The photograph with a face edited; the picture's border stays where it is.

    Every picture is resampled once, an edit that changes nothing included, so that resampling tells nothing.
    """
    cv2: Any = import_module("cv2")
    painted = paint_marks(pixels_HW3, camera, edit.marks)
    height, width = painted.shape[:2]
    moved_x, moved_y = displacement(camera, edit.bumps, height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    flags = cv2.INTER_LANCZOS4
    return np.asarray(
        cv2.remap(painted, columns - moved_x, rows - moved_y, flags, borderMode=cv2.BORDER_REFLECT_101),
        np.uint8,
    )


def displacement(
    camera: Camera, bumps: tuple[Bump, ...], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) each: by how many pixels what is seen at each pixel was moved to the right, and down."""
    cv2: Any = import_module("cv2")
    across, down = (np.linspace(0, side, -(-side // _GRID) + 1) for side in (width, height))
    grid = np.stack(np.meshgrid(across, down), axis=-1)
    place = camera.locate(grid)
    moved = field(bumps, place) @ camera.turn.T * _fading(grid, height, width)[..., None]
    columns = (np.arange(width, dtype=np.float32) + 0.5) * ((len(across) - 1) / width)
    rows = (np.arange(height, dtype=np.float32) + 0.5) * ((len(down) - 1) / height)
    maps = np.broadcast_to(columns, (height, width)), np.broadcast_to(rows[:, None], (height, width))
    fine = cv2.remap(moved.astype(np.float32), *(np.ascontiguousarray(each) for each in maps), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    return fine[..., 0], fine[..., 1]


def field(bumps: tuple[Bump, ...], place_G2: Array) -> Array:
    """(…, 2) by how much face coordinates move at these places."""
    u, v = place_G2[..., 0], place_G2[..., 1]
    total = np.zeros_like(place_G2)
    for (cu, cv), (wide, high), (su, sv), (uu, uv, vu, vv) in bumps:
        du, dv = u - cu, v - cv
        window = np.exp(-0.5 * ((du / wide) ** 2 + (dv / high) ** 2))
        total[..., 0] += window * (su + uu * du + uv * dv)
        total[..., 1] += window * (sv + vu * du + vv * dv)
    return total


def _fading(grid: Array, height: int, width: int) -> Array:
    """0 at the border of the picture, 1 from a tenth of the side on."""
    size = np.array([width, height])
    near = np.minimum(grid, size - grid).min(axis=-1) / (_EDGE * size.min())
    step = np.clip(near, 0, 1)
    return np.asarray(step * step * (3 - 2 * step))


def paint_marks(pixels_HW3: Pixels, camera: Camera, marks: tuple[Mark, ...]) -> Pixels:
    """Marks as the photograph would show them: foreshortened, fading towards the far side, and on this skin alone."""
    if not marks:
        return pixels_HW3
    skin = skin_of(pixels_HW3, camera)
    painted = pixels_HW3.copy()
    for mark in marks:
        _paint(painted, pixels_HW3, camera, mark, skin)
    return painted


def facing_share(camera: Camera, mark: Mark) -> float:
    """How much of a mark is seen, 0 to 1, by the head's turn."""
    facing = float(camera.facing(np.array([mark.u, mark.v])))
    return float(np.clip((facing - _FACING_NONE) / (_FACING_FULL - _FACING_NONE), 0, 1))


def _paint(painted: Pixels, original: Pixels, camera: Camera, mark: Mark, skin: Skin) -> None:
    """One mark, into `painted`; a mark that would lie across an edge of the skin is left out, not cut off."""
    height, width = original.shape[:2]
    middle = camera.project(np.array([mark.u, mark.v]))
    reach = 3.5 * mark.radius * mark.long * camera.eye_distance + 2
    left, top = np.maximum(np.floor(middle - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + reach), [width, height]).astype(int)
    seen = facing_share(camera, mark)
    if seen == 0 or left >= right or top >= bottom:
        return
    rows, columns = np.mgrid[top:bottom, left:right] + 0.5
    cover = _cover(np.stack([columns, rows], axis=-1) - middle, camera, mark)
    where = slice(top, bottom), slice(left, right)
    bare = float((skin.likelihood(original[where]) * cover).sum() / cover.sum())
    seen *= float(np.clip((bare - _BARE_NONE) / (_BARE_FULL - _BARE_NONE), 0, 1))
    loss = seen * mark.darkening * cover[..., None] * np.array(mark.tint)
    painted[where] = np.clip(np.round(painted[where] * (1 - loss)), 0, 255).astype(np.uint8)


def _cover(around: Array, camera: Camera, mark: Mark) -> Array:
    """How much of each pixel the mark covers, 0 to 1. Args: around: pixels from its middle."""
    u, v = np.moveaxis(around @ np.linalg.inv(_local(camera, mark)).T, -1, 0)
    along, across = (
        u * np.cos(mark.turn) + v * np.sin(mark.turn),
        v * np.cos(mark.turn) - u * np.sin(mark.turn),
    )
    distance = np.hypot(along / mark.long, across) / mark.radius
    # A flat middle and a soft rim, as pigment under skin has; a mark smaller than a pixel spreads over it.
    soft = max(0.35, 0.5 / (mark.radius * camera.eye_distance))
    return np.asarray(1 / (1 + np.exp((distance - 1) / (soft * 0.5))))


def _local(camera: Camera, mark: Mark) -> Array:
    """(2, 2) how face coordinates around a mark turn into pixels."""
    step = 0.02
    ends = np.array([[step, 0], [-step, 0], [0, step], [0, -step]]) + np.array([mark.u, mark.v])
    seen = camera.project(ends)
    matrix = np.column_stack([seen[0] - seen[1], seen[2] - seen[3]]) / (2 * step)
    # At the outline a mark is a line, not a point without area.
    return np.asarray(matrix if abs(np.linalg.det(matrix)) > 0.2 * camera.eye_distance**2 else camera.turn)
