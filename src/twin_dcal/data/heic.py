"""HEIC pictures, decoded in a process of their own with a deadline.

A HEIC file may place pictures in pictures, thousands of times; nothing in it that can be told beforehand bounds the
time. So its process gets so much CPU time and no more. To start one costs 0.3 s a picture.
"""

import math
import sys
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO

import numpy as np

from twin_dcal.errors import ImageError

from .apart import decode_apart, limit_cpu, refuse
from .formats import MAX_PIXELS

CPU_SECONDS = 10
"""For 100 megapixels, which take 3 s where this was written; less where fewer are allowed."""
_WALL_SECONDS = 60.0  # where CPU time cannot be limited, and for a process that sleeps
_CHILD = "from twin_dcal.data.heic import decode_in_child; decode_in_child()"


def decode_heic(data: bytes, name: object, max_pixels: int) -> np.ndarray:
    """A HEIC picture as upright 8-bit RGB; libheif turns it upright itself.

    Returns: uint8 (H, W, 3). ImageError if it is damaged, has over `max_pixels` pixels or takes longer than it may,
    and where pillow-heif is not installed.
    """
    if find_spec("pillow_heif") is None:
        raise ImageError(f"{name}: a HEIC file. Reading it needs pip install 'twin-dcal[heic]'.")
    seconds = math.ceil(CPU_SECONDS * max_pixels / MAX_PIXELS)
    decoded = decode_apart(
        _CHILD, [max_pixels], name, cpu_seconds=seconds, wall_seconds=_WALL_SECONDS,
        advice="Save it anew as an ordinary JPEG or PNG.", data=data,
    )  # fmt: skip
    height, width = np.frombuffer(decoded, "<u4", 2)
    return np.frombuffer(decoded, np.uint8, offset=8).reshape(height, width, 3).copy()


def decode_in_child() -> None:
    """Of the child: a picture from stdin, its most pixels as the second argument; size and pixels to stdout."""
    limit_cpu()
    max_pixels = int(sys.argv[2])
    from .decode import to_rgb

    data = sys.stdin.buffer.read()
    try:
        file = import_module("pillow_heif").open_heif(BytesIO(data), convert_hdr_to_8bit=True)
        width, height = file.size
        if width * height > max_pixels:
            refuse(f"{width}x{height} is more than {max_pixels:,} pixels. Scale it down first.")
        pixels = np.asarray(to_rgb(file.to_pillow(), "picture"))
    except Exception as error:
        refuse(
            f"truncated or damaged ({' '.join(str(error).split()) or type(error).__name__}). Restore the file."
        )
    sys.stdout.buffer.write(np.array(pixels.shape[:2], "<u4").tobytes())
    sys.stdout.buffer.write(pixels.data)
