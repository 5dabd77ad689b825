"""Small pictures that are part of the page; blurred ones cannot be sharpened again."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageFilter

from twin_dcal.data.decode import decode_pixels
from twin_dcal.errors import ImageError

SIZE = 160
"""Pixels of the longer side."""
BLOCKS = 8
"""A blurred image keeps this many values along its longer side; nothing finer is in the file."""
_QUALITY = 80


def thumbnail(path: Path, *, blur: bool = False) -> str | None:
    """An image file as a `data:` address of a JPEG, at most `SIZE` pixels wide and high; None if unreadable.

    With `blur` the pixels are first averaged over `BLOCKS` blocks. Metadata of the file is left behind.
    """
    try:
        if not path.is_file():
            return None
        image = Image.fromarray(decode_pixels(path.read_bytes(), path))
    except (OSError, ValueError, ImageError):
        return None
    size = _fitted(image.size, SIZE)
    if blur:
        small = image.resize(_fitted(image.size, BLOCKS), Image.Resampling.BOX)
        block = max(size) / BLOCKS
        image = small.resize(size, Image.Resampling.NEAREST).filter(ImageFilter.GaussianBlur(block / 2))
    else:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return as_address(image)


def as_address(image: Image.Image) -> str:
    """A picture as a `data:` address of a JPEG."""
    data = BytesIO()
    image.save(data, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(longest / max(size), 1.0)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
