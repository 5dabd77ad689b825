"""How long a JPEG file can keep its decoder, told from its markers.

A progressive file is decoded as often as it has scans, each over the whole picture, however few bytes a scan has: 3,000
scans of 49 megapixels are half a megabyte and take five minutes. Of a baseline file whose first scan holds all colours
only that scan is decoded, so nothing is counted there.
"""

import re
from dataclasses import dataclass

from .cost_tags import tags_problem

PASSES = 18
"""Decodings of the largest picture allowed that a file may cost: the scans of an ordinary progressive file in CMYK; one
in RGB or grey has up to 14."""
_SCAN_PIXELS = 10_000  # what beginning a scan costs, in pixels
_ARITHMETIC = (
    8  # arithmetic coding is that much slower, and a byte of it can stand for thousands of coefficients
)

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_NO_MARKER = (b"", b"\0", b"\xff")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC3, 0xC9, 0xCB})
_ARITHMETIC_FRAMES = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SCAN, _END = 0xDA, 0xD9
# As Pillow reads a header: what has no length there has none here.
_BARE = frozenset({*range(0x01, 0xC0), 0xC8, *range(0xD0, 0xDA), 0xDE, *range(0xF0, 0xFE)})
_PLAIN = frozenset({*range(0xE0, 0xF0), 0xFE}) - {
    0xED
}  # segments that Pillow only keeps; the others it takes apart

_MAX_SEGMENTS = 4096
_MAX_OTHERS = 100
_MAX_JUNK = 1 << 16
_MAX_EXIF = 64


@dataclass(frozen=True)
class _Header:
    """Of the frame: its kind (a marker) and size in pixels; where the first scan begins, and whether it holds all.

    tags: blocks of tags that Pillow reads when it opens the file: EXIF, and the index of further pictures (MPF).
    """

    frame: int
    pixels: int
    scan_at: int
    scan_is_whole: bool
    tags: tuple[bytes, ...]


def jpeg_problem(data: bytes, max_pixels: int) -> str | None:
    """Why decoding could take long, None if it cannot: at most `PASSES` decodings of `max_pixels` pixels."""
    header = _header(data)
    if isinstance(header, str):
        return header
    if header is None or header.pixels > max_pixels:
        return None  # the decoder refuses it
    limit = PASSES * (max_pixels + _SCAN_PIXELS)
    scans, work = _work(data, header, limit)
    if work > limit:
        return f"{scans:,} scans or more over {header.pixels:,} pixels"
    return next(filter(None, map(tags_problem, header.tags)), None)


def jpeg_work(data: bytes, limit: int) -> int:
    """Pixels that decoding goes over, each scan counted; more than `limit` once that is reached or nobody can tell."""
    header = _header(data)
    if isinstance(header, str):
        return limit + 1
    return 0 if header is None else _work(data, header, limit)[1]


def _work(data: bytes, header: _Header, limit: int) -> tuple[int, int]:
    """Scans that are decoded, and the pixels all of them go over."""
    factor = _ARITHMETIC if header.frame in _ARITHMETIC_FRAMES else 1
    each = factor * (header.pixels + _SCAN_PIXELS)
    if header.scan_is_whole and header.frame in _SEQUENTIAL:
        return 1, factor * header.pixels
    scans = data.count(
        b"\xff\xda", header.scan_at
    )  # no fewer than there are: previews and what follows the end count
    if scans * each > limit:
        scans = _scans(data, header.scan_at, limit // each + 1)
    return scans, scans * each


def _scans(data: bytes, at: int, enough: int) -> int:
    """Scans up to the end of the picture, found as libjpeg finds them; it looks no further than for `enough`."""
    scans = 0
    found = _MARKER.search(data, at)
    while found and scans < enough:
        marker = data[found.end() - 1]
        at = found.end()
        if marker == _END:
            break
        if marker == _SCAN:
            scans += 1
        if marker not in _BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        found = _MARKER.search(data, at)
    return scans


def _header(data: bytes) -> _Header | str | None:
    """What comes before the first scan; a text if reading that could take long, None if there is no scan."""
    at, junk, others = 2, 0, 0
    frame: tuple[int, int, int] | None = None
    exif: list[bytes] = []
    indices: list[bytes] = []
    for _ in range(_MAX_SEGMENTS):
        if data[at : at + 1] != b"\xff" or data[at + 1 : at + 2] in _NO_MARKER:
            found = _MARKER.search(data, at)
            junk += (found.start() if found else len(data)) - at
            if junk > _MAX_JUNK:
                return "a header with bytes that mean nothing"
            if found is None:
                return None
            at = found.start()
        marker = data[at + 1]
        at += 2
        length = int.from_bytes(data[at : at + 2], "big")
        others += marker not in _PLAIN
        if marker == _SCAN:
            if frame is None:
                return None
            kind, pixels, components = frame
            return _Header(
                kind, pixels, at - 2, data[at + 2 : at + 3] == bytes([components]), (*_joined(exif), *indices)
            )
        if marker in _FRAMES:
            if frame is not None:
                return "several frames"
            height, width = (int.from_bytes(data[at + 3 + i : at + 5 + i], "big") for i in (0, 2))
            frame = marker, width * height, data[at + 7] if at + 7 < len(data) else 0
        if marker == 0xE1 and data.startswith(b"Exif\0\0", at + 2):
            exif.append(data[at + 8 : at + length])
        if marker == 0xE2 and data.startswith(b"MPF\0", at + 2):
            indices.append(data[at + 6 : at + length])
        if others > _MAX_OTHERS or len(exif) > _MAX_EXIF:
            return "a header of too many segments"
        if marker not in _BARE:
            at += max(2, length)
    return "a header of too many segments"


def _joined(exif: list[bytes]) -> tuple[bytes, ...]:
    """EXIF may be cut into several segments; nothing where there is none."""
    return (b"".join(exif),) if exif else ()
