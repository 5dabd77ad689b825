"""Any picture to the network's square, the one way for evaluation, use and export. No torch here."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def fit(pixels_HWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The central square, resized with an antialiased bilinear filter (Pillow's); the picture itself at that size.

    Args: pixels (H, W, 3) uint8. Returns: uint8 (size, size, 3).
    """
    height, width = pixels_HWC.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels_HWC[top : top + short, left : left + short]
    if short == size:
        return square
    image = Image.fromarray(np.ascontiguousarray(square))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
