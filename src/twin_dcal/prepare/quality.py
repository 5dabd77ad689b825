"""How good a face's picture is, in measured numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .detector import Face
from .geometry import Matrix, invert, roll_of, transform

_SIDE = 112  # pixels at which sharpness is measured, whatever the crop's size
_INNER = (slice(34, 95), slice(28, 84))  # rows and columns of brows to chin, cheek to cheek

WEIGHED = ("score", "turn", "sharpness")
"""The measures of `Quality` that `weight_of` takes."""
_DOUBTED, _SURE, _SHARP = 0.85, 0.95, 0.45


@dataclass(frozen=True)
class Quality:
    """What was measured of one face.

    eyes_px: distance of the eyes in the photo's pixels. score: the detector's, in [0, 1].
    sharpness: deviation of the Laplacian over that of brightness, of the inner face in a crop of 112 px; falls with
        blur and with too few pixels, but not with contrast.
    brightness: mean of the inner face, in [0, 1]. clipped: share of its pixels that are black or white.
    turn: how far the nose is off the middle of the eyes, in eye distances, positive to the viewer's right: 0 from the
        front, about 0.5 where the far eye disappears. nod: where the nose is between eyes (0) and mouth (1).
    roll_deg: by how much the head was tilted in the photo, counter-clockwise. outside: share of the crop beyond the
        photo's edges.
    """

    eyes_px: float
    score: float
    sharpness: float
    brightness: float
    clipped: float
    turn: float
    nod: float
    roll_deg: float
    outside: float

    def rounded(self) -> dict[str, float]:
        """Plain values with 4 decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def weight_of(quality: Mapping[str, float]) -> float:
    """How much a photograph counts beside others of the same person, in (0, 1], from what `Quality` measured.

    Less where the detector doubts the face, where the head is turned away, and where the picture is blurred: what went
    with a lower similarity to other photographs of the person on validation (docs/people.md).
    """
    found = np.clip((quality["score"] - _DOUBTED) / (_SURE - _DOUBTED), 0.1, 1)
    facing = 1 - min(abs(quality["turn"]), 0.5)
    sharp = np.clip(quality["sharpness"] / _SHARP, 0.2, 1)
    return float(found * facing * sharp)


def measure(crop_SSC: NDArray[np.uint8], face: Face, matrix: Matrix, shape: tuple[int, ...]) -> Quality:
    """Quality of a face.

    Args: crop: (S, S, 3) as aligned. face: in the photo's pixels. matrix: from the photo to a crop of side 1. shape: of
    the photo, (H, W, ...).
    """
    grey = np.asarray(
        Image.fromarray(crop_SSC).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), float
    )
    inner = grey[_INNER]
    left, right, nose, mouth_left, mouth_right = transform(matrix, face.landmarks)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    between = max(float(np.linalg.norm(right - left)), 1e-6)
    down = mouth - eyes
    apart = right - left
    across = float((nose - eyes) @ apart) / between**2
    return Quality(
        eyes_px=float(np.linalg.norm(face.landmarks[1] - face.landmarks[0])),
        score=face.score,
        sharpness=_sharpness(grey),
        brightness=float(inner.mean()) / 255,
        clipped=float(((inner <= 3) | (inner >= 252)).mean()),
        turn=across,
        nod=float((nose - eyes) @ down / max(float(down @ down), 1e-9)),
        roll_deg=-roll_of(matrix),
        outside=_outside(matrix, shape),
    )


def _sharpness(grey: NDArray[np.float64]) -> float:
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = (around - 4 * grey[1:-1, 1:-1])[_INNER]
    return float(laplacian.std() / max(float(grey[_INNER].std()), 1.0))


def _outside(matrix: Matrix, shape: tuple[int, ...]) -> float:
    """Share of a grid of points in the crop that lie beyond the photo."""
    steps = (np.arange(32) + 0.5) / 32
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    where = transform(invert(matrix), grid)
    inside = (where >= 0).all(axis=1) & (where <= [shape[1], shape[0]]).all(axis=1)
    return float(1 - inside.mean())
