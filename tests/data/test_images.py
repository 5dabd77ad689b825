"""Every kind of image file comes out upright, in 8-bit RGB, or is refused in one line."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from twin_dcal.data.decode import damage
from twin_dcal.data.formats import MAX_PIXELS, image_format, pixel_size
from twin_dcal.data.images import read_image
from twin_dcal.data.listing import list_folder
from twin_dcal.errors import ImageError
from twin_dcal.extraction.listing import images_below


def pixels(image):
    """(H, W, 3) numpy of what `read_image` returned, after checking its form."""
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert image.permute(1, 2, 0).is_contiguous()
    return image.permute(1, 2, 0).numpy()


def close(image, expected, tolerance=4):
    difference = np.abs(pixels(image).astype(int) - np.asarray(expected).astype(int))
    assert difference.mean() <= tolerance, difference.mean()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_are_exact(encode, draw, kind):
    close(read_image(encode(draw(), kind)), draw(), tolerance=0)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("WEBP", "L")]
)
def test_lossy_formats_and_colour_modes(tmp_path, encode, draw, kind, mode):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(draw().convert(mode), kind, quality=95))
    close(read_image(path), draw().convert(mode).convert("RGB"))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_scanners_tiff_files(encode, draw, compression):
    close(read_image(encode(draw(), "TIFF", compression=compression)), draw())


def test_a_tiff_file_is_turned_upright_once_and_its_first_picture_is_taken(encode, draw):
    upright = draw()
    told = Image.Exif()
    told[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    data = encode(turned, "TIFF", exif=told, save_all=True, append_images=[Image.new("RGB", turned.size)])
    close(read_image(data), upright, tolerance=0)


def test_grey_tiff_files_of_16_bits_are_scaled_and_damaged_ones_refused(encode):
    levels = np.array([[0, 257, 65535]], np.uint16)
    data = encode(Image.fromarray(levels), "TIFF")
    assert pixels(read_image(data))[0, :, 0].tolist() == [0, 1, 255]
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(data[:-8])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("b.JFIF", "JPEG"), ("c.ppm", "PPM"), ("d.tif", "TIFF"), ("e.tiff", "TIFF")],
)
def test_a_folder_finds_them(tmp_path, encode, draw, name, kind):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / name).write_bytes(encode(draw(), kind))
    assert damage(tmp_path / "anna" / name) is None
    assert [path.name for path in list_folder(tmp_path).images["anna"]] == [name]
    assert [Path(path).name for path in images_below(tmp_path)] == [name]


def test_bytes_path_and_text_give_the_same(tmp_path, jpeg):
    path = tmp_path / "with blanks ü.jpg"
    path.write_bytes(jpeg)
    assert torch.equal(read_image(path), read_image(jpeg))
    assert torch.equal(read_image(str(path)), read_image(jpeg))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a file of many zeros"])
def test_what_never_ends_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.jpg"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**31)
    with pytest.raises(ImageError, match=r"a pipe or a device|larger than any image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert damage(path)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_composited_on_white(encode, kind):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (4, 4, 8, 8))
    shown = pixels(read_image(encode(image, kind, lossless=True)))
    assert shown[0, 0].tolist() == [200, 0, 0]
    assert shown[0, 7].tolist() == [255, 255, 255]
    assert shown[7, 7].tolist() == [127, 127, 127]


def test_grey_with_alpha_palette_and_colour_key(encode):
    grey = Image.new("LA", (4, 4), (90, 255))
    grey.putpixel((0, 0), (90, 0))
    assert pixels(read_image(encode(grey, "PNG")))[0, :2].tolist() == [[255] * 3, [90] * 3]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    assert pixels(read_image(encode(palette, "PNG")))[0, :2].tolist() == [[10, 20, 30], [40, 50, 60]]
    keyed = encode(palette, "PNG", transparency=b"\x00\xff")
    assert pixels(read_image(keyed))[0, :2].tolist() == [[255] * 3, [40, 50, 60]]
    colour_key = encode(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert pixels(read_image(colour_key))[0, 0].tolist() == [255] * 3
    assert pixels(read_image(encode(Image.new("1", (4, 4), 1), "PNG")))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(encode, kind):
    levels = np.array([[0, 128, 129, 257], [32768, 65278, 65407, 65535]], dtype=np.uint16)
    # Pillow writes such a PGM file from 11 on.
    pgm = b"P5 4 2 65535\n" + levels.astype(">u2").tobytes()
    shown = pixels(read_image(pgm if kind == "PPM" else encode(Image.fromarray(levels), kind)))
    assert shown[..., 0].tolist() == [[0, 0, 1, 1], [128, 254, 255, 255]]
    assert (shown == shown[..., :1]).all()


def test_16_bit_colour_png(draw):
    levels = np.asarray(draw(6, 4)).astype(np.uint16) * 257
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)
    close(read_image(png(header, zlib.compress(rows))), draw(6, 4), tolerance=0)


def test_pgm_with_a_maximum_of_its_own():
    assert pixels(read_image(b"P5 2 1 100\n" + bytes([50, 100])))[0, :, 0].tolist() == [128, 255]
    assert pixels(read_image(b"P2\n# ascii\n2 1\n255\n7 9\n"))[0, :, 0].tolist() == [7, 9]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(encode, draw, kind, orientation):
    upright = draw(40, 24, seed=3)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    close(read_image(encode(stored, kind, quality=95, exif=exif)), upright)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_senseless_orientation_is_ignored(encode, draw, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    close(read_image(encode(draw(), "PNG", exif=exif)), draw(), tolerance=0)


def test_broken_exif_does_not_hide_the_pixels(jpeg):
    exif = b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff garbage"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert torch.equal(read_image(jpeg[:2] + segment + jpeg[2:]), read_image(jpeg))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, encode, draw, kind, share):
    whole = encode(draw(120, 100), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"cut\.jpg: truncated or damaged|cut\.jpg: not an image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert damage(path) in ("truncated or damaged", "not an image")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, I am text", "not an image"),
        (b"GIF89a" + bytes(40), "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff", "truncated or damaged|not an image"),
    ],
)
def test_files_that_only_have_the_name_of_an_image(tmp_path, content, reason):
    path = tmp_path / "renamed.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"renamed\.jpg: ({reason})"):
        read_image(path)
    with pytest.raises(ImageError, match=f"^image: ({reason})"):
        read_image(content)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="a folder, not an image file"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("nul\x00.jpg")


@pytest.mark.parametrize("side", [9_900, 10_001, 60_000])
def test_decompression_bombs_are_refused_from_the_header(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(png(header, zlib.compress(bytes(100))))
    reason = "more than 100,000,000 pixels" if side**2 > MAX_PIXELS else "truncated or damaged"
    with pytest.raises(ImageError, match=reason):
        read_image(path)
    assert damage(path) == (reason if side**2 > MAX_PIXELS else None), (
        "a whole PNG is not decoded to check it"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_size_from_the_header(encode, draw, kind):
    assert pixel_size(encode(draw(33, 21), kind)) == (33, 21)
    assert pixel_size(encode(draw(33, 21), kind)[:12]) is None


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"P5 "])
)
def test_hostile_bytes_give_an_image_or_one_error(noise, start):
    data = start + noise
    image_format(data)
    pixel_size(data)
    assert_image_or_one_line(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255))
def test_flipped_bytes_give_an_image_or_one_error(encode, draw, at, value):
    data = bytearray(encode(draw(), "JPEG"))
    data[at % len(data)] = value
    assert_image_or_one_line(bytes(data))


def assert_image_or_one_line(data):
    try:
        image = read_image(data)
    except ImageError as error:
        message = str(error)
    else:
        pixels(image)
        return
    assert message.startswith("image: ")
    assert "\n" not in message


def png(header: bytes, compressed: bytes) -> bytes:
    """A PNG from its header fields and its compressed rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("seed", range(8))
def test_a_png_damaged_in_the_middle_is_refused_not_blackened(tmp_path, encode, seed):
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = bytearray(encode(noise, "PNG"))
    at = int(rng.integers(200, len(data) - 400))
    data[at : at + 60] = rng.bytes(60)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_no_known_range_are_refused(tmp_path, kind):
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(1024, dtype=kind).reshape(32, 32)).save(path)
    with pytest.raises(ImageError, match="no known range"):
        read_image(path)


def test_a_tiff_of_16_bits_is_read(tmp_path):
    levels = np.array([[0, 128], [32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    assert pixels(read_image(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 0], [128, 255]]
