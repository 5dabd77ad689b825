"""How long a TIFF file can keep its decoder, told from its tags.

libtiff and Pillow go from piece to piece (strips or tiles) and trust what the tags say of them: pieces may lie over
each other, be larger than the picture, or be JPEG files of their own.
"""

from .cost_jpeg import PASSES, jpeg_work
from .cost_tags import Tags

_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANES = 256, 257, 259, 277, 284
_STRIPS, _ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_LAYOUT = frozenset({
    _WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANES, _STRIPS, _ROWS, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES,
    _TILE_BYTES,
})  # fmt: skip
_RAW, _JPEG = 1, 7
_COMPRESSIONS = frozenset({_RAW, 2, 3, 4, 5, _JPEG, 8, 32771, 32773, 32946, 50000})
"""CCITT, LZW, JPEG, deflate, PackBits, Zstandard. Others are rare, and nobody has looked at what they can cost."""
_MAX_PIECES = 1 << 16
_SMALL = 1 << 25  # pixels; a small picture may lie in one large piece


def tiff_problem(data: bytes, max_pixels: int) -> str | None:
    """Why decoding could take long, None if it cannot: pieces that together are a few pictures of `max_pixels`."""
    if data[:4] == b"MM\0+":
        return "a big-endian file of the kind beyond 4 GB"  # Pillow and libtiff take it for different files
    tags = Tags(data)
    if tags.problem:
        return tags.problem
    if tags.repeated & _LAYOUT:
        return "tags that are given twice"
    if any(tag in tags.tags and not len(tags.numbers(tag)) for tag in _LAYOUT):
        return "tags that are no numbers"
    compression = tags.number(_COMPRESSION, _RAW)
    if compression not in _COMPRESSIONS:
        return f"compression {compression}"
    width, height = tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0)
    if _TILES in tags.tags and _STRIPS in tags.tags:
        return "strips and tiles"
    if _TILES in tags.tags:
        names, across, down = (_TILES, _TILE_BYTES), tags.number(_TILE_WIDTH, 0), tags.number(_TILE_HEIGHT, 0)
    else:
        names, across, down = (_STRIPS, _STRIP_BYTES), width, min(height, tags.number(_ROWS, height))
    if min(width, height, across, down) < 1:
        return None  # damaged, and the decoder says so
    planes = tags.number(_SAMPLES, 1) if tags.number(_PLANES, 1) == 2 else 1
    needed = -(-width // across) * -(-height // down) * planes
    pieces = tags.tags[names[0]].count if names[0] in tags.tags else 0
    if max(pieces, needed) > _MAX_PIECES:
        return f"{max(pieces, needed):,} pieces"
    if pieces > needed:
        return f"{pieces:,} pieces, of which {needed:,} are needed"
    covered = needed // planes * across * down
    if covered > max(4 * width * height, _SMALL):
        return f"pieces of {covered:,} pixels together for a picture of {width * height:,}"
    return None if compression == _RAW else _compressed_problem(data, tags, names, compression, max_pixels)


def _compressed_problem(
    data: bytes, tags: Tags, names: tuple[int, int], compression: int, max_pixels: int
) -> str | None:
    starts, sizes = (tags.numbers(name) for name in names)
    if len(starts) != len(sizes):
        return "pieces without a size"
    if sizes.astype(float).sum() > 2 * len(data) + 65536:
        return "pieces that lie over each other"
    if compression != _JPEG:
        return None
    limit, work = PASSES * max_pixels, 0
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        work += jpeg_work(data[start : start + size], limit)
        if work > limit:
            return "JPEG pieces of too many scans or pixels"
    return None
