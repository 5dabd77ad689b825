"""What libtiff finds wrong in a file. Left alone it prints that on stderr, and Pillow often goes on with what came out.

Its functions are found in Pillow's own library, which is linked to it, and called by ctypes.
"""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_OF_TAGS = ("Directory", "Tag", "SetField", "TIFFSetDir")
"""In the names of functions that read descriptions: odd ones spoil no pixels, and what is needed of them is checked."""
_LINES: list[str] = []


@contextmanager
def heard() -> Iterator[list[str]]:
    """Names of libtiff's functions that found the pixels' data damaged while the block runs, and silence meanwhile.

    Of one thread at a time. Empty where Pillow's libtiff cannot be reached.
    """
    _listener()
    _LINES.clear()
    pillow = logging.getLogger("PIL")
    level = pillow.level
    pillow.setLevel(logging.CRITICAL)  # it logs some damage, and raises too
    try:
        yield _LINES
    finally:
        pillow.setLevel(level)


@cache
def _listener() -> Any:
    """Takes the place of libtiff's printing, for as long as the process runs."""

    def note(function: bytes | None, text: bytes | None, values: int | None) -> None:
        name = (function or b"").decode(errors="replace")
        if not any(part in name for part in _OF_TAGS):
            _LINES.append(name)

    handler = _Handler(note)
    try:
        ctypes.CDLL(str(import_module("PIL._imaging").__file__)).TIFFSetErrorHandler(handler)
    except (AttributeError, OSError):  # a Pillow that is built otherwise
        return None
    return handler  # kept: libtiff calls it
