"""Small files that are made to keep a decoder busy or to fill memory, and what comes of each.

    python benchmarks/hostile_images.py [--only WORD] [--keep FOLDER]

Each is decoded by `decode_pixels` in a process of its own, which is ended after 60 s of CPU time. Prints a table in
Markdown: the file, its size, what happened, CPU seconds and peak memory of decoding. Exit code 3 if one took longer
than PROMISED_SECONDS. It needs `fork` (Linux, macOS).
"""

import argparse
import io
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PROMISED_SECONDS = 4.0
DEADLINE_SECONDS = 60


# ---- JPEG ----


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_start(*more: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(more) + segment(0xDB, b"\0" + b"\1" * 64)


def frame(kind: int, side: int, components: int = 1) -> bytes:
    each = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    return segment(kind, struct.pack(">BHHB", 8, side, side, components) + each)


def coded(table: int, symbol: int) -> bytes:
    """A Huffman table with one symbol, whose code is a single 0."""
    return segment(0xC4, bytes([table, 1, *bytes(15), symbol]))


def scan(first: int, last: int) -> bytes:
    return segment(0xDA, bytes([1, 1, 0, first, last, 0]))


def scans(side: int = 7000, count: int = 3000) -> bytes:
    """A progressive picture that is gone over `count` times."""
    blocks = (-(-side // 8)) ** 2
    runs = -(-blocks // 16384)  # each code, 15 zeros, ends 16,384 blocks
    passing = scan(1, 63) + bytes(-(-15 * runs // 8))
    start = jpeg_start(frame(0xC2, side), coded(0x00, 0), coded(0x10, 0xE0))
    return start + scan(0, 0) + bytes(-(-blocks // 8)) + passing * count + b"\xff\xd9"


def empty_scans(side: int = 7000, count: int = 40_000) -> bytes:
    return jpeg_start(frame(0xC2, side), coded(0, 0), coded(0x10, 0)) + scan(1, 63) * count + b"\xff\xd9"


def sequential_scans(side: int = 7000, count: int = 3000) -> bytes:
    """Not progressive, and gone over as often: colours in scans of their own, again and again."""
    start = jpeg_start(frame(0xC0, side, 3), coded(0, 0), coded(0x10, 0))
    return start + (scan(0, 63) + bytes(1000)) * count + b"\xff\xd9"


def photo(kind: str = "JPEG", side: int = 600, **options: object) -> bytes:
    levels = np.random.default_rng(1).integers(0, 256, (side // 20, side // 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC).save(file, kind, **options)
    return file.getvalue()


def before_the_scan(more: bytes) -> bytes:
    data = photo()
    return data[:2] + more + data[2:]


def comments(count: int = 1_000_000) -> bytes:
    return before_the_scan(segment(0xFE, b"") * count)


def fill_bytes(count: int = 10_000_000) -> bytes:
    return before_the_scan(b"\xff" * count)


def quantization_tables(count: int = 300) -> bytes:
    return before_the_scan(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * count)


def tags(entries: int = 5000, order: str = ">", pad: int = 0) -> bytes:
    """EXIF data whose tags all say that they are the whole of it."""
    size = 8 + 2 + 12 * entries + 4 + pad
    start = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "LH", 8, entries)
    listed = (struct.pack(order + "HHLL", 0x9C9C + number, 7, size, 0) for number in range(entries))
    return start + b"".join(listed) + bytes(4 + pad)


def exif_tags() -> bytes:
    return before_the_scan(segment(0xE1, b"Exif\0\0" + tags(5000)))


def exif_of_many_segments(count: int = 300) -> bytes:
    whole = tags(20_000, pad=65_000 * count - 240_014)
    parts = (whole[at : at + 65_000] for at in range(0, len(whole), 65_000))
    return before_the_scan(b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts))


# ---- PNG ----


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int = 8, colours: int = 2, more: bytes = b"", interlaced: int = 0
) -> bytes:
    """One that unpacks to zeros: a thousandth of its size."""
    channels = {0: 1, 2: 3, 6: 4}[colours]
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * channels * depth + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height + height * interlaced)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_chunks(count: int = 1_000_000, kind: bytes = b"teSt") -> bytes:
    return png(100, 100, more=chunk(kind, b"") * count)


def png_empty_data(count: int = 1_000_000) -> bytes:
    return png_chunks(count, b"IDAT")


def png_profiles(count: int = 15_000, kind: bytes = b"iCCP") -> bytes:
    packed = zlib.compress(bytes(1_000_000), 9)
    return png(100, 100, more=chunk(kind, b"a\0\0" + packed) * count)


# ---- BMP, PGM and PPM ----


def bmp_runs(side: int = 7000) -> bytes:
    """A pixel and an end of line a row: Pillow fills up each with zeros, one by one, in Python."""
    rows = b"\1\7\0\0" * side
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


def ppm_own_maximum(side: int = 2500) -> bytes:
    return b"P6 %d %d 254\n" % (side, side) + bytes(3 * side * side)


def ppm_text(side: int = 1800) -> bytes:
    return b"P3 %d %d 255\n" % (side, side) + b"7 " * (3 * side * side)


def ppm_comments(count: int = 1_000_000) -> bytes:
    return b"P3 9 9 255\n" + b"#\n" * count + b"7 " * 243


def pgm_spaces(count: int = 20_000_000) -> bytes:
    return b"P5" + b" " * count + b"9 9 255\n" + bytes(81)


# ---- TIFF ----


def tiff(entries: dict[int, tuple[int, list[int] | bytes]], blob: bytes = b"") -> bytes:
    """A little-endian file: tag to (kind, values); `blob` begins at byte 8."""
    sizes, listed, after = {3: "H", 4: "I"}, b"", blob
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{sizes[kind]}", *values)
        where = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", 8 + len(after))
        after += packed if len(packed) > 4 else b""
        listed += struct.pack("<HHI", tag, kind, len(values)) + where
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(after))
        + after
        + struct.pack("<H", len(entries))
        + listed
        + bytes(4)
    )


def tiff_of(
    width: int, height: int, compression: int, samples: int = 1, **more: tuple[int, list[int]]
) -> dict:
    return {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8] * samples), 259: (3, [compression]),
        262: (3, [2 if samples == 3 else 1]), 277: (3, [samples]),
        **{int(tag[1:]): value for tag, value in more.items()},
    }  # fmt: skip


def tiff_overlapping(height: int = 60_000) -> bytes:
    """Each row a strip, and each strip the same megabyte."""
    blob = zlib.compress(bytes(1000), 9) + bytes(1_000_000)
    entries = tiff_of(1000, height, 8, t273=(4, [8] * height), t278=(4, [1]), t279=(4, [len(blob)] * height))
    return tiff(entries, blob)


def tiff_strips(count: int = 2_000_000) -> bytes:
    return tiff(tiff_of(1, count, 1, t273=(4, [8] * count), t278=(4, [1]), t279=(4, [1] * count)), b"\7\7")


def tiff_repeated(count: int = 60_000, side: int = 7000) -> bytes:
    """Uncompressed, and far more strips than the picture has: Pillow begins anew with each round."""
    half = side // 2
    entries = tiff_of(side, side, 1, t273=(4, [8, 9] * (count // 2)), t278=(4, [half]), t279=(4, [1] * count))
    return tiff(entries, bytes(half * side + 1))


def tiff_tile(side: int = 40_000) -> bytes:
    packer = zlib.compressobj(9)
    blob = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    entries = tiff_of(16, 16, 8, t322=(4, [side]), t323=(4, [side]), t324=(4, [8]), t325=(4, [len(blob)]))
    return tiff(entries, blob)


def tiff_scans(side: int = 7000, count: int = 99) -> bytes:
    blob = scans(side, count)
    return tiff(tiff_of(side, side, 7, t273=(4, [8]), t278=(4, [side]), t279=(4, [len(blob)])), blob)


# ---- others ----


def frames(kind: str = "GIF", count: int = 2000) -> bytes:
    file = io.BytesIO()
    pictures = [Image.new("RGB", (64, 64), (number % 256, number // 256, 0)) for number in range(count)]
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:])
    return file.getvalue()


def webp(width: int = 16_000, height: int = 6_000) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (9, 9, 9, 99)).save(file, "WEBP", lossless=True, method=0)
    return file.getvalue()


def heic(side: int = 7000) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (side, side))).save(file, quality=10)
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "an ordinary photo, 12 megapixels, JPEG": lambda: photo(side=3464, quality=90),
    "the same, progressive": lambda: photo(side=3464, quality=90, progressive=True),
    "the same, PNG": lambda: photo("PNG", side=3464),
    "JPEG, 7000 x 7000, 3,000 scans": scans,
    "JPEG, 7000 x 7000, 18 scans: what is let pass": lambda: scans(count=17),
    "JPEG, 10000 x 10000, 18 scans: what is let pass": lambda: scans(10_000, count=17),
    "JPEG, 7000 x 7000, 40,000 scans without data": empty_scans,
    "JPEG, 8 x 8, 2,000,000 scans": lambda: scans(8, 2_000_000),
    "JPEG, 3,000 scans, not progressive": sequential_scans,
    "JPEG, a million comments": comments,
    "JPEG, 10 MB of fill bytes": fill_bytes,
    "JPEG, 300,000 quantization tables": quantization_tables,
    "JPEG, 5,000 EXIF tags over the same bytes": exif_tags,
    "JPEG, EXIF data of 20 MB": exif_of_many_segments,
    "JPEG, cut off": lambda: photo(side=3464)[:-200_000],
    "PNG, 30000 x 30000, one bit": lambda: png(30_000, 30_000, 1, 0),
    "PNG, 7000 x 7000": lambda: png(7000, 7000),
    "PNG, 7000 x 7000, transparent, 16 bits, interlaced": lambda: png(7000, 7000, 16, 6, interlaced=1),
    "PNG, 10000 x 10000, transparent, 16 bits": lambda: png(10_000, 10_000, 16, 6),
    "PNG, a million chunks": png_chunks,
    "PNG, 1,900 chunks and 2,000 empty ones of data: what is let pass": lambda: png(
        100, 100, more=chunk(b"teSt", b"") * 1900 + chunk(b"IDAT", b"") * 2000
    ),
    "PNG, a million empty data chunks": png_empty_data,
    "PNG, 15,000 colour profiles": png_profiles,
    "PNG, 60 colour profiles: what is let pass": lambda: png_profiles(60),
    "PNG, 15,000 texts": lambda: png_profiles(kind=b"zTXt"),
    "BMP, run lengths, 7000 x 7000": bmp_runs,
    "BMP, run lengths, 1400 x 1400: what is let pass": lambda: bmp_runs(1400),
    "PPM, 2500 x 2500, values up to 254": ppm_own_maximum,
    "PPM, 800 x 800, values up to 254: what is let pass": lambda: ppm_own_maximum(800),
    "PPM as text, 1800 x 1800": ppm_text,
    "PPM as text, 800 x 800: what is let pass": lambda: ppm_text(800),
    "PPM as text, a million comments": ppm_comments,
    "PGM, 20 MB of spaces": pgm_spaces,
    "TIFF, 60,000 strips over the same bytes": tiff_overlapping,
    "TIFF, 2,000,000 strips": tiff_strips,
    "TIFF, 65,000 strips: what is let pass": lambda: tiff_strips(65_000),
    "TIFF, the picture 30,000 times": tiff_repeated,
    "TIFF, 16 x 16 in a tile of 40000 x 40000": tiff_tile,
    "TIFF, a JPEG of 100 scans": tiff_scans,
    "TIFF, a JPEG of 18 scans: what is let pass": lambda: tiff_scans(count=17),
    "TIFF, 5,000 tags over the same bytes": lambda: tags(5000, "<"),
    "GIF, 2,000 frames": frames,
    "WebP, 16000 x 6000, transparent": webp,
    "WebP, 500 frames": lambda: frames("WEBP", 500),
    "HEIC, 7000 x 7000": heic,
}


def decoded(data: bytes) -> tuple[str, float, int]:
    """In a process of its own: what happened, CPU seconds, and peak memory in MB beyond what it began with."""
    from twin_dcal.data.decode import decode_pixels
    from twin_dcal.errors import ImageError

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (DEADLINE_SECONDS, DEADLINE_SECONDS + 1))
        try:
            height, width, _ = decode_pixels(data, "file").shape
            told = f"read, {width} x {height}"
        except ImageError as error:
            told = str(error).removeprefix("file: ").partition(". ")[0]
        except BaseException as error:
            told = f"NOT CAUGHT: {error!r}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    usage = os.wait4(child, 0)[2]
    said = os.read(reading, 1000) or b"ENDED"
    os.close(reading)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return said.decode(), usage.ru_utime + usage.ru_stime, max(0, usage.ru_maxrss - own) // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="WORD", help="files whose name has it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files there")
    options = parser.parse_args()
    print("| file | size | what happened | CPU s | memory |\n|---|---|---|---|---|", flush=True)
    slowest = 0.0
    for number, (name, make) in enumerate(FILES.items()):
        if options.only not in name:
            continue
        data = make()
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number:02}_{name.partition(',')[0].replace(' ', '_')}.bin").write_bytes(data)
        told, cpu, memory = decoded(data)
        slowest = max(slowest, cpu)
        print(f"| {name} | {len(data) / 1e6:.2f} MB | {told} | {cpu:.2f} | {memory} MB |", flush=True)
        del data
    return 3 if slowest > PROMISED_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
