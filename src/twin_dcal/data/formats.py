"""Image formats by their bytes: magic numbers, sizes from headers, complete endings. No decoding here."""

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
)
VIDEOS_READ = "MP4, MOV, MKV, WebM and AVI"
FORMATS_READ = "JPEG, PNG, WebP, BMP, TIFF, PGM and PPM"
MAX_PIXELS = 100_000_000
"""Larger images are refused from their header, before any memory is taken (decompression bombs)."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # both byte orders, and the kind for files beyond 4 GB
_PNG = b"\x89PNG\r\n\x1a\n"
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
_OLD_MOV = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
_JPEG_SCAN = 0xDA


def image_format(head: bytes) -> str | None:
    """'jpeg', 'png', 'webp', 'bmp', 'tiff' or 'pnm' by the first bytes (16 are enough), None for anything else."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(_PNG):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM"):
        return "bmp"
    if head.startswith(_TIFF):
        return "tiff"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    return None


def is_heic(head: bytes) -> bool:
    """Whether these first bytes (12 are enough) are of a HEIC or HEIF picture."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC


def video_format(head: bytes) -> str | None:
    """FFmpeg's reader for a video with these first bytes (12 are enough): 'mov' (MP4 too), 'matroska' (WebM too) or
    'avi'; None for anything else. Files that are lists of other files, such as HLS and concat scripts, are none."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _HEIC | _AVIF else "mov"
    return "mov" if head[4:8] in _OLD_MOV else None


def pixel_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG, PNG or plain lossy WebP header; None if `head` is else or too short."""
    kind = image_format(head)
    if kind == "jpeg":
        return _jpeg_size(head)
    if kind == "png" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if kind == "webp" and head[12:16] == b"VP8 " and len(head) >= 30:
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def ends_complete(head: bytes, tail: bytes, num_bytes: int) -> bool:
    """Whether a file of `num_bytes` with these first and last bytes (16 and 64 do) has its end."""
    kind = image_format(head)
    if kind == "jpeg":
        return b"\xff\xd9" in tail
    if kind == "png":
        return b"IEND" in tail
    if kind == "webp":
        return int.from_bytes(head[4:8], "little") + 8 <= num_bytes
    return kind == "bmp" and int.from_bytes(head[2:6], "little") == num_bytes


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker == _JPEG_SCAN:
            return None
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
