"""No file keeps its decoder for long: what would is refused from its structure, what ordinary files do is let pass."""

import contextlib
import io
import struct
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from twin_dcal.data import heic
from twin_dcal.data.cost import refuse_costly
from twin_dcal.data.dataset import FaceDataset
from twin_dcal.data.decode import damage, decode_pixels
from twin_dcal.data.formats import MAX_PIXELS
from twin_dcal.data.transforms import eval_transform
from twin_dcal.errors import CostlyImageError, ImageError
from twin_dcal.inference.images import read_pixels

_SPEC = spec_from_file_location(
    "hostile_images", Path(__file__).parents[2] / "benchmarks" / "hostile_images.py"
)
made = module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)

BOMB = made.scans(1000, 3000)
HOSTILE = {
    "progressive": (lambda: made.scans(2000, 3000), "scans or more over 4,000,000 pixels"),
    "progressive, without data": (lambda: made.empty_scans(7000, 40_000), "scans or more over 49,000,000"),
    "scans of a few pixels": (lambda: made.scans(8, 2_000_000), "scans or more over 64"),
    "sequential": (lambda: made.sequential_scans(2000, 3000), "scans or more over 4,000,000"),
    "arithmetic coding": (
        lambda: made.jpeg_start(made.frame(0xCA, 7000)) + made.scan(1, 63) * 6,
        "scans or more over 49,000,000",
    ),
    "comments": (lambda: made.comments(100_000), "too many segments"),
    "fill bytes": (lambda: made.fill_bytes(200_000), "bytes that mean nothing"),
    "quantization tables": (made.quantization_tables, "too many segments"),
    "second frame": (lambda: made.jpeg_start(*2 * [made.frame(0xC2, 9)]) + made.scan(0, 0), "several frames"),
    "EXIF tags": (made.exif_tags, "4,096 tags"),
    "EXIF tags over each other": (
        lambda: made.before_the_scan(made.segment(0xE1, b"Exif\0\0" + made.tags(400, pad=40_000))),
        "longer than the file",
    ),
    "index of further pictures": (
        lambda: made.before_the_scan(made.segment(0xE2, b"MPF\0" + made.tags(400, pad=40_000))),
        "longer than the file",
    ),
    "EXIF segments": (made.exif_of_many_segments, "too many segments"),
    "EXIF in a PNG": (lambda: made.png(9, 9, more=made.chunk(b"eXIf", made.tags())), "EXIF data would take too long"),
    "PNG chunks": (lambda: made.png_chunks(100_000), "too many chunks"),
    "PNG data chunks": (lambda: made.png_empty_data(100_000), "too many chunks"),
    "PNG profiles": (lambda: made.png_profiles(2000), "too many chunks"),
    "BMP": (lambda: made.bmp_runs(2000), "run lengths"),
    "PPM with a maximum": (lambda: made.ppm_own_maximum(1000), "values up to 254"),
    "PPM as text": (lambda: made.ppm_text(1000), "values as text"),
    "PPM comments": (lambda: made.ppm_comments(10_000), "more than 100 comments"),
    "PPM with a comment in its size": (
        lambda: b"P3 10#\n00 1000 255\n" + b"7 " * 3_000_000,
        "no size in its first",
    ),
    "PGM spaces": (lambda: made.pgm_spaces(100_000), "no size in its first"),
    "TIFF strips over each other": (lambda: made.tiff_overlapping(2000), "lie over each other"),
    "TIFF strips": (lambda: made.tiff_strips(70_000), "70,000 pieces"),
    "TIFF strips again": (lambda: made.tiff_repeated(1000, 1000), "1,000 pieces, of which 2 are needed"),
    "TIFF tile": (lambda: made.tiff_tile(10_000), "pieces of 100,000,000 pixels"),
    "TIFF with a progressive JPEG": (made.tiff_scans, "JPEG pieces"),
    "TIFF tags": (lambda: made.tags(5000, "<"), "4,096 tags"),
    "TIFF of two readers": (lambda: b"MM\0+" + bytes(100), "big-endian"),
    "TIFF of another compression": (lambda: made.tiff(made.tiff_of(9, 9, 34925)), "compression 34925"),
    "TIFF tags given twice": (lambda: twice(made.tiff(made.tiff_of(9, 9, 8))), "given twice"),
}  # fmt: skip


def twice(data):
    """The same with its first tag written over the second."""
    at = int.from_bytes(data[4:8], "little") + 2
    return data[: at + 12] + data[at : at + 12] + data[at + 24 :]


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_at_once_and_in_one_line(name):
    make, reason = HOSTILE[name]
    data = make()
    began = time.process_time()
    with pytest.raises(CostlyImageError, match=reason) as caught:
        decode_pixels(data, "photo")
    assert time.process_time() - began < 1
    assert str(caught.value).startswith("photo: ")
    assert "\n" not in str(caught.value)


LET_PASS = [name for name in made.FILES if name.endswith("what is let pass")]
LARGE = ("JPEG, 10000", "TIFF, a JPEG")  # up to a gigabyte of memory: left to the benchmark


@pytest.mark.parametrize("name", [name for name in LET_PASS if not name.startswith(LARGE)])
def test_the_most_that_passes_is_quick(name):
    data = made.FILES[name]()
    began = time.process_time()
    decode_pixels(data, "photo")
    assert time.process_time() - began < made.PROMISED_SECONDS


def test_the_limit_is_that_of_the_caller():
    data = made.scans(2000, 100)  # 400 million pixels
    assert decode_pixels(data, "photo").shape == (2000, 2000, 3)
    with pytest.raises(CostlyImageError, match="scans or more"):
        decode_pixels(data, "photo", MAX_PIXELS // 5)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_ordinary_progressive_photos_pass_at_any_size(encode, draw, mode):
    data = bytearray(encode(draw(64, 64).convert(mode), "JPEG", progressive=True))
    at = data.index(b"\xff\xc2") + 5
    data[at : at + 4] = struct.pack(">HH", 10_000, 10_000)
    refuse_costly(bytes(data), "photo", MAX_PIXELS)
    refuse_costly(made.photo(side=1200, progressive=True), "photo", 1200 * 1200)


def test_previews_and_films_beside_a_photo_are_no_scans(encode, draw):
    picture = draw(200, 200)
    data = encode(picture, "JPEG", quality=95, progressive=True)
    preview = made.segment(0xE1, b"previews\0" + b"\xff\xda\0\x0c" * 12_000)
    film = b"\xff\xda\0\x0c" * 100_000
    told = data[:2] + preview * 30 + data[2:] + film
    assert told.count(b"\xff\xda") > 400_000
    # So few pixels are allowed that each of these would count.
    shown = decode_pixels(told, "photo", 200 * 200)
    assert np.array_equal(shown, decode_pixels(data, "photo"))


def test_metadata_of_ordinary_size_passes():
    exif = made.segment(0xE1, b"Exif\0\0" + made.tags(1))
    profile = made.segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))
    extended = made.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 300
    assert decode_pixels(made.before_the_scan(exif + profile + extended), "photo").shape == (600, 600, 3)
    texts = made.chunk(b"tEXt", b"a\0b") * 500
    assert decode_pixels(made.png(30, 20, more=texts), "photo").shape == (20, 30, 3)


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"]
)
def test_ordinary_tiff_files_pass(encode, draw, compression):
    picture = draw(300, 200).convert("1" if compression == "group4" else "RGB")
    for more in ({}, {"tiffinfo": {278: 16}}, {"save_all": True, "append_images": [picture] * 3}):
        data = encode(picture, "TIFF", compression=compression, **more)
        assert decode_pixels(data, "photo").shape == (200, 300, 3)


# ---- wherever pictures are read ----


def test_a_bomb_in_a_data_set_is_replaced_and_named(tmp_path, jpeg):
    for name, data in {"good.jpg": jpeg, "bomb.jpg": BOMB}.items():
        (tmp_path / name).write_bytes(data)
    assert damage(tmp_path / "bomb.jpg", thorough=True) == "would take too long to decode"
    paths = [tmp_path / "bomb.jpg", tmp_path / "good.jpg"]
    sample = FaceDataset.of_paths(paths, eval_transform(32), unreadable="replace")[0]
    assert sample["index"] == 1
    assert sample["fault"].startswith(f"{paths[0]}: would take too long to decode (")


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "pillow"])
def test_the_engine_is_not_kept_however_it_is_given_one(tmp_path, kind):
    path = tmp_path / "bomb.jpg"
    path.write_bytes(BOMB)
    with path.open("rb") as file, Image.open(path) as image:
        ways = {"path": path, "text": str(path), "bytes": BOMB, "file": file, "pillow": image}
        with pytest.raises(CostlyImageError, match="too long to decode"):
            read_pixels(ways[kind])


def test_a_picture_that_pillow_opened_lazily_is_still_read(tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg)
    expected = decode_pixels(jpeg, "a")
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(read_pixels(image), expected)
        assert np.array_equal(read_pixels(image), expected), "now loaded"


# ---- HEIC: a process with a deadline ----


@pytest.fixture
def phone_picture(draw):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra 'heic'")

    def encoded(mode):
        file = io.BytesIO()
        pillow_heif.from_pillow(draw(64, 48).convert(mode)).save(file, quality=-1)
        return file.getvalue()

    return encoded


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_is_read(phone_picture, draw, mode):
    shown = decode_pixels(phone_picture(mode), "phone")
    expected = np.asarray(draw(64, 48).convert(mode).convert("RGB"))
    assert np.abs(shown.astype(int) - expected).mean() < 8
    shown[0] = 0  # an array of its own, that may be written


def test_heic_that_takes_long_is_ended(phone_picture, monkeypatch):
    hang = (
        "import pillow_heif\n"
        "def hang(*_, **__):\n"
        "    while True: pass\n"
        "pillow_heif.open_heif = hang\n"
        f"{heic._CHILD}"
    )
    monkeypatch.setattr(heic, "_CHILD", hang)
    began = time.monotonic()
    with pytest.raises(CostlyImageError, match=r"^phone: would take too long to decode \(more than 1 s\)"):
        decode_pixels(phone_picture("RGB"), "phone", MAX_PIXELS // 10)
    assert time.monotonic() - began < 20


def test_heic_that_is_damaged_or_too_large_is_told_in_one_line(phone_picture):
    whole = phone_picture("RGB")
    with pytest.raises(ImageError, match=r"^phone: truncated or damaged \(.*\)\. Restore the file\.$"):
        decode_pixels(whole[: len(whole) // 2], "phone")
    with pytest.raises(ImageError, match="^phone: 64x48 is more than 3,000 pixels"):
        decode_pixels(whole, "phone", 3000)


# ---- whatever comes ----

STARTS = [
    b"\xff\xd8\xff", made.jpeg_start(made.frame(0xC2, 99)), b"\x89PNG\r\n\x1a\n", b"BM", b"P3 ", b"P6 3 3 ",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0", made.tiff(made.tiff_of(9, 9, 7)),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=200), st.integers(0, 400), st.binary(max_size=6))
def test_looking_at_any_bytes_gives_nothing_but_its_own_error(start, noise, at, changed):
    data = bytearray(start + noise)
    data[at : at + len(changed)] = changed
    with contextlib.suppress(CostlyImageError):
        refuse_costly(bytes(data), "photo", MAX_PIXELS)
    with contextlib.suppress(ImageError):
        decode_pixels(bytes(data), "photo")


def test_the_benchmark_prints_its_table(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hostile_images.py", "--only", "comments"])
    assert made.main() == 0
    assert capsys.readouterr().out.count("would take too long to decode") == 2
