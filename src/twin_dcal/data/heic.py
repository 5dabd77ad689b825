"""HEIC pictures, decoded in a process of their own with a deadline.

A HEIC file may place pictures in pictures, thousands of times; nothing in it that can be told beforehand bounds the
time. So its process gets so much CPU time and no more. To start one costs 0.3 s a picture.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO

import numpy as np

from twin_dcal.errors import CostlyImageError, ImageError

from .formats import MAX_PIXELS

CPU_SECONDS = 10
"""For 100 megapixels, which take 3 s where this was written; less where fewer are allowed."""
_WALL_SECONDS = 60.0  # where CPU time cannot be limited, and for a process that sleeps
_REFUSED = 3
_OUT_OF_TIME = -int(getattr(signal, "SIGXCPU", 0))
_CHILD = "from twin_dcal.data.heic import decode_in_child; decode_in_child()"


def decode_heic(data: bytes, name: object, max_pixels: int) -> np.ndarray:
    """A HEIC picture as upright 8-bit RGB; libheif turns it upright itself.

    Returns: uint8 (H, W, 3). ImageError if it is damaged, has over `max_pixels` pixels or takes longer than it may,
    and where pillow-heif is not installed.
    """
    if find_spec("pillow_heif") is None:
        raise ImageError(f"{name}: a HEIC file. Reading it needs pip install 'twin-dcal[heic]'.")
    seconds = math.ceil(CPU_SECONDS * max_pixels / MAX_PIXELS)
    command = [sys.executable, "-P", "-c", _CHILD, str(max_pixels), str(seconds)]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    late = f"{name}: would take too long to decode (more than {seconds} s). Save it anew as an ordinary JPEG or PNG."
    try:
        ended = subprocess.run(command, input=data, capture_output=True, env=where, timeout=_WALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise CostlyImageError(late) from None
    except OSError as error:
        raise ImageError(f"{name}: no process to decode it in ({error})") from None
    if ended.returncode == _REFUSED:
        raise ImageError(f"{name}: {ended.stderr.decode(errors='replace').strip()}")
    if ended.returncode and ended.returncode == _OUT_OF_TIME:
        raise CostlyImageError(late)
    if ended.returncode:
        raise ImageError(
            f"{name}: truncated or damaged (its decoder ended with {ended.returncode}). Restore the file."
        )
    height, width = np.frombuffer(ended.stdout, "<u4", 2)
    return np.frombuffer(ended.stdout, np.uint8, offset=8).reshape(height, width, 3).copy()


def decode_in_child() -> None:
    """Of the child: a picture from stdin, its most pixels and CPU seconds as arguments; size and pixels to stdout."""
    max_pixels, seconds = int(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows
        resource = import_module("resource")
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    from .decode import to_rgb

    data = sys.stdin.buffer.read()
    try:
        file = import_module("pillow_heif").open_heif(BytesIO(data), convert_hdr_to_8bit=True)
        width, height = file.size
        if width * height > max_pixels:
            _refuse(f"{width}x{height} is more than {max_pixels:,} pixels. Scale it down first.")
        pixels = np.asarray(to_rgb(file.to_pillow(), "picture"))
    except Exception as error:
        _refuse(
            f"truncated or damaged ({' '.join(str(error).split()) or type(error).__name__}). Restore the file."
        )
    sys.stdout.buffer.write(np.array(pixels.shape[:2], "<u4").tobytes())
    sys.stdout.buffer.write(pixels.data)


def _refuse(reason: str) -> None:
    sys.stderr.write(reason)
    sys.exit(_REFUSED)
