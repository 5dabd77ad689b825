"""Records of a zip file in memory, as torch writes them: stored as they are, with a checksum. Nothing is copied.

The standard library's reader inflates what is compressed and makes an object for whatever a table of contents claims;
here every size is checked against the bytes that are there first.
"""

import struct
import zlib
from collections.abc import Iterator

MAX_RECORDS = 100_000

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_ABSENT = 0xFFFFFFFF
"""Stands where a number needs 64 bits and lies in a further field."""


class ArchiveError(ValueError):
    """Not a zip file, a damaged one, or one with records that are not stored as they are."""


def records(data: bytearray) -> dict[str, memoryview]:
    """Name to content of every record, each checksum verified. ArchiveError says what is wrong."""
    found: dict[str, memoryview] = {}
    view = memoryview(data)
    try:
        for name, start, size, checksum in _entries(view, data):
            if name in found:
                raise ArchiveError(f"record {name!r:.80} is there twice")
            found[name] = view[start : start + size]
            if zlib.crc32(found[name]) != checksum:
                raise ArchiveError(f"checksum of {name!r:.80} is wrong")
    except (struct.error, UnicodeDecodeError) as error:
        raise ArchiveError(f"its table of contents is damaged ({error})") from error
    return found


def _entries(view: memoryview, data: bytearray) -> Iterator[tuple[str, int, int, int]]:
    """Name, place, size and checksum of each record, none of which lies outside the file."""
    at, end, count = _table(view, data)
    for _ in range(count):
        if at + 46 > end or view[at : at + 4] != _ENTRY:
            raise ArchiveError("its table of contents is damaged")
        flags, method = struct.unpack_from("<HH", view, at + 8)
        checksum, packed, size = struct.unpack_from("<III", view, at + 16)
        lengths = struct.unpack_from("<HHH", view, at + 28)
        (place,) = struct.unpack_from("<I", view, at + 42)
        name = bytes(view[at + 46 : at + 46 + lengths[0]]).decode()
        extra = view[at + 46 + lengths[0] : at + 46 + lengths[0] + lengths[1]]
        at += 46 + sum(lengths)
        size, packed, place = _wide(extra, (size, packed, place))
        if method != 0 or flags & 1 or packed != size:
            raise ArchiveError(f"record {name!r:.80} is compressed or encrypted, which no checkpoint's is")
        start = _start(view, place, name)
        if start + size > len(view):
            raise ArchiveError(f"record {name!r:.80} is cut off")
        yield name, start, size, checksum
    if at != end:
        raise ArchiveError("its table of contents is damaged")


def _table(view: memoryview, data: bytearray) -> tuple[int, int, int]:
    """Where the table of contents begins and ends, and how many entries it has."""
    end = data.rfind(_END, max(0, len(data) - 22 - 0xFFFF))
    if not data.startswith(_LOCAL) or end < 0 or end + 22 > len(data):
        raise ArchiveError("no file of torch, or its end is missing")
    count, size, start = struct.unpack_from("<HII", view, end + 10)
    if end >= 20 and view[end - 20 : end - 16] == _LOCATOR64:
        (wide,) = struct.unpack_from("<Q", view, end - 12)
        if wide + 56 > end - 20 or view[wide : wide + 4] != _END64:
            raise ArchiveError("its table of contents is damaged")
        count, size, start = struct.unpack_from("<QQQ", view, wide + 32)
        end = wide
    if count > MAX_RECORDS or start + size != end:
        raise ArchiveError("its table of contents is damaged")
    return start, end, count


def _wide(extra: memoryview, numbers: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and place, with those that need 64 bits taken from the further field 1."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            size, packed, place = (next(wide, number) if number == _ABSENT else number for number in numbers)
            return size, packed, place
        at += 4 + length
    return numbers


def _start(view: memoryview, place: int, name: str) -> int:
    """Where a record's content begins: after its own header, which must name it too."""
    if place + 30 > len(view) or view[place : place + 4] != _LOCAL:
        raise ArchiveError(f"record {name!r:.80} has no header")
    (method,) = struct.unpack_from("<H", view, place + 8)
    name_length, extra_length = map(int, struct.unpack_from("<HH", view, place + 26))
    if method != 0 or bytes(view[place + 30 : place + 30 + name_length]) != name.encode():
        raise ArchiveError(f"record {name!r:.80} is called otherwise by its own header")
    return place + 30 + name_length + extra_length
