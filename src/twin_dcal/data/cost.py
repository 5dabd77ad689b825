"""Files that would take long to decode are told from their structure, before they are decoded.

A limit on pixels does not bound time: passes over the same pixels, thousands of small parts, and what Pillow decodes in
Python can each cost minutes for a few hundred kilobytes. For every format that is read, what the checks here let pass
costs a bounded time for each pixel and each byte (docs/data.md; `benchmarks/hostile_images.py` measures it). They read
headers only, which takes some ten microseconds of an ordinary photo.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from twin_dcal.errors import CostlyImageError

from .cost_jpeg import jpeg_problem
from .cost_tags import tags_problem
from .cost_tiff import tiff_problem
from .formats import image_format

SLOW_PIXELS = 2_000_000
"""Samples of the kinds that Pillow decodes in Python, at half a microsecond each: BMP with run lengths, PGM and PPM as
text or with a maximum of their own."""

_PNM_GAP = rb"(?:\s|#[^\r\n]{0,1000}[\r\n])+"
_PNM_NUMBER = rb"(\d{1,9})(?=\s)"  # a comment within a number belongs to it, for Pillow
_PNM_HEADER = re.compile(
    rb"P([1-6])" + 2 * (_PNM_GAP + _PNM_NUMBER) + rb"(?:" + _PNM_GAP + _PNM_NUMBER + rb")?"
)
_PNM_HEADER_BYTES = 4096
_PNM_COMMENTS = 100
_PNG_UNPACKED = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_PNG_MAX_UNPACKED = 100
"""Pillow unpacks up to a megabyte of each."""
_PNG_MAX_OTHERS = 2000
_MAX_EXIF_TEXT = 1 << 17  # twice what a JPEG segment holds


def refuse_costly(data: bytes, name: object, max_pixels: int) -> None:
    """CostlyImageError, in one line, for a file that could keep its decoder for long.

    Files that are no image, damaged or of more than `max_pixels` pixels may pass; the decoder refuses those at once.
    """
    look = _LOOK.get(image_format(data) or "")
    problem = look(data, max_pixels) if look else None
    if problem:
        raise CostlyImageError(
            f"{name}: would take too long to decode ({problem}). Save it anew as an ordinary JPEG or PNG."
        )


def refuse_costly_tags(info: Mapping[Any, object], name: object) -> None:
    """The same for EXIF data of an opened picture, among Pillow's `info` of it."""
    exif, as_text = info.get("exif"), info.get("Raw profile type exif")
    problem = tags_problem(exif) if isinstance(exif, bytes) else None
    if isinstance(as_text, str) and len(as_text) > _MAX_EXIF_TEXT:
        problem = "a long text"
    if problem:
        raise CostlyImageError(
            f"{name}: its EXIF data would take too long to read ({problem}). Save it anew without."
        )


def _png_problem(data: bytes, max_pixels: int) -> str | None:
    """Pillow takes each chunk apart in Python, and unpacks some."""
    at, chunks, others, unpacked = 8, 0, 0, 0
    most = 4096 + len(data) // 1024
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        chunks += 1
        others += kind not in (b"IDAT", b"fdAT", b"fcTL")
        unpacked += kind in _PNG_UNPACKED
        if chunks > most or others > _PNG_MAX_OTHERS or unpacked > _PNG_MAX_UNPACKED:
            return "too many chunks"
        if kind == b"IEND":
            break
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return None


def _bmp_problem(data: bytes, max_pixels: int) -> str | None:
    if int.from_bytes(data[14:18], "little") < 40 or int.from_bytes(data[30:34], "little") not in (1, 2):
        return None
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    if abs(width * height) > SLOW_PIXELS:
        return f"run lengths over more than {SLOW_PIXELS:,} pixels"
    return None


def _pnm_problem(data: bytes, max_pixels: int) -> str | None:
    header = _PNM_HEADER.match(data, 0, _PNM_HEADER_BYTES)
    if header is None:
        return f"no size in its first {_PNM_HEADER_BYTES:,} bytes" if len(data) > _PNM_HEADER_BYTES else None
    kind, width, height, most = (int(value or 0) for value in header.groups())
    is_text = kind <= 3
    if not is_text and (kind == 4 or most == 255 or (kind == 5 and most == 65535)):
        return None
    samples = width * height * (3 if kind in (3, 6) else 1)
    if samples > SLOW_PIXELS:
        return f"more than {SLOW_PIXELS:,} values {'as text' if is_text else f'up to {most}'}"
    if is_text and data.count(b"#") > _PNM_COMMENTS:
        return f"more than {_PNM_COMMENTS} comments"
    return None


_LOOK: Mapping[str, Callable[[bytes, int], str | None]] = {
    "jpeg": jpeg_problem, "png": _png_problem, "bmp": _bmp_problem, "pnm": _pnm_problem, "tiff": tiff_problem,
}  # fmt: skip
"""WebP is not among them: libwebp decodes one picture, once, in a time that its pixels bound."""
