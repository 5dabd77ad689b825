"""JPEG pixels from a decoder that tells of damage. No torch here.

libjpeg makes up what a damaged file does not hold, warns, and goes on. Pillow does not pass the warning on, so of a
file cut in half that ends with the end mark the lower half is grey. `simplejpeg` decodes with the same library, to the
same pixels, and does pass it on. Where it is not installed, Pillow decodes alone.
"""

import importlib
import re
from typing import Any

import numpy as np

_DAMAGE = re.compile(r"premature end of data segment|bad Huffman code|found marker 0x\w+ instead of RST")
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x(?:d\w|c4)")  # between or after scans
_PADDING = 4
"""Bytes that some cameras leave after a scan."""


def jpeg_pixels(data: bytes) -> tuple[np.ndarray | None, str | None]:
    """The pixels as RGB (H, W, 3), or None if another decoder is to be asked; and the damage met, in words.

    Warnings about what does not change the picture, and files that this decoder does not read, are left to the other.
    """
    decoder = _decoder()
    if decoder is None:
        return None, None
    try:
        return decoder.decode_jpeg(data, colorspace="RGB", strict=True), None
    except Exception as error:  # ValueError of the library; whatever else it is, the other decoder judges
        return None, _damage(str(error))


def _damage(warning: str) -> str | None:
    left_over = _LEFT_OVER.search(warning)
    if _DAMAGE.search(warning) or (left_over and int(left_over[1]) > _PADDING):
        return warning.strip().removeprefix("Corrupt JPEG data: ")
    return None


def _decoder() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None
