"""Damaged TIFF files are refused by name; neither libtiff nor Pillow says a word of its own about them."""

import contextlib
import io
import random

import numpy as np
import pytest
from PIL import Image, features

from twin_dcal.data import libtiff
from twin_dcal.data.decode import damage, decode_pixels
from twin_dcal.errors import ImageError

COMPRESSIONS = ["tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd", "group3", "group4"]

pytestmark = pytest.mark.skipif(not features.check("libtiff"), reason="needs a Pillow with libtiff")


def pixels():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def tiff(compression):
    image = Image.fromarray(pixels()).convert("1" if compression.startswith("group") else "RGB")
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    return file.getvalue()


def data_of(content):
    """Where the compressed data lie."""
    with Image.open(io.BytesIO(content)) as image:
        return image.tag_v2[273][0], image.tag_v2[279][0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_sound_files_are_read_in_silence(compression, capfd, caplog):
    shape = decode_pixels(tiff(compression), "a.tif").shape
    assert (shape, capfd.readouterr(), caplog.text) == ((64, 64, 3), ("", ""), "")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "group3", "group4"])
def test_data_that_cannot_be_decoded_are_refused_by_name(compression, tmp_path, capfd, caplog):
    """Pillow gives a picture for some of them, of which libtiff says on stderr that it is none."""
    content = bytearray(tiff(compression))
    start, size = data_of(content)
    content[start + size // 4 : start + size // 4 + 24] = b"\x00\xff\x55" * 8
    with pytest.raises(
        ImageError, match=r"^a\.tif: truncated or damaged \([^()]{8,}\)\. Restore the file\.$"
    ):
        decode_pixels(bytes(content), "a.tif")
    (tmp_path / "a.tif").write_bytes(content)
    assert damage(tmp_path / "a.tif", thorough=True) == "truncated or damaged"
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")


def test_too_many_samples_are_told_once(capfd, caplog):
    content = bytearray(tiff("packbits"))
    entry = content.index(bytes([0x15, 0x01, 3, 0, 1, 0, 0, 0]))  # SamplesPerPixel, a short
    content[entry + 8 : entry + 10] = (4000).to_bytes(2, "little")
    with pytest.raises(ImageError, match=r"^a\.tif: ") as told:
        decode_pixels(bytes(content), "a.tif")
    assert "\n" not in str(told.value)
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_reaches_the_terminal_whatever_is_damaged(compression, capfd, caplog):
    sound, refused = tiff(compression), 0
    for seed in range(60):
        rng, content = random.Random(seed), bytearray(sound)
        if seed % 3 == 0:
            content = content[: rng.randrange(len(content))]
        elif seed % 3 == 1:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            place = rng.randrange(len(content) - 8)
            content[place : place + 8] = rng.randbytes(8)
        with contextlib.suppress(ImageError):
            decode_pixels(bytes(content), "a.tif")
            refused -= 1
        refused += 1
    assert refused > 10
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")


def test_odd_descriptions_spoil_no_pixels():
    with libtiff.heard() as said:
        listener = libtiff._listener()
        listener(b"TIFFFetchNormalTag", b"odd", None)
        listener(b"_TIFFVSetField", b"odd", None)
        assert said == []
        listener(b"LZWDecode", b"not enough data", None)
        assert said == ["LZWDecode"]
    with libtiff.heard() as said:
        assert said == []
