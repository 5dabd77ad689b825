"""Any picture to the network's input, the one way for evaluation, use and export. No torch here."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ImageSize = int | tuple[int, int]
"""Pixels of a network's input: a square's side, or rows and columns."""


def sides(size: ImageSize) -> tuple[int, int]:
    """Rows and columns."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def fit(pixels_HWC: NDArray[np.uint8], size: ImageSize) -> NDArray[np.uint8]:
    """The largest central part of the input's shape, resized with an antialiased bilinear filter (Pillow's).

    A picture of that size stays as it is. Args: pixels (H, W, 3) uint8. Returns: uint8 (rows, columns, 3).
    """
    rows, columns = sides(size)
    height, width = pixels_HWC.shape[:2]
    # Cut off what is too much on one axis; the other is kept whole.
    kept = (
        min(height, max(1, round(width * rows / columns))),
        min(width, max(1, round(height * columns / rows))),
    )
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    part = pixels_HWC[top : top + kept[0], left : left + kept[1]]
    if kept == (rows, columns):
        return part
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
