"""Any picture to the network's input, the one way for evaluation, use and export. No torch here."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.image_size import ImageSize


def sides(size: ImageSize) -> tuple[int, int]:
    """Rows and columns."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def scaled(size: ImageSize, longer: int) -> tuple[int, int]:
    """Rows and columns of the same shape whose longer side has so many pixels."""
    rows, columns = sides(size)
    most = max(rows, columns)
    return max(1, round(longer * rows / most)), max(1, round(longer * columns / most))


def in_words(size: ImageSize) -> str:
    """Rows and columns for people to read."""
    rows, columns = sides(size)
    return f"{rows} x {columns}"


def central(shape: tuple[int, ...], size: ImageSize) -> tuple[slice, slice]:
    """Rows and columns of the largest central part of a picture (H, W, ...) that has the input's shape."""
    rows, columns = sides(size)
    height, width = shape[:2]
    # Cut off what is too much on one axis; the other is kept whole.
    kept = (
        min(height, max(1, round(width * rows / columns))),
        min(width, max(1, round(height * columns / rows))),
    )
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    return slice(top, top + kept[0]), slice(left, left + kept[1])


def fit(pixels_HWC: NDArray[np.uint8], size: ImageSize) -> NDArray[np.uint8]:
    """The largest central part of the input's shape, resized with an antialiased bilinear filter (Pillow's).

    A picture of that size stays as it is. Args: pixels (H, W, 3) uint8. Returns: uint8 (rows, columns, 3).
    """
    rows, columns = sides(size)
    part = pixels_HWC[central(pixels_HWC.shape, size)]
    if part.shape[:2] == (rows, columns):
        return part
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
