"""Where two edited people differ, in any photograph of either: the photograph is edited both ways and compared.

Like the difference maps of SynTwins: the largest difference of the colour channels, 0 where the two agree.
"""

import numpy as np
from numpy.typing import NDArray

from .face import Camera

Pixels = NDArray[np.uint8]

_OUTLINE = 1.12, 1.42, 0.42
"""Half width, half height and v of the middle of the face, from chin to hairline."""


def difference_map(one_HW3: Pixels, other_HW3: Pixels) -> Pixels:
    """(H, W) uint8 of two versions of one picture."""
    return np.asarray(np.abs(one_HW3.astype(np.int16) - other_HW3.astype(np.int16)).max(axis=-1), np.uint8)


def face_area(camera: Camera, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) 1 within the outline of a mean face, 0 outside; hair and glasses in front are not left out."""
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    u, v = np.moveaxis(camera.locate(np.stack([columns, rows], axis=-1)), -1, 0)
    wide, high, middle = _OUTLINE
    return np.asarray((u / wide) ** 2 + ((v - middle) / high) ** 2 < 1, np.float32)
